"""The waypoint recipe: the same bytes for the same identity, and D4RL's conventions."""

import json

import numpy as np
import pytest
from helpers.made_sets import columns_of, hashes
from helpers.simulators import needs_bullet

from benchbench.data.sources.waypoint import make as make_set
from benchbench.envs import make_pixel_env
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData

pytestmark = needs_bullet

OPEN = "bullet-maze2d-open-v0"
COUNT = 700


def identity(seed=0, noise=0.5, action_repeat=1):
    source = WaypointData(transitions=COUNT, seed=seed, noise=noise)
    return DataIdentity.of(OPEN, source, 16, action_repeat)


def make(folder, **settings):
    folder.mkdir()
    make_set(identity(**settings), folder, lambda done, total: None)
    return columns_of(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    return folder, make(folder)


def test_the_same_identity_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    np.random.seed(99)
    before = np.random.get_state()[1].copy()
    make(tmp_path / "again")
    assert np.array_equal(np.random.get_state()[1], before)  # the global stream is given back
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
    assert data["infos/qpos"] == pytest.approx(data["observations"][:, :2] + 1, abs=1e-6)
    assert np.array_equal(data["infos/qvel"], data["observations"][:, 2:])


def test_rewards_are_those_of_the_rows_own_observation_and_the_tasks_goal(made):
    data = made[1]
    distance = np.linalg.norm(
        data["observations"][:, :2] - (2.0, 3.0), axis=1
    )  # G of the open maze
    assert np.array_equal(data["rewards"], (distance <= 0.5).astype(np.float32))
    assert 0 < data["rewards"].mean() < 1


def test_cuts_stand_each_episode_length_and_nothing_is_terminal(made):
    data = made[1]
    assert np.flatnonzero(data["timeouts"]).tolist() == [149, 299, 449, 599, COUNT - 1]
    assert not data["terminals"].any()


def test_the_run_goes_on_over_cuts_and_reached_targets(made):
    data = made[1]
    moved = np.linalg.norm(np.diff(data["observations"][:, :2], axis=0), axis=1)
    speed = np.linalg.norm(data["observations"][1:, 2:], axis=1)
    assert moved[1:] == pytest.approx(speed[1:] * 0.0165, abs=2e-5)
    targets = np.unique(data["infos/goal"], axis=0)
    assert len(targets) >= 3


def test_a_frame_shows_the_state_of_its_row_and_the_tasks_goal(made):
    folder, data = made
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    assert frames.shape == (COUNT, 16, 16, 3)
    env = make_pixel_env(OPEN, 16)
    for row in (0, 1, 149, 150, COUNT - 1):
        assert np.array_equal(frames[row], env._camera.frame(data["observations"][row, :2]))
    env.close()


def test_the_actions_replayed_give_the_observations(made):
    data = made[1]
    env = make_pixel_env(OPEN, 16)
    env.reset(0)
    for row in range(COUNT):
        assert np.array_equal(env.state(), data["observations"][row])
        env.step(data["actions"][row])
    env.close()


def test_without_noise_the_controller_reaches_its_targets(tmp_path):
    data = make(tmp_path / "set", noise=0.0)
    distance = np.linalg.norm(data["observations"][:, :2] - data["infos/goal"], axis=1)
    changes = np.flatnonzero(np.abs(np.diff(data["infos/goal"], axis=0)).max(axis=1))
    # The controller steers for the cell's centre; targets lie up to 0.1 from it in x and in y.
    reached = distance[changes] < 0.1 + 0.1 * 2**0.5
    assert reached.sum() >= 2
    # D4RL's controller can circle about a target for good; an episode's length is the limit.
    rows_on_target = np.diff([-1, *changes])
    assert rows_on_target.max() <= 150
    assert (rows_on_target[~reached] == 150).all()


def test_an_action_repeat_sums_the_rewards_of_its_steps(tmp_path):
    data = make(tmp_path / "set", action_repeat=2)
    assert np.flatnonzero(data["timeouts"]).tolist() == [*range(74, 700, 75), COUNT - 1]
    env = make_pixel_env(OPEN, 16)
    env.reset(0)
    for row in range(COUNT):
        assert np.array_equal(env.state(), data["observations"][row])
        near = 0
        for _ in range(2):
            near += np.linalg.norm(env.state()[:2] - (2.0, 3.0)) <= 0.5
            env.step(data["actions"][row])
        assert data["rewards"][row] == near
    env.close()
    assert data["rewards"].max() == 2


def test_the_card_says_what_the_set_is(made):
    folder, data = made
    card = json.loads((folder / "card.json").read_text())
    returns = data["rewards"][:600].reshape(4, 150).sum(axis=1)
    assert card["identity"] == identity().settings()
    assert (card["transitions"], card["episodes"]) == (COUNT, 5)
    assert card["return"]["mean"] == pytest.approx(returns.mean())
    assert card["return"]["max"] == returns.max()
    # d4rl.infos: 8.75 is random and 64.15 expert on the open maze
    expected = 100 * (returns.mean() - 8.75) / (64.15 - 8.75)
    assert card["normalized_score_mean"] == pytest.approx(expected)
    for name in ("transitions.hdf5", "frames.npy"):
        assert card["files"][name]["sha256"] == hashes(folder)[name]
    assert {"d4rl", "pybullet", "numpy"} <= set(card["versions"])
