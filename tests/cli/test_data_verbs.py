"""``benchbench data`` and ``when: available``, as a user meets them."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from helpers.own_data import write_own
from helpers.suites import TINY

from benchbench.cli.main import main
from benchbench.core import files as places
from benchbench.core.files import cache_folder
from benchbench.results.tables import read_results

OPEN = "maze2d-open-v0"


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


class Terminal(io.StringIO):
    def isatty(self):
        return True


def own_suite(tmp_path, *envs, **more):
    write_own(tmp_path / "mine.npz")
    own = {"id": "my-robot", "data": {"source": "file", "path": str(tmp_path / "mine.npz")}}
    suite = TINY | {"name": "own", "variants": ["before", "after"], "envs": [own, *envs]} | more
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def test_an_own_data_set_is_trained_and_diagnosed_and_the_report_says_it_is_not_scored(
    tiny_data, tmp_path
):
    lost = {
        "id": "my-other-robot",
        "data": {"source": "file", "path": "gone.npz"},
        "when": "available",
    }
    suite = own_suite(tmp_path, lost)
    code, told = run("plan", suite, "--results", tmp_path, "--device", "cpu")
    assert code == 0, told
    assert "left out my-other-robot: gone.npz: the data file" in told
    code, told = run("run", suite, "--results", tmp_path, "--device", "cpu", "--jobs", 1)
    assert code == 0, told
    assert "left out my-other-robot" in told
    assert "not scored" in told
    results = read_results(tmp_path / "own")
    assert list(results.left_out) == ["my-other-robot"]
    assert len(results.plan) == len(results.cells) == 2
    assert results.cells["final_score"].isna().all()
    assert results.evaluations["score"].isna().all()
    assert results.evaluations["state_r2"].notna().all()
    assert results.evaluations["td_error"].notna().all()
    page = (tmp_path / "own" / "REPORT.md").read_text()
    assert "left out: my-other-robot" in page
    assert "not scored: my-robot" in page
    code, told = run("status", suite, "--results", tmp_path)
    assert code == 0
    assert "2 done" in told
    assert "left out my-other-robot" in told


def test_data_that_tell_no_return_are_refused_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    code, told = run(
        "run", suite, "--results", tmp_path, "--device", "cpu", "--set", "agent.discount=0.99"
    )
    assert code == 2, told
    assert "it takes 299 steps, and the longest has 60" in told
    assert not list((tmp_path / "own").glob("logs/*"))


def test_data_without_a_reward_are_refused_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    write_own(tmp_path / "mine.npz", rewards=np.zeros(900, np.float32))
    code, told = run("run", suite, "--results", tmp_path, "--device", "cpu")
    assert code == 2, told
    assert "my-robot: the training episodes hold no reward" in " ".join(told.split())
    assert not list((tmp_path / "own").glob("logs/*"))


def test_a_single_episode_is_refused_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    write_own(tmp_path / "mine.npz", timeouts=np.zeros(900, bool))
    code, told = run("run", suite, "--results", tmp_path, "--device", "cpu")
    assert code == 2, told
    assert "my-robot: the data set has a single episode" in " ".join(told.split())


def test_a_proprio_that_the_data_lack_is_refused_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    lacked = ("--set", "envs.0.proprio=[velocity]")
    code, told = run("run", suite, "--results", tmp_path, "--device", "cpu", *lacked)
    assert code == 2, told
    assert "proprio: my-robot has no 'velocity'; choose one of state 0" in " ".join(told.split())
    assert not list((tmp_path / "own").glob("logs/*"))


def test_states_that_the_data_lack_are_refused_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path, observation="state", variants=["frozen"])
    write_own(tmp_path / "mine.npz", states=None)
    code, told = run("run", suite, "--results", tmp_path, "--device", "cpu")
    assert code == 2, told
    assert "my-robot: observation: state, but the data have no states" in " ".join(told.split())


def test_a_file_that_is_long_to_hash_shows_a_bar_in_a_terminal(tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * places._AT_ONCE + 7))
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    assert places.file_sha256(path) == whole
    assert terminal.getvalue() == ""  # it was over at once
    monkeypatch.setattr(places, "SILENT_SECONDS", 0)
    assert places.file_sha256(path) == whole
    assert "checking large" in terminal.getvalue()


def test_without_when_a_missing_data_set_stops_the_run_before_the_first_cell(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    (tmp_path / "mine.npz").unlink()
    code, told = run("run", suite, "--results", tmp_path / "r", "--device", "cpu")
    assert code == 2
    assert "mine.npz: the data file of my-robot is missing" in told
    assert "when: available" in told
    assert not (tmp_path / "r").exists()


def test_another_content_under_the_same_name_is_another_data_set(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    assert run("data", "prepare", suite)[0] == 0
    code, told = run("data", "prepare", suite)
    assert "my-robot: is here" in told
    write_own(tmp_path / "mine.npz", rewards=np.ones(900, np.float32))
    code, told = run("data", "prepare", suite)
    assert code == 0
    assert "is here" not in told


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"actions": None}, "has no key 'actions'"),
        ({"frames": None}, "has no key 'frames'"),
        ({"frames": np.zeros((900, 16, 16, 3))}, "'frames' holds float64"),
        ({"frames": np.zeros((900, 16, 12, 3), np.uint8)}, "'frames' holds uint8 of the shape"),
        ({"frames": np.zeros((900, 24, 24, 3), np.uint8)}, "write pixels: {size: 24}"),
        ({"frames": np.zeros((899, 16, 16, 3), np.uint8)}, "'frames' has 899 rows"),
        ({"actions": np.zeros(900)}, "'actions' has the shape (900,)"),
        ({"actions": np.zeros((7, 2))}, "'frames' has 900 rows and 'actions' 7"),
        ({"rewards": np.full(900, np.nan)}, "'rewards' is not a finite number in row 0 and 899"),
        ({"rewards": np.array(["x"] * 900)}, "'rewards' holds <U1, not numbers"),
        ({"rewards": np.zeros(0)}, "'rewards' has 0 rows and 'actions' 900"),
        ({"timeouts": np.ones(900, bool)}, "every episode is one row long"),
        ({"state_names": np.array(["a", "b"])}, "'state_names' has 2 different names for 1"),
        ({"state_names": np.array([b"a\xff", b"b"])}, "'state_names' has 2 different names for 1"),
        (
            {"actions": np.ones((900, 2), order="F")},
            "in Fortran's order; save np.ascontiguousarray",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_the_file_and_the_key(tmp_path, monkeypatch, changed, words):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    suite = own_suite(tmp_path)
    write_own(tmp_path / "mine.npz", **changed)
    code, told = run("data", "prepare", suite)
    assert code == 2, told
    assert "mine.npz" in told
    assert words in " ".join(told.split())
    assert not list(cache_folder().glob("my-robot/[!.]*"))
    assert not list(cache_folder().glob("my-robot/.*-draft"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
@pytest.mark.parametrize("suffix", ["npz", "hdf5"])
def test_a_file_cut_short_is_refused(tmp_path, tiny_data, keep, suffix):
    import h5py

    suite = own_suite(tmp_path)
    columns = write_own(tmp_path / "mine.npz")
    path = tmp_path / "mine.npz"  # what it is follows from the bytes, not from the name
    if suffix == "hdf5":
        with h5py.File(path, "w") as file:
            for key, value in columns.items():
                file.create_dataset(key, data=value, compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    code, told = run("data", "prepare", suite)
    assert code == 2, told
    assert "mine.npz: is neither HDF5 nor NPZ, or is cut short" in " ".join(told.split())


def test_bytes_turned_over_in_a_file_are_refused(tmp_path, tiny_data):
    suite = own_suite(tmp_path)
    path = tmp_path / "mine.npz"
    damaged = bytearray(path.read_bytes())
    damaged[20_000] ^= 0xFF  # in the frames; the archive's checksum tells
    path.write_bytes(bytes(damaged))
    code, told = run("data", "prepare", suite)
    assert code == 2, told
    assert "the key 'frames' is damaged" in " ".join(told.split())


def test_list_verify_and_show_tell_of_a_set(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    suite = own_suite(tmp_path)
    code, told = run("data", "list", suite)
    assert code == 0
    assert "can be made" in told
    assert run("data", "prepare", suite)[0] == 0
    code, told = run("data", "list", suite)
    assert "here" in told.splitlines()[1]
    assert "MB" in told.splitlines()[1]
    code, told = run("data", "list")
    assert code == 0
    assert all(word in told for word in ("my-robot", OPEN, "can be made"))

    code, told = run("data", "show", "my-robot", "--out", tmp_path)
    assert code == 0, told
    assert "900 in 15 episodes" in " ".join(told.split())
    pictures = sorted(tmp_path.glob("my-robot-*.png"))
    assert sorted(path.stem.endswith("-distracted") for path in pictures) == [False, True]
    assert all(path.stat().st_size > 10_000 for path in pictures)

    assert run("data", "verify")[0] == 0
    (card,) = (tmp_path / "data").glob("my-robot/*/card.json")
    frames = card.with_name("frames.npy")
    damaged = bytearray(frames.read_bytes())
    damaged[-1] ^= 1
    frames.write_bytes(bytes(damaged))
    code, told = run("data", "verify", "my-robot")
    assert code == 1
    assert f"{frames}: has other bytes than its card says; delete the folder" in told
    code, told = run("data", "verify", "nobody")
    assert code == 2
    assert "no data set of nobody is here" in told
    assert json.loads(card.read_text())["source_sha256"]
    assert Path(card).exists()


def test_the_main_suite_starts_anywhere_and_says_what_it_costs_on_a_cpu(tmp_path, monkeypatch):
    from benchbench.core.processes import Interrupted
    from benchbench.launch import plan

    def stop(*arguments, **more):
        raise Interrupted(2)

    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setattr("benchbench.launch.run.run_suite", stop)
    monkeypatch.setattr(plan, "estimate_seconds", lambda cells, slots: 36_000.0)
    main_suite = Path(__file__).parents[2] / "suites" / "pixel_d4rl.yaml"
    code, told = run("run", main_suite, "--results", tmp_path, "--device", "cpu")
    assert code == 130, told
    assert "28,000,000 updates on a CPU: about 10 h" in told
    assert "'benchbench run quickstart'" in told
    assert "left out hopper-medium-v2" in told


def test_pictures_that_leave_nothing_to_learn_are_told_by_rate_and_by_the_plan(tiny_data, tmp_path):
    """Against a delta of 3 no pictures have room; R² is at most 1."""
    pixels = TINY["pixels"] | {"distract": {"tint": {"strength": 0.7}}}
    suite = tmp_path / "tinted.yaml"
    told = TINY | {"pixels": pixels, "diagnose": TINY["diagnose"] | {"oracle_updates": 2}}
    suite.write_text(yaml.safe_dump(told | {"name": "tinted"}))
    plan = ("plan", suite, "--results", tmp_path, "--device", "cpu", "--set", "deltas.r2=3")
    code, before = run(*plan)
    assert code == 0, before
    assert f"pictures {OPEN}" not in before  # nobody has rated them yet
    code, rated = run("data", "rate", suite, "--set", "deltas.r2=3")
    assert code == 0, rated
    row = next(line for line in rated.splitlines() if line.startswith(OPEN))
    assert "tint 0.7" in row
    assert row.endswith("no room")
    assert "the room between is under deltas.r2 (3)" in " ".join(rated.split())
    code, after = run(*plan)
    assert f"pictures {OPEN}: an untrained encoder reads the state with R²" in after


def test_what_cannot_be_rated_is_told_beside_what_can(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    lacking = {"id": "hopper-medium-v2", "when": "available"}
    diagnose = TINY["diagnose"] | {"oracle_updates": 2}

    def rated(env, **diagnosed):
        suite = tmp_path / "some.yaml"
        changed = {"envs": [*TINY["envs"], env], "diagnose": diagnose | diagnosed, "name": "some"}
        suite.write_text(yaml.safe_dump(TINY | changed))
        code, told = run("data", "rate", suite)
        rows = {line.split()[0]: line for line in told.splitlines() if line}
        return code, told, rows[OPEN], rows[env["id"]]

    code, told, here, missing = rated(lacking)
    assert code == 0, told
    assert "cannot be rated" not in here
    assert missing.endswith("not rated: see below")
    assert (
        "hopper_medium-v2.hdf5: D4RL's file of hopper-medium-v2 is missing" in told
    )  # not fetched
    (tmp_path / "hopper_medium-v2.hdf5").write_text("no HDF5")
    code, told, here, damaged = rated({"id": "hopper-medium-v2"})
    assert code == 2, told
    assert damaged.endswith("not rated: see below")
    assert f"\n{tmp_path / 'hopper_medium-v2.hdf5'}: " in told
    assert told.endswith("not all environments could be rated; it says above why\n")
    # Of ten episodes two are held out: too few to be halved into fit and score.
    code, told, few, _ = rated(lacking, probe_on="held-out", holdout=0.2)
    assert code == 0, told
    assert "cannot be rated: no pixels, no state, too few episodes" in few
