"""Minari's sets: drawn where their infos say enough, else refused in a sentence."""

import json
import random
import shutil

import h5py
import numpy as np
import pytest
from helpers.damage import FIRST, ROUNDS, check_sentence, damaged_bytes

from benchbench.core.errors import UserError
from benchbench.data.sources import minari as source
from benchbench.envs.mujoco import TASKS, MujocoPixelEnv, make_simulator
from benchbench.suite.dataset_identity import DataIdentity

minari = pytest.importorskip("minari", reason="an extra: pip install 'benchbench[minari]'")
pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 30


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def silent(done, total):
    pass


def record(body, infos=("x_position", "y_position"), episodes=2, change=lambda buffer: None):
    """A small set, as Minari's collector writes it with ``record_infos``."""
    from minari.data_collector import EpisodeBuffer

    simulator = make_simulator(body, 5)
    buffers = []
    for seed in range(episodes):
        rng = np.random.default_rng(seed)
        obs, info = simulator.reset(seed=seed)
        told = {"observations": [obs], "actions": [], "rewards": [], "terminations": []}
        said = [info]
        while len(told["rewards"]) < STEPS and not any(told["terminations"]):
            action = 0.3 * rng.uniform(-1, 1, simulator.action_space.shape).astype(np.float32)
            obs, reward, terminal, _, info = simulator.step(action)
            for key, value in zip(told, (obs, action, reward, terminal), strict=True):
                told[key].append(value)
            said.append(info)
        cut = [False] * len(told["rewards"])
        cut[-1] = not told["terminations"][-1]
        kept = {key: np.array([one[key] for one in said]) for key in infos if key in said[0]}
        told["observations"] = np.array(told["observations"])
        told["actions"] = np.array(told["actions"])
        buffer = EpisodeBuffer(id=seed, seed=seed, truncations=cut, infos=kept or None, **told)
        change(buffer)
        buffers.append(buffer)
    minari.create_dataset_from_buffers(
        f"mujoco/{body}/medium-v0", buffers, observation_space=simulator.observation_space,
        action_space=simulator.action_space, algorithm_name="random", author="a",
        author_email="a@example.org", code_permalink="none", description="small",
    )  # fmt: skip
    simulator.close()
    return DataIdentity.of(f"minari:mujoco/{body}/medium-v0", None, 32)


@pytest.mark.parametrize("body", TASKS)
def test_a_frame_is_the_one_drawn_live_and_a_row_is_what_follows(body, folders):
    identity = record(body)
    assert source.lacking(identity) is None
    made = folders / "set"
    made.mkdir()
    source.make(identity, made, silent)
    frames = np.load(made / "frames.npy")
    card = json.loads((made / "card.json").read_text())
    with h5py.File(made / "transitions.hdf5") as file:
        columns = {key: file[key][:] for key in ("observations", "actions", "rewards")}
        ends = file["terminals"][:] | file["timeouts"][:]
    assert source.count(identity) == len(frames) == card["transitions"]
    assert (card["episodes"], card["scored_as"]) == (2, f"{body}-medium-v2")
    assert card["replay"]["median"] < 1e-6  # a row of clipped velocities is off
    env = MujocoPixelEnv(identity.env, 32)
    env.reset(0)
    for row in range(int(ends.argmax()) + 1):
        assert np.array_equal(frames[row], env.frame()), row
        assert np.array_equal(columns["observations"][row], env.state())
        reward = env.step(columns["actions"][row])[0]
        assert reward == pytest.approx(columns["rewards"][row], abs=1e-5)
    env.close()


@pytest.mark.parametrize("body", TASKS)
def test_without_infos_positions_are_summed_up_from_velocities(body, folders, caplog):
    def rows():
        identity = DataIdentity.of(f"minari:mujoco/{body}/medium-v0", None, 32)
        return source.read(source._open(identity), source.dataset_folder(identity), body)

    record(body)
    told = rows()["infos/qpos"]
    assert not caplog.text
    shutil.rmtree(folders / "minari")
    record(body, infos=())
    summed = rows()["infos/qpos"]
    away = len(source._AWAY[body])
    assert np.array_equal(summed[:, away:], told[:, away:])
    off = np.abs(summed - summed[0] - (told - told[0]))[: STEPS // 2, :away].max()
    assert off < (0.05 if body == "ant" else 0.03)
    assert "recorded without infos" in caplog.text


def test_a_reward_that_is_not_a_number_is_refused(folders):
    def change(buffer):
        buffer.rewards[3] = np.nan

    identity = record("hopper", change=change)
    with pytest.raises(UserError, match="'rewards' is not a finite number in row 3"):
        source.make(identity, folders, silent)


def test_a_damaged_set_is_refused_by_name(folders):
    identity = record("hopper")
    file = source.dataset_folder(identity) / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(UserError, match="hopper/medium-v0: cannot be read"):
        source.make(identity, folders, silent)


def test_what_is_not_here_says_how_to_get_it(monkeypatch):
    told = source.lacking(DataIdentity.of("minari:mujoco/walker2d/expert-v0", None, 64))
    assert "minari download mujoco/walker2d/expert-v0" in told
    with pytest.raises(UserError, match="has no camera here; those that have are hopper"):
        source.lacking(DataIdentity.of("minari:mujoco/swimmer/expert-v0", None, 64))
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    told = source.lacking(DataIdentity.of("minari:mujoco/hopper/expert-v0", None, 64))
    assert told.endswith("pip install 'benchbench[minari]'")


def test_damaged_bytes(folders):
    place = source.dataset_folder(record("hopper"))
    identity = DataIdentity.of("minari:mujoco/hopper/medium-v0", None, 32)
    paths = [path for path in place.rglob("*") if path.is_file()]
    for number in range(FIRST, FIRST + ROUNDS):
        rng = random.Random(number)
        path = rng.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(damaged_bytes(whole, rng))
        told = None
        try:
            source.count(identity)
            rows = source.read(source._open(identity), place, "hopper")
            assert len({len(values) for values in rows.values()}) == 1
            assert all(np.isfinite(values).all() for values in rows.values())
        except UserError as error:
            told = error.message
        if told:
            check_sentence(told, place)
        path.write_bytes(whole)
