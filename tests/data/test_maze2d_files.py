"""D4RL's own Maze2D files: read in their exact layout, and refused by name where damaged."""

import h5py
import numpy as np
import pytest

from benchbench.core.errors import UserError
from benchbench.data.store import lacking, open_dataset, prepare
from benchbench.envs import make_pixel_env
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import D4RLData
from benchbench.suite.model import Suite

UMAZE = "maze2d-umaze-v1"
NAME = "maze2d-umaze-sparse-v1.hdf5"
ROWS = 1500


def quiet(done, total):
    pass


def rows_of(env_id, count=ROWS):
    """Columns as ``generate_maze2d_datasets.py`` writes them, relabelled for the task's goal.

    Where a target is reached the script stores the same observation once more, as here each 400
    rows.
    """
    env, random = make_pixel_env(env_id, 16), np.random.default_rng(0)
    env.reset(0)
    env.set_state(*env.qpos_qvel(), np.zeros(2))
    columns = {"observations": [], "actions": [], "infos/goal": []}
    state = env.state()
    for row in range(count):
        action = np.clip(random.standard_normal(2), -1, 1)
        columns["observations"].append(state)
        columns["actions"].append(action)
        columns["infos/goal"].append([1.0 + row // 400, 1.0])
        env.step(action)
        if row % 400 != 399:
            state = env.state()
    found = {key: np.array(values, np.float32) for key, values in columns.items()}
    found["infos/qpos"], found["infos/qvel"] = np.split(found["observations"], 2, axis=1)
    found["rewards"] = env.reward_at(found["observations"][:, :2]).astype(np.float32)
    found["terminals"] = np.arange(count) % 400 == 399
    return found


def write(path, columns):
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file.create_dataset(key, data=values, compression="gzip")
        file["metadata/algorithm"] = np.bytes_("waypoint")


@pytest.fixture
def published(tmp_path, monkeypatch):
    folder = tmp_path / "d4rl"
    folder.mkdir()
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder))
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    return folder / NAME


def identity(env_id=UMAZE, size=16):
    return DataIdentity.of(env_id, D4RLData(), size)


def test_the_rows_are_the_files_and_the_frames_are_painted_from_its_positions(published):
    columns = rows_of(UMAZE)
    write(published, columns)
    prepare(identity(), quiet)
    made = open_dataset(identity(), verify=True)
    for ours, key in ((made.states, "observations"), (made.actions, "actions"),
                      (made.rewards, "rewards"), (made.qpos, "infos/qpos")):  # fmt: skip
        assert np.array_equal(ours, columns[key])
    # No state of a maze is terminal: what the script marks are cuts, and the file's end is one.
    assert not made.terminals.any()
    assert np.flatnonzero(made.timeouts).tolist() == [399, 799, 1199, ROWS - 1]
    env = make_pixel_env(UMAZE, 16)
    for row in (0, 777, ROWS - 1):
        env.set_state(columns["infos/qpos"][row], columns["infos/qvel"][row], np.zeros(2))
        assert np.array_equal(made.frames[row], env.frame())
    card = made.card
    assert card["source_file"] == NAME
    assert card["terminals_taken_as_cuts"] == 3
    assert card["rewards_as_task"] == 1.0
    assert card["replay"]["median"] < 1e-6
    assert card["replay"]["max"] < 0.06  # behind an observation that was stored twice
    assert card["continuous"] is True
    assert card["identity"]["source"] == {"source": "d4rl"}


def test_a_file_without_marks_is_cut_each_episodes_length(published):
    columns = rows_of(UMAZE)
    columns["terminals"][:] = False
    del columns["infos/goal"]
    write(published, columns | {"timeouts": columns["terminals"]})
    prepare(identity(), quiet)
    made = open_dataset(identity())
    assert np.flatnonzero(made.timeouts).tolist() == [299, 599, 899, 1199, 1499]


def test_a_file_of_other_rewards_is_read_and_the_card_says_so(published):
    columns = rows_of(UMAZE)
    columns["rewards"] = np.exp(-columns["rewards"])
    write(published, columns)
    prepare(identity(), quiet)
    assert open_dataset(identity()).card["rewards_as_task"] == 0.0


def test_a_run_that_is_reset_at_its_cuts_is_not_continuous(published):
    columns = rows_of(UMAZE)
    columns["observations"][400:] += np.float32([0.5, 0.0, 0.0, 0.0])
    columns["infos/qpos"][400:] += np.float32([0.5, 0.0])
    write(published, columns)
    prepare(identity(), quiet)
    assert open_dataset(identity()).card["continuous"] is False


def test_a_cut_off_file_is_refused_by_name(published):
    write(published, rows_of(UMAZE))
    published.write_bytes(published.read_bytes()[: published.stat().st_size // 3])
    with pytest.raises(UserError, match=f"{NAME}: is neither HDF5 nor NPZ, or is cut short"):
        prepare(identity(), quiet)
    assert not (published.parents[1] / "data" / UMAZE).joinpath(identity().key).exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"infos/qpos": None}, "has no key 'infos/qpos'"),
        ({"actions": np.zeros((ROWS, 3))}, "the key 'actions' has the shape"),
        ({"rewards": np.zeros(9)}, "rows and 'rewards' 9"),
        ({"observations": np.full((ROWS, 4), np.nan)}, "'observations' is not a finite number"),
        ({"infos/qvel": np.ones((ROWS, 2))}, "do not belong to 'observations'"),
        ({"terminals": np.full(ROWS, 0.5)}, "'terminals' is neither true nor false"),
        ({"terminals": np.ones(ROWS, bool)}, "every episode is one row long"),
    ],
)
def test_a_damaged_key_is_refused_by_name(published, change, told):
    columns = {k: v for k, v in (rows_of(UMAZE) | change).items() if v is not None}
    write(published, columns)
    with pytest.raises(UserError) as refused:
        prepare(identity(), quiet)
    assert str(published) in refused.value.message
    assert told in refused.value.message


def test_a_missing_file_says_how_to_get_it_and_that_a_set_can_be_made_here(published):
    told = lacking(identity())
    assert str(published) in told
    assert "source: waypoint" in told
    assert lacking(DataIdentity.of(UMAZE, None, 16)) is None


def test_a_suite_may_name_either_source_and_a_repeat_only_with_the_recipe():
    def suite(**env):
        return Suite.model_validate(
            {"name": "x", "seeds": 1, "variants": ["after"], "envs": [{"id": UMAZE, **env}]}
        )

    assert suite().envs[0].data is None
    assert suite(data={"source": "d4rl"}).envs[0].data == D4RLData()
    suite(action_repeat=2)
    with pytest.raises(ValueError, match="hold 1 simulator steps a row"):
        suite(data={"source": "d4rl"}, action_repeat=2)
    with pytest.raises(ValueError, match="write waypoint or d4rl"):
        suite(data={"source": "vd4rl"})
