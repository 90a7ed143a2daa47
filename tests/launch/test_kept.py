"""What a run keeps beside its tables: policies that act as trained, films, archives that travel."""

import json
import zipfile
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from helpers.suites import TINY

import benchbench
from benchbench.cell.build import make_agent, make_evaluator, make_sampler, split
from benchbench.cell.policy import export_policy, load_policy, policy_bytes
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.data.store import open_dataset
from benchbench.launch.cards import keep_cards
from benchbench.launch.film import film
from benchbench.report.document import Photo
from benchbench.report.language import Words
from benchbench.report.tasks import tasks_section
from benchbench.results.clean import find_policies
from benchbench.results.merge import merge
from benchbench.results.pack import MANIFEST, pack, unpacked
from benchbench.results.store import POLICY, Store
from benchbench.results.tables import Results, read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

SUITE = TINY | {"variants": ["before", "after"], "keep": {"films": True}}
GRID = Grid.of(Suite.model_validate(SUITE))


@pytest.fixture(scope="module")
def store(data_home, tmp_path_factory):
    """The results of a run of two cells."""
    results = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        done = benchbench.run(SUITE, results=results, executor="debug", device="cpu")
    assert not done.failures
    return Store(results, "tiny")


@pytest.fixture(scope="module")
def policy(store):
    return load_policy(store.cell_folder(GRID.cells[1].key))


def observations(policy, episodes=5):
    rng = np.random.default_rng(0)
    spec = policy.agent.spec
    shape = (episodes, spec.size, spec.size, spec.channels)
    frames = rng.integers(0, 256, shape, dtype=np.uint8)
    return frames, rng.normal(size=(episodes, spec.proprio_dim)).astype(np.float32)


def test_what_is_kept_is_no_part_of_a_cells_key():
    off = expand(Suite.model_validate(SUITE | {"keep": {"policies": False, "films": False}}))
    assert [cell.key for cell in off] == [cell.key for cell in GRID.cells]
    assert not any(cell.keep_policy for cell in off)


def test_a_kept_policy_has_the_weights_that_the_cell_ended_with_and_scores_as_it_did(
    store, tiny_data
):
    results = read_results(store.folder)
    for cell in GRID.cells:
        kept = load_policy(store.policy_path(cell.key))
        assert repr(kept) == f"<TrainedPolicy {cell.variant} of {cell.env}, seed {cell.seed}>"
        row = results.cells.set_index("key").loc[cell.key]
        assert kept.agent.weights_sha256() == row["final_weights"]
        evaluator = make_evaluator(cell)
        seen = lambda frames, states, proprio, kept=kept: kept.act(frames, proprio)  # noqa: E731
        returns = evaluator.returns(seen)
        evaluator.close()
        rows = results.evaluations[results.evaluations["key"] == cell.key]
        assert returns.tolist() == rows["returns"].iloc[-1].tolist()


def test_the_card_says_what_made_the_policy(policy, store):
    cell = GRID.cells[1]
    row = read_results(store.folder).cells.set_index("key").loc[cell.key]
    assert (policy.card["env"], policy.card["seed"], policy.card["variant"]) == (
        cell.env, 0, "after"
    )  # fmt: skip
    assert policy.card["settings"] == cell.settings()
    assert policy.card["data"]["sha256"] == row["data_sha256"]


@pytest.mark.parametrize("algorithm", ["lapo", "cloning", "drq-bc"])
def test_an_agent_comes_back_and_acts_as_it_did(algorithm, tmp_path, tiny_data):
    variant = {"lapo": "separate", "cloning": "vae-only", "drq-bc": "after"}[algorithm]
    agent = TINY["agent"] | {"algorithm": algorithm}
    cell = expand(Suite.model_validate(TINY | {"variants": [variant], "agent": agent}))[0]
    dataset, device = open_dataset(cell.data), torch.device("cpu")
    sampler = make_sampler(cell, dataset, split(cell, dataset)[0], device)
    trained = make_agent(cell, sampler, device)
    for _ in range(3):  # so that targets and networks differ
        trained.update(sampler.sample())
    path = tmp_path / POLICY
    (kept,) = {policy_bytes(cell, trained, sampler, dataset.sha256) for _ in range(8)}
    path.write_bytes(kept)
    again = load_policy(path)
    batch = sampler.sample()
    assert torch.equal(
        again.agent.act(batch.obs, batch.proprio_BP), trained.act(batch.obs, batch.proprio_BP)
    )


def test_a_policy_refuses_what_it_was_not_trained_on(policy):
    frames, proprio = observations(policy)
    with pytest.raises(ValueError, match="frames should be uint8"):
        policy.act(frames[:, :8], proprio)
    with pytest.raises(ValueError, match=r"proprio should be \(E, 2\): velocity"):
        policy.act(frames)


def test_what_is_no_policy_is_refused_with_the_cure(store, tmp_path):
    with pytest.raises(UserError, match="run the cell again"):
        load_policy(tmp_path)
    broken = tmp_path / POLICY
    broken.write_bytes(store.policy_path(GRID.cells[0].key).read_bytes()[:-9])
    with pytest.raises(UserError, match="is damaged"):
        load_policy(broken)


def test_torchscript_acts_as_the_policy_for_any_number_of_episodes(policy, tmp_path):
    path = tmp_path / "policy.pt"
    assert export_policy(policy, path, "torchscript") <= 1e-4
    frames, proprio = observations(policy, 3)
    exported = torch.jit.load(str(path))(torch.from_numpy(frames), torch.from_numpy(proprio))
    np.testing.assert_allclose(exported.numpy(), policy.act(frames, proprio), atol=1e-4)


def test_an_export_that_acts_otherwise_is_refused(policy, tmp_path, monkeypatch):
    real = type(policy).act
    monkeypatch.setattr(type(policy), "act", lambda *told: real(*told) + 1)
    with pytest.raises(UserError, match="nothing was written"):
        export_policy(policy, tmp_path / "policy.pt", "torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_onnx_acts_as_the_policy(policy, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert export_policy(policy, tmp_path / "policy.onnx", "onnx") <= 1e-4


def test_the_film_shows_the_frames_that_both_agents_saw_from_one_start(store, tiny_data):
    pictures = film(store, GRID.cells)
    size = GRID.cells[0].pixels.size
    left, right = pictures[0][:, :size], pictures[0][:, -size:]
    assert (left == right).all(), "both start alike"
    assert len(pictures) > 10
    large = film(store, GRID.cells, 64)
    assert len(large) == len(pictures)
    assert large[0].shape[0] == 64


def test_a_run_leaves_a_small_film_and_pictures_of_its_tasks(store, tiny_data):
    (told,) = [json.loads(p.read_text()) for p in (store.folder / "films").glob("*.json")]
    assert told["variants"] == ["before", "after"]
    (gif,) = (store.folder / "films").glob("*.gif")
    assert len(imageio.imread(gif)) > 10
    (picture,) = (store.folder / "tasks").glob("*.png")
    assert imageio.imread(picture).shape[0] >= 96
    blocks = tasks_section(store.folder, read_results(store.folder), Words("zh"))
    shown = [block.path for block in blocks if isinstance(block, Photo)]
    assert shown == [f"tasks/{picture.name}", f"films/{gif.name}"]
    assert "1,500" in str(blocks[-1]), "the data set's rows"


def test_each_condition_is_pictured_as_it_is_seen(store, data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(data_home))
    lit = {"pixels.distract": {"tint": {"strength": 0.4}}}
    suite = Suite.model_validate(TINY | {"conditions": {"clean": {}, "lit": lit}})
    cells = expand(suite)
    keep_cards(Store(tmp_path, "tiny"), cells)
    plain, laid = sorted((tmp_path / "tiny" / "tasks").glob("*.png"), key=lambda p: len(p.name))
    assert laid.name == f"{plain.stem}-{cells[-1].stratum.replace('@', '_')}.png"
    there, changed = imageio.imread(plain), imageio.imread(laid)
    assert there.shape == changed.shape
    assert (there != changed).any()
    plan = pd.DataFrame({"env": [cell.stratum for cell in cells]})
    results = Results(suite, plan, *[pd.DataFrame()] * 5, {})
    blocks = tasks_section(tmp_path / "tiny", results, Words())
    shown = [(block.path, block.title) for block in blocks if isinstance(block, Photo)]
    assert shown == [(f"tasks/{plain.name}", cells[0].env), (f"tasks/{laid.name}",
                                                             cells[-1].stratum)]  # fmt: skip


def test_clean_knows_the_policies(store):
    assert {one.path.name for one in find_policies(store)} == {POLICY}
    assert len(find_policies(store)) == 2


class TestArchive:
    @pytest.fixture(scope="class")
    def archive(self, store):
        path = store.folder.parent / "tiny.zip"
        pack(store.folder, path, policies=True)
        return path

    def test_the_same_results_make_the_same_bytes(self, archive, store, tmp_path):
        events = store.folder / "tensorboard" / "events.out.tfevents.1.my-machine"
        events.parent.mkdir()
        events.write_text("what a tracker made of the tables")
        pack(store.folder, tmp_path / "again.zip", policies=True)
        events.unlink()
        events.parent.rmdir()
        assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()

    def test_it_is_merged_like_the_folder_with_its_policies(self, archive, store, tmp_path):
        with unpacked(archive) as folder:
            new = merge(tmp_path / "tiny", [folder])
        assert sorted(new) == sorted(GRID.keys)
        there = Store(tmp_path, "tiny")
        for cell in GRID.cells:
            mine = store.policy_path(cell.key).read_bytes()
            assert there.policy_path(cell.key).read_bytes() == mine

    def test_the_command_line_takes_it(self, archive, store):
        done = CliRunner().invoke(main, ["compare", str(store.folder), str(archive), "--markdown"])
        assert f"- candidate: {archive}: 2 of 2 cells" in done.output, "not where it was unpacked"
        done = CliRunner().invoke(main, ["compare", str(store.folder), str(archive), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["series"]

    @pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "c:evil", "a\\b"])
    def test_a_name_that_leads_outside_is_refused(self, tmp_path, name):
        path, manifest = tmp_path / "bad.zip", {"format": 1, "folder": "x", "files": {name: "0"}}
        with zipfile.ZipFile(path, "w") as bad:
            bad.writestr(MANIFEST, json.dumps(manifest))
            bad.writestr(name, "evil")
        with pytest.raises(UserError, match="outside of itself"), unpacked(path):
            pass
        assert not list(tmp_path.rglob("evil"))

    def test_changed_and_added_bytes_are_refused(self, archive, tmp_path):
        for change, said in (("cells.parquet", "other bytes"), ("more.txt", "other files")):
            path = tmp_path / f"{said}.zip"
            with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
                for info in source.infolist():
                    content = source.read(info)
                    target.writestr(info.filename, b"x" if info.filename == change else content)
                if change == "more.txt":
                    target.writestr(change, "x")
            with pytest.raises(UserError, match=said), unpacked(path):
                pass

    def test_what_is_no_archive_is_refused(self, tmp_path):
        path = tmp_path / "no.zip"
        path.write_text("no")
        with (
            pytest.raises(UserError, match="no archive of 'benchbench pack', or not a whole"),
            unpacked(path),
        ):
            pass


def test_the_verbs_write_where_they_say(store, tmp_path, monkeypatch, tiny_data):
    monkeypatch.chdir(tmp_path)
    results = ["--results", str(store.folder.parent)]
    run = CliRunner().invoke
    done = run(main, ["film", "tiny", *results, "--seen", "--out", "seen.gif"])
    assert done.exit_code == 0, done.output
    assert Path("seen.gif").stat().st_size > 1000
    one = ["--only", "variant=after"]
    done = run(main, ["export", str(store.folder), "--format", "torchscript", *one])
    assert done.exit_code == 0, done.output
    assert Path("maze2d-open-v0-seed0-after.pt").exists()
    done = run(main, ["export", str(store.folder), "--format", "torchscript"])
    assert done.exit_code == 2
    assert "2 cells; name one" in done.output
    done = run(main, ["film", "tiny", *results, "--pair", "env=maze2d-open-v0,seed=7"])
    assert done.exit_code == 2
    assert "no such pair" in done.output
