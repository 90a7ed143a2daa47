"""A disk that is too small for a data set: one sentence, and nothing left that looks whole."""

import os
import subprocess
import sys

import numpy as np
import pytest

from benchbench.core.errors import UserError
from benchbench.data import store
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

SIZE = 32

PROGRAM = f"""
import sys
from collections import namedtuple
from benchbench.data import store
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.core.errors import UserError
from benchbench.suite.environments import FileData
if sys.argv[2] == "late":  # others fill the disk after it was looked at
    usage = namedtuple("usage", "total used free")(1e12, 0, 1e12)
    store.shutil.disk_usage = lambda path: usage
identity = DataIdentity.of("mine", FileData(path=sys.argv[1]), {SIZE}, 1)
try:
    store.prepare(identity, lambda done, total: None)
except UserError as error:
    print(error.message)
"""


def write(path, rows, wide=1):
    """A file of one's own, most of which is zeros that take no room."""
    frames = np.zeros((rows, SIZE, SIZE, 3), np.uint8)
    # A line that moves: pictures that show nothing are refused or warned of.
    frames[np.arange(rows), np.arange(rows) % SIZE] = 200
    np.savez_compressed(
        path,
        frames=frames,
        states=np.zeros((rows, wide), np.float32),
        actions=np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / (2 * rows),
        rewards=np.arange(rows, dtype=np.float32) % 2,
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(rows) % 50 == 49,
    )


def left_behind(disk):
    return [path for path in disk.glob("mine/*") if not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("rows", "wide", "when", "told"),
    [
        (4000, 1, "before", "needs 15.4 MB and 8.4 MB are free"),
        (4000, 1, "late", "needs more room than is free"),  # for its frames
        (2000, 2000, "late", "needs more room than is free"),  # for the other columns
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    rows, wide, when, told, small_disk, tmp_path
):
    """In a process of its own: mapped memory that has no room on the disk ends the process."""
    write(tmp_path / "mine.npz", rows, wide)
    maker = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "mine.npz"), when],
        env=os.environ | {"BENCHBENCH_DATA": str(small_disk)}, capture_output=True, text=True,
    )  # fmt: skip
    assert maker.returncode == 0, maker
    assert maker.stderr == ""
    (said,) = maker.stdout.splitlines()
    assert said.startswith(f"{small_disk / 'mine'}: the data set of mine {told}; make room")
    assert left_behind(small_disk) == []


def test_after_room_was_made_the_set_is_made(small_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(small_disk))
    write(tmp_path / "mine.npz", 1000)
    identity = DataIdentity.of("mine", FileData(path=str(tmp_path / "mine.npz")), SIZE, 1)
    (small_disk / "filler").write_bytes(bytes(6 * 2**20))
    with pytest.raises(UserError, match=r"needs 4\.6 MB and 2\.1 MB are free"):
        store.prepare(identity, lambda done, total: None)
    (small_disk / "filler").unlink()
    store.prepare(identity, lambda done, total: None)
    assert len(store.open_dataset(identity, verify=True)) == 1000


def test_what_a_killed_maker_left_counts_as_room_it_has(small_disk, tmp_path, monkeypatch):
    """Else a set that fills most of a disk could not be gone on with."""
    monkeypatch.setenv("BENCHBENCH_DATA", str(small_disk))
    write(tmp_path / "mine.npz", 1500)
    identity = DataIdentity.of("mine", FileData(path=str(tmp_path / "mine.npz")), SIZE, 1)
    monkeypatch.setattr("benchbench.data.sources.own_file.RESUMES", True)
    draft = store.set_folder(identity).with_name(f".{identity.key}-draft")
    draft.mkdir(parents=True)
    (draft / "frames.npy").write_bytes(bytes(1500 * SIZE * SIZE * 3))
    store.prepare(identity, lambda done, total: None)
    assert len(store.open_dataset(identity)) == 1500
