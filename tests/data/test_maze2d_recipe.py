"""D4RL's recipe for Maze2D: the same bytes for the same identity, and D4RL's conventions."""

import json

import numpy as np
import pytest
from helpers.made_sets import columns_of, hashes

from benchbench.data.sources.maze2d import make as make_set
from benchbench.data.store import open_dataset, prepare
from benchbench.envs import make_pixel_env
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData

OPEN = "maze2d-open-v0"
COUNT = 700


def identity(seed=0, noise=0.5, action_repeat=1, env=OPEN, size=16, count=COUNT):
    source = WaypointData(transitions=count, seed=seed, noise=noise)
    return DataIdentity.of(env, source, size, action_repeat)


def make(folder, **settings):
    folder.mkdir()
    make_set(identity(**settings), folder, lambda done, total: None)
    return columns_of(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    return folder, make(folder)


def test_the_same_identity_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    make(tmp_path / "again")
    make(tmp_path / "other", seed=1)
    assert hashes(tmp_path / "again") == hashes(made[0])
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(made[0]).values())


def test_the_columns_are_d4rls(made):
    data = made[1]
    assert set(data) == {
        "observations", "actions", "rewards", "terminals", "timeouts",
        "infos/goal", "infos/qpos", "infos/qvel",
    }  # fmt: skip
    assert data["observations"].shape == (COUNT, 4)
    assert data["observations"].dtype == data["actions"].dtype == np.float32
    assert np.abs(data["actions"]).max() == 1.0  # clipped
    both = np.concatenate([data["infos/qpos"], data["infos/qvel"]], axis=1)
    assert np.array_equal(both, data["observations"])


@pytest.mark.parametrize("kind", ["", "-dense"])
def test_rewards_are_those_of_the_rows_own_observation_and_the_tasks_goal(kind, tmp_path):
    data = make(tmp_path / "set", env=f"maze2d-open{kind}-v0")
    # G of the open maze is cell (2, 3)
    distance = np.linalg.norm(data["observations"][:, :2] - (2.0, 3.0), axis=1)
    expected = np.exp(-distance) if kind else distance <= 0.5
    assert data["rewards"] == pytest.approx(expected.astype(float), abs=1e-5)
    assert 0 < data["rewards"].mean() < 1


def test_cuts_stand_each_episode_length_and_nothing_is_terminal(made):
    data = made[1]
    assert np.flatnonzero(data["timeouts"]).tolist() == [149, 299, 449, 599, COUNT - 1]
    assert not data["terminals"].any()


def test_a_frame_shows_the_state_of_its_row_as_evaluation_draws_it(made):
    folder, data = made
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    assert frames.shape == (COUNT, 16, 16, 3)
    env = make_pixel_env(OPEN, 16)
    for row in (0, 1, 149, 150, COUNT - 1):
        env.set_state(data["infos/qpos"][row], data["infos/qvel"][row], np.zeros(2))
        assert np.array_equal(frames[row], env.frame())


def test_the_run_goes_on_over_cuts_and_reached_targets(made):
    """One step of the simulator leads from each row to the next, wherever a cut or target is."""
    data = made[1]
    env = make_pixel_env(OPEN, 16)
    for row in range(COUNT - 1):
        env.set_state(data["infos/qpos"][row], data["infos/qvel"][row], np.zeros(2))
        env.step(data["actions"][row])
        assert np.abs(env.state() - data["observations"][row + 1]).max() < 1e-4
    assert len(np.unique(data["infos/goal"], axis=0)) >= 3


def test_without_noise_the_controller_reaches_its_targets(tmp_path):
    data = make(tmp_path / "set", noise=0.0, env="maze2d-large-v1", count=3000)
    distance = np.linalg.norm(data["observations"][:, :2] - data["infos/goal"], axis=1)
    changes = np.flatnonzero(np.abs(np.diff(data["infos/goal"], axis=0)).max(axis=1))
    # The controller steers for the cell's centre; targets lie up to 0.1 from it in x and in y.
    reached = distance[changes] < 0.1 + 0.1 * 2**0.5
    assert reached.sum() >= 3
    rows_on_target = np.diff([-1, *changes])
    assert rows_on_target.max() <= 800
    assert (rows_on_target[~reached] == 800).all()


def test_an_action_repeat_sums_the_rewards_of_its_steps(tmp_path):
    data = make(tmp_path / "set", action_repeat=2)
    assert np.flatnonzero(data["timeouts"]).tolist() == [*range(74, 700, 75), COUNT - 1]
    assert set(np.unique(data["rewards"])) == {0.0, 1.0, 2.0}


def test_the_card_says_what_the_set_is_and_never_calls_it_d4rls_file(made):
    folder, data = made
    card = json.loads((folder / "card.json").read_text())
    returns = data["rewards"][:600].reshape(4, 150).sum(axis=1)
    assert card["identity"] == identity().settings()
    assert card["identity"]["source"]["source"] == "waypoint"
    assert card["identity"]["camera"] == "painted"
    assert (card["transitions"], card["episodes"]) == (COUNT, 5)
    assert card["continuous"] is True
    assert card["return"]["mean"] == pytest.approx(returns.mean())
    # d4rl.infos: 0.01 is random and 20.66 expert on the open maze
    expected = 100 * (returns.mean() - 0.01) / (20.66 - 0.01)
    assert card["normalized_score_mean"] == pytest.approx(expected)
    assert set(card["versions"]) == {"mujoco", "numpy"}
    assert "source_file" not in card


def test_the_store_makes_and_opens_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    one = identity()
    prepare(one, lambda done, total: None)
    assert len(open_dataset(one, verify=True)) == COUNT
