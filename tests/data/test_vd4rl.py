"""V-D4RL: its files become our rows, none is skipped, and the environment draws their frames."""

import json

import h5py
import numpy as np
import pytest
from helpers.simulators import needs_dm_control
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchbench.core.errors import UserError
from benchbench.data.sources import vd4rl
from benchbench.envs import dmc, mujoco_camera
from benchbench.suite.dataset_identity import DataIdentity

pytestmark = needs_dm_control

WALKER = "vd4rl:main/walker_walk/medium"
STEPS = 25  # stepped and drawn; the rest of an episode's 501 rows repeat the last of them


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VD4RL_DIR", str(tmp_path / "vd4rl"))
    return tmp_path


def silent(done, total):
    pass


def episode(seed, size, env_id=WALKER):
    """One episode as V-D4RL's wrappers book it, from dm_control itself."""
    env = dmc.load(*dmc.task_of(env_id))
    env.task.random.seed(seed)
    env.reset()
    spec, rng = env.action_spec(), np.random.default_rng(seed)
    action, reward = np.zeros(spec.shape, np.float32), 0.0
    frames, actions, rewards = [], [], []
    for _ in range(STEPS):
        frames.append(env.physics.render(size, size, camera_id=0))
        actions.append(action)
        rewards.append(reward)
        action = rng.uniform(-1, 1, spec.shape).astype(np.float32)
        reward = sum(env.step(action).reward for _ in range(2))
    env.close()
    fill = vd4rl.LENGTH - STEPS
    return {
        "image": np.array(frames + frames[-1:] * fill),
        "action": np.array(actions + actions[-1:] * fill),
        "reward": np.array(rewards + rewards[-1:] * fill, np.float32),
        "discount": np.ones(vd4rl.LENGTH, np.float32),
        "is_first": np.arange(vd4rl.LENGTH) == 0,
        "is_last": np.arange(vd4rl.LENGTH) == vd4rl.LENGTH - 1,
        "is_terminal": np.zeros(vd4rl.LENGTH, bool),
    }


@pytest.fixture(scope="session")
def episodes():
    return {size: [episode(seed, size) for seed in (0, 1)] for size in (64, 84)}


def write(folder, episodes, size, change=lambda arrays: None):
    """The files of a set in V-D4RL's layout; ``change`` damages the first one's arrays."""
    folder = folder / "vd4rl" / "main" / "walker_walk" / "medium" / f"{size}px"
    folder.mkdir(parents=True)
    paths = []
    if size == 64:
        for number, arrays in enumerate(episodes[64]):
            arrays = dict(arrays)
            if number == 0:
                change(arrays)
            rows = np.atleast_1d(arrays.get("image", [])).shape[0]
            path = folder / f"20220101T00000{number}-{number:032x}-{rows}.npz"
            np.savez_compressed(path, **arrays)
            paths.append(path)
        return paths
    both = {key: np.concatenate([one[key] for one in episodes[84]]) for key in episodes[84][0]}
    step_type = np.where(both.pop("is_first"), 0, np.where(both.pop("is_last"), 2, 1))
    del both["is_terminal"]
    both |= {"step_type": step_type, "observation": both.pop("image").transpose(0, 3, 1, 2)}
    change(both)
    with h5py.File(folder / "0.hdf5", "w") as file:
        for key, values in both.items():
            compressed = {"compression": "gzip"} if np.ndim(values) else {}
            file.create_dataset(key, data=values, **compressed)
    return [folder / "0.hdf5"]


def make(folder, size):
    identity = DataIdentity.of(WALKER, None, size)
    assert vd4rl.lacking(identity) is None
    made = folder / "set"
    made.mkdir()
    vd4rl.make(identity, made, silent)
    with h5py.File(made / "transitions.hdf5") as file:
        columns = {key: file[key][:] for key in ("actions", "rewards", "terminals", "timeouts")}
        widths = {key: file[key].shape[1] for key in ("observations", "infos/qpos", "infos/qvel")}
    assert set(widths.values()) == {0}
    card = json.loads((made / "card.json").read_text())
    return columns, np.load(made / "frames.npy"), card, vd4rl.count(identity)


@pytest.mark.parametrize("size", [64, 84])
def test_a_row_is_what_is_seen_then_done_then_paid(size, episodes, folders):
    """Played again in the environment from the stored actions: the same frames and rewards."""
    write(folders, episodes, size)
    columns, frames, card, rows = make(folders, size)
    assert len(frames) == len(columns["rewards"]) == rows == 2 * vd4rl.LENGTH
    env = dmc.DmcPixelEnv(WALKER, size)
    for number in (0, 1):
        env.reset(number)
        for row in range(number * vd4rl.LENGTH, number * vd4rl.LENGTH + STEPS - 1):
            assert np.array_equal(frames[row], env.frame()), row
            reward, ended, cut = env.step(columns["actions"][row])
            assert reward == pytest.approx(columns["rewards"][row])
            assert not ended
            assert not cut
    env.close()
    assert np.flatnonzero(columns["timeouts"]).tolist() == [500, 1001]
    assert not columns["terminals"].any()
    assert card["episodes"] == 2
    returns = [float(one["reward"][1:].sum()) for one in episodes[size]]
    assert card["return"]["mean"] == pytest.approx(np.mean(returns), rel=1e-5)
    assert card["normalized_score_mean"] == pytest.approx(np.mean(returns) / 10, rel=1e-5)


def test_an_episode_that_ended_for_good_has_no_row_behind_its_end(episodes, folders):
    def ended(arrays):
        arrays["discount"] = arrays["discount"].copy()
        arrays["discount"][-1] = 0

    write(folders, episodes, 64, ended)
    columns, frames, card, _ = make(folders, 64)
    assert np.flatnonzero(columns["terminals"]).tolist() == [499]
    assert np.flatnonzero(columns["timeouts"]).tolist() == [1000]
    assert len(frames) == 1001
    assert np.array_equal(frames[500], episodes[64][1]["image"][0])
    assert card["episodes"] == 2


def test_what_a_reset_books_is_not_read(episodes, folders):
    def unknown(arrays):
        arrays["reward"] = arrays["reward"].copy()
        arrays["reward"][0] = np.nan

    write(folders, episodes, 64, unknown)
    columns, *_ = make(folders, 64)
    assert np.isfinite(columns["rewards"]).all()


def refused(folders, episodes, size, change):
    path = write(folders, episodes, size, change)[0]
    with pytest.raises(UserError) as told:
        make(folders, size)
    assert str(path) in told.value.message
    assert "\n" not in told.value.message
    return told.value.message


@pytest.mark.parametrize("size", [64, 84])
def test_an_episode_of_500_rows_is_refused_by_name(size, episodes, folders):
    def shorten(arrays):
        arrays.update({key: values[:-1] for key, values in arrays.items()})

    rows = 500 if size == 64 else 1001
    assert f"has {rows} rows, and V-D4RL's episodes have 501" in refused(
        folders, episodes, size, shorten
    )


DAMAGES = {
    "missing": lambda arrays, key: arrays.pop(key),
    "short": lambda arrays, key: arrays.update({key: arrays[key][:-7]}),
    "scalar": lambda arrays, key: arrays.update({key: np.float32(1)}),
    "deep": lambda arrays, key: arrays.update({key: np.zeros((501, 2, 2, 2), np.float32)}),
    "text": lambda arrays, key: arrays.update({key: np.full(501, "x")}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("key", ["image", "action", "reward", "discount", "is_first", "is_last"])
def test_damage_in_an_npz_is_named_with_its_key(key, damage, episodes, folders):
    told = refused(folders, episodes, 64, lambda arrays: DAMAGES[damage](arrays, key))
    assert f"'{key}'" in told


@pytest.mark.parametrize("key", ["observation", "action", "reward", "discount", "step_type"])
def test_a_key_missing_from_an_hdf5_is_named(key, episodes, folders):
    assert f"no key '{key}'" in refused(folders, episodes, 84, lambda a: a.pop(key))


def test_a_reward_that_is_not_a_number_is_refused(episodes, folders):
    def change(arrays):
        arrays["reward"] = arrays["reward"].copy()
        arrays["reward"][7] = np.nan

    assert "'reward' is not a finite number in row 7" in refused(folders, episodes, 84, change)


def test_an_episode_that_begins_elsewhere_is_refused(episodes, folders):
    def change(arrays):
        arrays["step_type"] = np.roll(arrays["step_type"], 3)

    assert "'step_type' is 1 in row 0" in refused(folders, episodes, 84, change)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.sampled_from([64, 84]), cut=st.floats(0, 1), flip=st.booleans())
def test_a_shard_cut_short_or_with_a_flipped_byte_is_read_right_or_refused(
    size, cut, flip, shard_bytes, folders
):
    path = folders / ("x.npz" if size == 64 else "x.hdf5")
    data = bytearray(shard_bytes[size])
    place = int(cut * (len(data) - 1))
    if flip:
        data[place] ^= 255
    else:
        del data[place:]
    path.write_bytes(data)
    told = ""
    try:
        columns = vd4rl.read(path, size)
        assert sum(len(piece) for piece in vd4rl.pictures(path, size)) == len(columns["kept"])
    except UserError as error:
        told = error.message
    assert flip or str(path) in told
    assert "\n" not in told


@pytest.fixture(scope="session")
def shard_bytes(episodes, tmp_path_factory):
    return {
        size: write(tmp_path_factory.mktemp(str(size)), episodes, size)[0].read_bytes()
        for size in (64, 84)
    }


def test_one_bad_file_among_good_ones_is_not_skipped(episodes, folders):
    _, second = write(folders, episodes, 64)
    second.write_bytes(second.read_bytes()[:5000])
    with pytest.raises(UserError, match=second.name):
        make(folders, 64)


def test_files_that_are_not_here_say_where_to_put_them(folders, monkeypatch):
    identity = DataIdentity.of("vd4rl:distracting/walker_walk/expert", None, 84)
    told = vd4rl.lacking(identity)
    expected = folders / "vd4rl" / "distracting" / "walker_walk" / "expert" / "84px"
    assert told.startswith(f"{expected}: ")
    with pytest.raises(UserError, match="VD4RL_DIR"):
        vd4rl.fetch(identity, silent)
    monkeypatch.delenv("VD4RL_DIR")
    home = folders / "data" / "vd4rl" / "vd4rl_data"
    assert vd4rl.shard_folder(identity) == home / "distracting" / "walker_walk" / "expert" / "84px"


def test_other_sizes_are_refused(folders):
    with pytest.raises(UserError, match="84 or 64 pixels wide, not 48"):
        vd4rl.lacking(DataIdentity.of(WALKER, None, 48))
    with pytest.raises(UserError, match="84 or 64 pixels wide, not 48"):
        dmc.DmcPixelEnv(WALKER, 48)
    with pytest.raises(UserError, match="is no task of dm_control's suite"):
        dmc.DmcPixelEnv("vd4rl:main/walker_swim/medium", 64)


@pytest.mark.parametrize("task", ["walker_walk", "cheetah_run", "humanoid_walk"])
def test_the_environment_is_dm_controls_and_its_episode_its_seeds(task):
    """The shared camera's pictures are those of the environment's own, others drawing between."""
    env, other = (dmc.DmcPixelEnv(f"vd4rl:main/{task}/random", 64) for _ in range(2))
    assert (env.max_episode_steps, env.action_repeat) == (500, 2)
    plain = dmc.load(*dmc.task_of(env.env_id))
    plain.task.random.seed(5)
    plain.reset()
    other.reset(9)
    other.step(np.ones(other.action_dim))
    other.reset(5)
    env.reset(5)
    still = np.zeros(6)
    still[1] = 1.25
    for action in np.random.default_rng(0).uniform(-1, 1, (6, env.action_dim)):
        mujoco_camera.shared_camera("hopper", 16).frame(still)
        assert np.array_equal(env.frame(), plain.physics.render(64, 64, camera_id=0))
        assert np.array_equal(env.frame(), other.frame())
        expected = sum(plain.step(action).reward for _ in range(2))
        assert env.step(action) == other.step(action) == (pytest.approx(expected), False, False)
    for one in (env, other, plain):
        one.close()


def test_an_episode_is_cut_after_500_steps_and_scored_by_a_tenth():
    env = dmc.DmcPixelEnv(WALKER, 64)
    env.reset(0)
    cuts = [env.step(np.zeros(6))[1:] for _ in range(500)]
    assert cuts == [(False, False)] * 499 + [(False, True)]
    assert env.normalized_score(468.0) == pytest.approx(46.8)  # DrQ+BC on walker medium
    assert env.state().shape == env.proprio(()).shape == env.qpos_qvel()[0].shape == (0,)
    assert not env.can_reset
    env.close()
