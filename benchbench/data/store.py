"""Data sets on this machine: each made once, published whole, checked when opened.

``BENCHBENCH_DATA`` names the folder; the default is ``benchbench`` in the user's cache. A set is
``<folder>/<environment>/<identity key>/``. It is made under a temporary name beside its place,
synced, then renamed: what is there is whole. A lock lets one process make it while others wait.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from filelock import FileLock

from benchbench.core.errors import UserError
from benchbench.core.files import cache_folder, file_sha256, sync
from benchbench.data.catalogue import CARD, FILES, read_card
from benchbench.data.format import Progress
from benchbench.data.sources import maker_of
from benchbench.envs import simulators
from benchbench.suite.dataset_identity import DataIdentity

_COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts",
            "infos/qpos", "infos/qvel")  # fmt: skip

_FULL = (errno.ENOSPC, errno.EDQUOT)

VERIFIED = ".verified"
"""An empty file beside the set's: its hashes were checked once since it was made."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set. N rows, one a transition, in the order in which they happened."""

    frames: np.ndarray
    """(N, size, size, 3) uint8, memory-mapped; frame i shows the state of row i."""
    states: np.ndarray
    """(N, D) float32, the simulator's own observation; D is 0 where the source has none."""
    actions: np.ndarray
    """(N, A) float32."""
    rewards: np.ndarray
    """(N,) float32, as the environment gives them."""
    terminals: np.ndarray
    """(N,) bool: the episode ended here for good."""
    timeouts: np.ndarray
    """(N,) bool: the episode was cut here; nothing follows in it, though it had not ended."""
    qpos: np.ndarray
    """(N, Q) float32, the simulator's position; Q is 0 where the source has none."""
    qvel: np.ndarray
    """(N, V) float32, the simulator's velocity."""
    state_names: tuple[str, ...]
    card: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The fingerprint of all the set's files."""
        return str(self.card["sha256"])

    @property
    def episode_ends(self) -> np.ndarray:
        """(N,) bool: the last rows of episodes, ended or cut."""
        return self.terminals | self.timeouts

    @property
    def episode(self) -> np.ndarray:
        """(N,) int64: which episode a row is of, from 0."""
        return np.concatenate([[0], np.cumsum(self.episode_ends[:-1])])

    @property
    def step_in_episode(self) -> np.ndarray:
        """(N,) int64: how many rows of its episode stand before a row."""
        episode = self.episode
        first = np.searchsorted(episode, np.arange(episode[-1] + 1))
        return np.arange(len(episode)) - first[episode]

    def __len__(self) -> int:
        return len(self.rewards)


def set_folder(identity: DataIdentity) -> Path:
    """Where the set is once it is made."""
    return cache_folder() / identity.folder / identity.key


def is_here(identity: DataIdentity) -> bool:
    """Whether the set is made, whole, on this machine."""
    return set_folder(identity).is_dir()


def lacking(identity: DataIdentity) -> str | None:
    """Why the set cannot be used here, and the cure, in a sentence; None if it can.

    Either its environment's simulator is not installed, or the set is neither here nor can be made.
    """
    if (missing := simulators.lacking(identity.env)) is not None:
        return missing
    return None if is_here(identity) else maker_of(identity).lacking(identity)


def prepare(identity: DataIdentity, progress: Progress) -> Path:
    """Make the set unless it is here; returns its folder.

    Of several processes one makes it and the others wait. ``progress`` is called with the rows done
    and the rows in all. Nothing is fetched. Raises :class:`UserError` where the set needs a file
    that is not here or is damaged, the folder cannot be written or the disk has no room.
    """
    folder = set_folder(identity)
    if folder.is_dir():
        return folder
    if (missing := lacking(identity)) is not None:
        raise UserError(missing)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{identity.key}.lock"):
            if not folder.is_dir():
                _make(identity, folder, progress)
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(identity, folder.parent, "needs more room than is") from None
        raise UserError(
            f"{error.filename or folder.parent}: {error.strerror or error}, so the data set of "
            f"{identity.env} cannot be made there; set BENCHBENCH_DATA to a folder of yours"
        ) from None
    return folder


def open_dataset(identity: DataIdentity, verify: bool = False) -> Dataset:
    """The set, with its frames memory-mapped.

    The files' sizes are checked each time, their hashes the first time after the set was made and
    whenever ``verify`` asks for it. Raises :class:`UserError` naming the file where one is missing
    or damaged, or where the set is not here.
    """
    folder = set_folder(identity)
    if not folder.is_dir():
        raise UserError(f"{folder}: the data set of {identity.env} is not here; prepare it first")
    return open_folder(folder, verify, identity)


def open_folder(
    folder: Path, verify: bool = False, identity: DataIdentity | None = None
) -> Dataset:
    """The set in a folder of the data folder's, of ``identity`` where that is known.

    Raises :class:`UserError` as :func:`open_dataset` does.
    """
    card = _read_card(folder, identity)
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise _damaged(path, "is missing")
        if path.stat().st_size != card["files"][name]["bytes"]:
            raise _damaged(path, "has another size than its card says")
    marker = folder / VERIFIED
    if verify or not marker.exists():
        for name in FILES:
            if file_sha256(folder / name) != card["files"][name]["sha256"]:
                marker.unlink(missing_ok=True)
                raise _damaged(folder / name, "has other bytes than its card says")
        _mark(marker)
    column = columns_of(folder)
    frames = _frames(folder / "frames.npy")
    if len(frames) != len(column["rewards"]):
        raise _damaged(folder / "frames.npy", "has other rows than transitions.hdf5")
    return Dataset(
        frames=frames,
        states=column["observations"],
        actions=column["actions"],
        rewards=column["rewards"],
        terminals=column["terminals"],
        timeouts=column["timeouts"],
        qpos=column["infos/qpos"],
        qvel=column["infos/qvel"],
        state_names=tuple(card["state_names"]),
        card=card,
    )


def room_for(identity: DataIdentity, rows: int) -> int:
    """About how many bytes a set of ``rows`` rows takes on disk."""
    return rows * (identity.size**2 * 3 + 512) + 2**20


def format_bytes(count: int) -> str:
    """So many bytes for a person, in MB or GB."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def split_episodes(dataset: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows held out, by whole episodes; each (n,) int64, ascending.

    ``share`` of the episodes, at least one, is held out. Raises :class:`UserError` where the set
    has only one episode.
    """
    episode = dataset.episode
    count = int(episode[-1]) + 1
    if count < 2:
        raise UserError(
            "the data set has a single episode, so none can be held out; take more data, or mark "
            "where its episodes end"
        )
    held_count = min(max(round(share * count), 1), count - 1)
    held = np.random.default_rng(seed).permutation(count)[:held_count]
    is_held = np.isin(episode, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def halve_episodes(
    dataset: Dataset, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two parts of the rows, by whole episodes; the second has the smaller half of them."""
    episode = dataset.episode[rows]
    episodes = rng.permutation(np.unique(episode))
    is_second = np.isin(episode, episodes[: len(episodes) // 2])
    return rows[~is_second], rows[is_second]


def _make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Under the lock: make the set, going on from what a killed process left, and publish it."""
    maker = maker_of(identity)
    draft = folder.with_name(f".{identity.key}-draft")
    if draft.exists() and not maker.RESUMES:
        shutil.rmtree(draft)
    _check_room(identity, maker.count(identity), draft)
    draft.mkdir(exist_ok=True)
    try:
        maker.make(identity, draft, progress)
        for path in (*draft.iterdir(), draft):
            sync(path)
        os.rename(draft, folder)
        sync(folder.parent)
    except Exception:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    except BaseException:  # stopped: one that can go on keeps what it has
        if not maker.RESUMES:
            shutil.rmtree(draft, ignore_errors=True)
        raise


def _check_room(identity: DataIdentity, rows: int, draft: Path) -> None:
    """Raise :class:`UserError` where the disk is too full for that many rows.

    What a killed maker left in ``draft`` has its room already.
    """
    needed = room_for(identity, rows)
    taken = sum(path.stat().st_blocks * 512 for path in draft.glob("*"))
    free = shutil.disk_usage(draft.parent).free
    if needed - taken > free:
        what = f"needs {format_bytes(needed - taken)} and {format_bytes(free)} are"
        raise _no_room(identity, draft.parent, what)


def _no_room(identity: DataIdentity, folder: Path, what: str) -> UserError:
    return UserError(
        f"{folder}: the data set of {identity.env} {what} free; make room, or set BENCHBENCH_DATA "
        "to another disk"
    )


def _read_card(folder: Path, identity: DataIdentity | None) -> dict[str, Any]:
    try:
        card = read_card(folder)
    except (OSError, ValueError):
        raise _damaged(folder / CARD, "is missing or cannot be read") from None
    if identity is not None and card["identity"] != identity.settings():
        raise _damaged(folder / CARD, "describes another data set")
    return card


def columns_of(folder: Path) -> dict[str, np.ndarray]:
    """A set's columns by name, each with as many rows. Raises :class:`UserError`."""
    path = folder / "transitions.hdf5"
    try:
        with h5py.File(path, "r") as file:
            columns = {name: np.asarray(file[name]) for name in _COLUMNS}
        if len({len(values) for values in columns.values()}) != 1:
            raise ValueError("rows")
    except Exception:  # h5py raises anything on bytes that make no sense
        raise _damaged(path, "cannot be read") from None
    return columns


def _frames(path: Path) -> np.ndarray:
    """The frames, mapped to be read only: else Linux refuses what is larger than its memory."""
    try:
        frames: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # as above
        raise _damaged(path, "cannot be read") from None
    return frames


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; delete the folder {path.parent} and prepare the set again")


def _mark(marker: Path) -> None:
    """Remember that the hashes fit, where the folder can be written."""
    try:
        marker.touch()
    except OSError:
        return


PREFETCH_SHARE = 0.25
"""Sets smaller than this share of the machine's memory are not prefetched: they stay cached."""


class ReadAhead:
    """Asks the system to prefetch frames of a mapped array, which it reads in parallel.

    Without it a mapped file is read one page fault at a time, each with the system's own
    read-ahead; for a set larger than memory, most of that is evicted before it is used.
    """

    def __init__(self, frames: np.memmap) -> None:
        assert frames.filename is not None
        self._file = os.open(frames.filename, os.O_RDONLY)
        self._start, self._each = frames.offset, frames.nbytes // len(frames)

    def ask(self, rows: np.ndarray) -> None:
        """Start reading these rows' frames; returns immediately."""
        for row in np.unique(rows).tolist():
            place = self._start + row * self._each
            os.posix_fadvise(self._file, place, self._each, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        os.close(self._file)


def read_ahead(frames: np.ndarray) -> ReadAhead | None:
    """A prefetcher for large mapped frames; None for others, and without ``posix_fadvise``."""
    if not isinstance(frames, np.memmap) or not hasattr(os, "posix_fadvise"):
        return None
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ReadAhead(frames) if frames.nbytes > PREFETCH_SHARE * memory else None
