"""Files of one's own: every kind of picture, end and layout that is not ours gets its cure."""

import numpy as np
import pytest
from helpers.own_data import write_own

from benchbench.core.errors import UserError
from benchbench.data.store import open_dataset, prepare
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 255, (900, 16, 16), np.uint8)
COLOUR = RNG.integers(0, 255, (900, 16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "home"))


def made(path, env="my-robot", size=16, **settings):
    identity = DataIdentity.of(env, FileData(path=str(path), **settings), size)
    prepare(identity, lambda done, total: None)
    return open_dataset(identity)


def refusal(path, **settings):
    with pytest.raises(UserError) as told:
        made(path, **settings)
    assert str(told.value).startswith(str(path))
    return " ".join(str(told.value).split())


@pytest.mark.parametrize(
    ("frames", "cure"),
    [
        (GRAY, "np.repeat(frames[..., None], 3, axis=-1)"),
        (GRAY[..., None], "np.repeat(frames, 3, axis=-1)"),
        (COLOUR.transpose(0, 3, 1, 2), "frames.transpose(0, 2, 3, 1)"),
        (GRAY[:, None], "frames.transpose(0, 2, 3, 1)"),
        (np.concatenate([COLOUR, GRAY[..., None]], -1), "frames[..., :3]"),
        (np.concatenate([COLOUR] * 3, -1), "frames[..., -3:]"),
        (COLOUR / np.float32(255), "(255 * frames).round().astype(np.uint8)"),
        (COLOUR.astype(float), "frames.round().astype(np.uint8)"),
        (np.concatenate([COLOUR] * 3, -1).transpose(0, 3, 1, 2),
         "frames[:, -3:].transpose(0, 2, 3, 1)"),
        (np.stack([GRAY] * 4, -1), "np.repeat(frames[..., -1:], 3, axis=-1)"),
        (COLOUR.reshape(15, 60, 16, 16, 3), "frames.reshape(-1, *frames.shape[2:])"),
        (COLOUR.reshape(900, -1), "frames.reshape(-1, 16, 16, 3)"),
        (np.array(["a.png"] * 900), "imageio.v3.imread"),
        (COLOUR[[*range(900), 0]], "frames[:-1]"),
        (COLOUR > 100, "255 * frames.astype(np.uint8)"),
        (COLOUR.astype(np.int64), "frames.clip(0, 255).astype(np.uint8)"),
        (COLOUR.view(np.int8), "frames = frames.view(np.uint8)"),
        (COLOUR.astype(np.uint16) << 8, "(frames >> 8).astype(np.uint8)"),
        (COLOUR[:, None], "of several cameras or steps a row take one: frames = frames[:, -1]"),
        (GRAY[:, 0, 0], "each row should be one picture"),
        (np.asfortranarray(COLOUR), "np.ascontiguousarray"),
        (COLOUR[:, :12], "fit: crop, pad or stretch"),
        (np.zeros((900, 20, 20, 3), np.uint8), "pixels: {size: 20}"),
        (np.zeros_like(COLOUR), "every channel of every pixel is 0"),
        (np.full_like(COLOUR, 255), "every channel of every pixel is 255"),
        (COLOUR // 128, "(255 * frames).round().astype(np.uint8) from the floats"),
        (np.repeat(COLOUR[:1], 900, 0), "all of its pictures are the same"),
    ],
)  # fmt: skip
def test_pictures_of_another_kind_get_their_cure(tmp_path, frames, cure):
    write_own(tmp_path / "mine.npz", frames=frames)
    assert cure in refusal(tmp_path / "mine.npz")


STILL = np.full((900, 16, 16, 3), 100, np.uint8)
STILL[:, :8] = 200


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (np.array([0, 1, 255], np.uint8)[COLOUR % 3], "pictures in [-1, 1] keep as uint8"),
        (COLOUR // 64, "goes only from 0 to 3 of 255; pictures on another scale take frames = "),
        (STILL + (np.arange(900) % 2).astype(np.uint8)[:, None, None, None], "by more than 1 of"),
        (np.where((np.arange(900) % 2)[:, None, None, None], COLOUR, np.uint8(0)),
         "450 of 900 pictures of 'frames' are of one colour all over"),
    ],
)  # fmt: skip
def test_pictures_that_show_little_are_told(tmp_path, caplog, frames, told):
    write_own(tmp_path / "mine.npz", frames=frames)
    made(tmp_path / "mine.npz")
    assert told in caplog.text


def test_ordinary_pictures_and_states_are_not_told_of(tmp_path, caplog):
    write_own(tmp_path / "mine.npz")
    made(tmp_path / "mine.npz")
    assert not caplog.text


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_pictures_are_fitted(tmp_path, fit):
    frames = np.full((900, 24, 32, 3), 200, np.uint8)
    frames[:, :, :4] = frames[:, :, -4:] = 50  # the sides, which a crop leaves out
    frames[0] += 1
    write_own(tmp_path / "mine.npz", frames=frames)
    seen = made(tmp_path / "mine.npz", fit=fit).frames[1]
    assert seen.shape == (16, 16, 3)
    assert seen[8, 8, 0] == 200
    assert seen[8, 0, 0] == pytest.approx(200 if fit == "crop" else 50, abs=10)
    assert seen[0, 8, 0] == pytest.approx(0 if fit == "pad" else 200, abs=10)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        (
            {"actions": np.zeros(900, np.float32)},
            "should have N x M; one number a row is actions[:",
        ),
        ({"rewards": np.zeros((900, 1), np.float32)}, "drop its second axis: rewards[:, 0]"),
        ({"actions": np.array([["a"]] * 900, object)}, "holds Python objects; save it as numbers"),
        ({"actions": np.zeros((900, 1, 2), np.float32)}, "drop its second axis: actions[:, 0]"),
        ({"rewards": np.array(["1"] * 900)}, "rewards = rewards.astype(np.float32)"),
        ({"timeouts": np.arange(59, 900, 60)}, "timeouts = np.isin(np.arange(900), timeouts)"),
        (
            {"timeouts": None, "terminals": None, "episode_id": np.arange(900) // 60},
            "timeouts = np.append(np.diff(episode_id) != 0, True)",
        ),
        ({"timeouts": None, "terminals": None}, "neither 'terminals' nor 'timeouts'"),
        ({"timeouts": None, "terminals": None, "done": np.zeros(900)}, "call 'done' so"),
        ({"actions": None, "action": np.zeros((900, 2))}, "no key 'actions'; call 'action' so"),
        ({"frames": None}, "no key 'frames'; there are no pictures in it"),
        ({"frames": None, "observations": COLOUR}, "call 'observations' so, which has the shape"),
        ({"frames": None, "cam.top": COLOUR}, "call 'cam.top' so"),
    ],
)
def test_columns_of_another_kind_get_their_cure(tmp_path, changed, cure):
    write_own(tmp_path / "mine.npz", **changed)
    assert cure in refusal(tmp_path / "mine.npz")


def test_one_kind_of_end_is_enough(tmp_path):
    write_own(tmp_path / "mine.npz", terminals=None)
    assert made(tmp_path / "mine.npz").episode[-1] == 14


def test_without_a_reward_it_can_be_imitated_and_says_so(tmp_path, caplog):
    write_own(tmp_path / "mine.npz", rewards=None)
    assert not made(tmp_path / "mine.npz").rewards.any()
    assert "it can only be imitated (agent: {algorithm: cloning})" in caplog.text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rewards": None, "reward": np.ones(900)}, "(call 'reward' so if that is it)"),
        ({"rewards": np.full(900, 0.5)}, "all rewards are 0.5"),
        ({"terminals": np.arange(900) % 60 == 58}, "15 of 30 episodes are one row long"),
        ({"timeouts": None, "terminals": np.arange(900) % 60 == 0}, "1 of 16 episodes are one row"),
        ({"depth": GRAY}, "other pictures are left out: depth"),
        ({"depth": GRAY[..., None]}, "other pictures are left out: depth"),
        ({"wrist": np.array([b"jpeg"] * 900)}, "other pictures are left out: wrist"),
    ],
)
def test_what_is_probably_a_mistake_is_told(tmp_path, caplog, changed, told):
    write_own(tmp_path / "mine.npz", **changed)
    made(tmp_path / "mine.npz")
    assert told in caplog.text


@pytest.mark.parametrize(
    ("still", "told"),
    [
        (slice(None), "all actions are the same"),
        (slice(1, 2), "of the actions, 1 column never changes: 1"),
        (slice(0, 0), None),
    ],
)
def test_actions_that_never_change_are_told(tmp_path, caplog, still, told):
    actions = np.random.default_rng(0).uniform(-1, 1, (900, 2)).astype(np.float32)
    actions[:, still] = 0.5
    write_own(tmp_path / "mine.npz", actions=actions)
    made(tmp_path / "mine.npz")
    assert told in caplog.text if told else not caplog.text


def test_a_second_camera_is_named(tmp_path, caplog):
    write_own(tmp_path / "mine.npz", wrist=COLOUR)
    made(tmp_path / "mine.npz")
    assert "other pictures are left out: wrist" in caplog.text


@pytest.mark.parametrize("named", ["episodes", "episodes/run_*.npz"])
def test_a_folder_of_episodes_is_read_in_their_order(tmp_path, named):
    (tmp_path / "episodes").mkdir()
    for number in range(12):
        place = np.full(70, number, np.float32)
        write_own(
            tmp_path / "episodes" / f"run_{number}.npz", rows=70, timeouts=None, terminals=None,
            states=place[:, None],
        )  # fmt: skip
    data = made(tmp_path / named)
    assert len(data) == 840
    assert data.states[::70, 0].tolist() == list(range(12))  # run_2 before run_10
    assert (np.flatnonzero(data.timeouts) == np.arange(69, 840, 70)).all()
    write_own(tmp_path / "episodes" / "run_3.npz", rows=70, states=None)
    with pytest.raises(UserError, match=r"run_3\.npz: one of run_0\.npz and it has the key"):
        made(tmp_path / named)


def test_a_folder_without_episodes_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: the folder of my-robot holds no \.npz"):
        made(tmp_path / "empty")


def test_timeouts_in_mid_trajectory_end_no_episode(tmp_path, caplog):
    """As in D4RL's adroit demonstrations: both flags, the true ends are the terminals."""
    step = np.arange(900) % 60
    states = np.cumsum(RNG.normal(size=(900, 3)) * 0.01, 0).astype(np.float32)
    states += 5 * RNG.normal(size=(15, 3)).repeat(60, 0)  # each begins elsewhere
    changed = {"terminals": step == 59, "timeouts": step == 39, "states": states}
    write_own(tmp_path / "door.npz", **changed)
    assert made(tmp_path / "door.npz").episode[-1] == 14
    assert "15 timeouts stand in mid-trajectory" in caplog.text
    write_own(tmp_path / "door.npz", **changed | {"states": None, "observations": states})
    assert made(tmp_path / "door.npz").episode[-1] == 14
    assert "no state is probed; 'observations' is left out" in caplog.text


def test_timeouts_behind_which_another_episode_begins_stay(tmp_path):
    step = np.arange(900) % 60
    states = np.cumsum(RNG.normal(size=(900, 3)) * 0.01, 0).astype(np.float32)
    states += 5 * RNG.normal(size=(30, 3)).repeat(30, 0)
    changed = {"terminals": step == 59, "timeouts": step == 29, "states": states}
    write_own(tmp_path / "mine.npz", **changed)
    assert made(tmp_path / "mine.npz").episode[-1] == 29


class TestUnderAKnownId:
    """A file that stands for an environment that benchbench has."""

    ENV = "maze2d-open-v0"

    def test_widths_are_the_environments(self, tmp_path):
        write_own(tmp_path / "mine.npz", actions=np.zeros((900, 1), np.float32))
        told = refusal(tmp_path / "mine.npz", env=self.ENV)
        assert "the key 'actions' has 1 column, and maze2d-open-v0 has 2" in told
        write_own(tmp_path / "mine.npz")
        told = refusal(tmp_path / "mine.npz", env=self.ENV)
        assert "the key 'states' has 1 column, and maze2d-open-v0 has 4" in told

    def test_actions_outside_the_box_and_missing_positions_are_told(self, tmp_path, caplog):
        actions = np.where(np.arange(900)[:, None] % 2, 100.0, 0.5).repeat(2, 1)
        write_own(tmp_path / "mine.npz", states=np.zeros((900, 4)), actions=actions)
        made(tmp_path / "mine.npz", env=self.ENV)
        assert "50.0 % of the actions lie outside of [-1, 1]" in caplog.text
        assert "roll-outs cannot start from its states" in caplog.text
