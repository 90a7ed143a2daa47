"""What a row of a data set takes in memory: sets of two million rows are used within 2 GB.

Frames are mapped, so they are in none of these figures, which are of numpy's own memory.
"""

import functools
import tracemalloc

import h5py
import numpy as np
import pytest

from benchbench.data import arrays, store
from benchbench.data.returns import returns_to_go
from benchbench.data.sampler import Sampler
from benchbench.data.sources import d4rl_files
from benchbench.envs.mujoco import observation_of
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

SIZE = 32
BYTES_A_ROW = 2e9 / 2e6
"""A third of a frame of 32 pixels, and a twentieth of one of 84."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    """Else small files are read in one go."""
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(arrays, "PIECE_BYTES", 2**16)


def bytes_a_row(work, few=2_000, many=8_000):
    """By how much the peak of ``work(rows)`` grows with the rows."""
    peaks = []
    for rows in (few, few, many):  # the first time pays for what is imported and kept
        tracemalloc.start()
        work(rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[2] - peaks[1]) / (many - few)


def write_ant(path, rows):
    """The widest of D4RL's files."""
    rng = np.random.default_rng(0)
    qpos, qvel = (rng.normal(size=(rows, n)).astype(np.float32) for n in (15, 14))
    columns = {
        "infos/qpos": qpos,
        "infos/qvel": qvel,
        "observations": np.hstack([observation_of("ant", qpos, qvel), np.zeros((rows, 84))]),
        "actions": rng.uniform(-1, 1, (rows, 8)),
        "rewards": rng.normal(size=rows),
    }
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file[key] = values.astype(np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 100 == 99


def test_reading_d4rls_widest_file(tmp_path):
    for rows in (2_000, 8_000):
        write_ant(tmp_path / f"{rows}.hdf5", rows)
    assert bytes_a_row(lambda n: d4rl_files.read(tmp_path / f"{n}.hdf5", "ant")) < BYTES_A_ROW


def test_making_and_using_a_set(tmp_path):
    """Of states as wide as the ant's."""
    for rows in (2_000, 8_000):
        with h5py.File(tmp_path / f"{rows}.hdf5", "w") as file:
            file["frames"] = np.zeros((rows, SIZE, SIZE, 3), np.uint8)
            file["frames"][0, 0] = 200  # pictures that show nothing are refused
            file["states"] = np.random.default_rng(0).normal(size=(rows, 27)).astype(np.float32)
            file["actions"] = np.zeros((rows, 8), np.float32)
            file["rewards"] = np.ones(rows, np.float32)
            file["terminals"] = np.zeros(rows, bool)
            file["timeouts"] = np.arange(rows) % 100 == 99

    def identity(rows):
        return DataIdentity.of("mine", FileData(path=str(tmp_path / f"{rows}.hdf5")), SIZE, 1)

    def make(rows):
        draft = tmp_path / f"draft-{rows}"
        draft.mkdir(exist_ok=True)
        store.maker_of(identity(rows)).make(identity(rows), draft, lambda done, total: None)

    def use(rows, observation="pixels"):
        dataset = store.open_dataset(identity(rows))
        train, _ = store.split_episodes(dataset, 0.1, seed=0)
        sampler = Sampler(
            dataset, train, observation=observation, proprio=range(27), batch_size=16, stack=3,
            spacing=1, n_step=3, discount=0.99, seed=0,
        )  # fmt: skip
        returns_to_go(dataset, 0.99, sampler.reward_scale)
        sampler.sample()

    assert bytes_a_row(make) < BYTES_A_ROW
    for rows in (2_000, 8_000):
        store.prepare(identity(rows), lambda done, total: None)
    for observation in ("pixels", "state"):
        assert bytes_a_row(functools.partial(use, observation=observation)) < BYTES_A_ROW
