"""The source ``vd4rl``: V-D4RL's own files (Lu et al. 2022), frames and all.

They are in ``VD4RL_DIR``, by default ``vd4rl/vd4rl_data`` in the data folder, as their authors have
them: ``{main,distracting}/<task>/<kind>/84px/*.hdf5`` and ``…/64px/*.npz``. Which of the two is
read follows from ``pixels.size``.

An episode has 501 rows there. Its row t holds the frame after the t-th action, and that action and
its reward; row 0 is the reset. Here a row holds the frame *before* its action: row t takes action
and reward of V-D4RL's row t + 1. The episode's last frame has no action: it is a row of its own
that is cut, or, where the discount says that the episode ended for good, it is left out and the row
before is a terminal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.core.files import cache_folder, file_sha256
from benchbench.data.arrays import ArrayFile, check_columns
from benchbench.data.format import Draft, Progress
from benchbench.envs.dmc import check_size
from benchbench.suite.dataset_identity import DataIdentity

RESUMES = False

LENGTH = 501
"""Rows of an episode: the reset and 500 steps."""

_PATTERNS = {84: "*.hdf5", 64: "*.npz"}
_PICTURES = {84: "observation", 64: "image"}
_MARKS = {84: ("step_type",), 64: ("is_first", "is_last")}
_KEYS = ("action", "reward", "discount")


def lacking(identity: DataIdentity) -> str | None:
    """Whether the folder or its files are missing. Raises :class:`UserError` on another size."""
    check_size(identity.env, identity.size)
    if shards(identity):
        return None
    return (
        f"{shard_folder(identity)}: V-D4RL's files of {identity.env} are missing; get them as "
        "https://github.com/conglu1997/v-d4rl says, and set VD4RL_DIR to the folder that holds "
        "'main' and 'distracting'"
    )


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return "V-D4RL's own files, got by hand from github.com/conglu1997/v-d4rl"


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """Raise :class:`UserError`: they are in repositories that take a browser or git-lfs."""
    raise UserError(str(lacking(identity)))


def count(identity: DataIdentity) -> int:
    """Rows of all files."""
    total = 0
    for path in shards(identity):
        with ArrayFile(path) as file:
            shape, _ = file.shape("reward")
            total += shape[0] if shape else 0
    return total


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check every file and copy its episodes, in the order of the files' names.

    Raises :class:`UserError` naming the first file that is damaged or of another length: none is
    skipped.
    """
    paths = shards(identity)
    shard_columns = [read(path, identity.size) for path in paths]
    width = shard_columns[0]["actions"].shape[1]
    for path, columns in zip(paths, shard_columns, strict=True):
        if columns["actions"].shape[1] != width:
            raise UserError(
                f"{path}: the key 'action' has {columns['actions'].shape[1]} numbers a row and "
                f"that of {paths[0].name} {width}; the files are of different tasks"
            )
    total = sum(len(columns["rewards"]) for columns in shard_columns)
    widths = {"observations": 0, "actions": width, "infos/qpos": 0, "infos/qvel": 0}
    draft = Draft(identity, folder, total, widths)
    done, hashes = 0, hashlib.sha256()
    for path, columns in zip(paths, shard_columns, strict=True):
        hashes.update(f"{path.name} {file_sha256(path)}\n".encode())
        kept = columns.pop("kept")
        rows = slice(done, done + len(columns["rewards"]))
        for key, values in columns.items():
            draft.columns[key][rows] = values
        first = 0
        for piece in pictures(path, identity.size):
            part = piece[kept[first : first + len(piece)]]
            draft.frames[done : done + len(part)] = part
            done += len(part)
            first += len(piece)
            progress(done, total)
    draft.finish(
        (),
        lambda return_: return_ / 10,
        ("numpy",),
        files_read=len(paths),
        source_sha256=hashes.hexdigest(),
        evaluated="without distractions",
    )


def read(path: Path, size: int) -> dict[str, np.ndarray]:
    """A file's rows but for the frames, as ours, and which of its frames they are of.

    ``actions`` (n, A), ``rewards``, ``terminals`` and ``timeouts`` (n,), and ``kept`` (N,) bool of
    the file's N rows. Raises :class:`UserError` naming the file and the key.
    """
    picture, marks = _PICTURES[size], _MARKS[size]
    with ArrayFile(path) as file:
        shape, dtype = file.shape(picture)
        wide = (3, size, size) if size == 84 else (size, size, 3)
        if dtype != np.uint8 or shape[1:] != wide:
            raise UserError(
                f"{path}: the key '{picture}' holds {dtype} of the shape {shape}, and should hold "
                f"uint8 of N x {' x '.join(map(str, wide))}"
            )
        rows = shape[0]
        if rows == 0 or rows % LENGTH or (size == 64 and rows != LENGTH):
            raise UserError(
                f"{path}: the key '{picture}' has {rows} rows, and V-D4RL's episodes have "
                f"{LENGTH}; get the file again, or take it out of the folder to do without it"
            )
        columns = {}
        for key in (*_KEYS, *marks):
            values = file.read(key)
            is_column = values.ndim == 2 and values.shape[1] == 1 and key != "action"
            columns[key] = values[:, 0] if is_column else values
    for key, values in columns.items():
        if len(values) != rows:
            raise UserError(
                f"{path}: the key '{key}' has {len(values)} rows and '{picture}' {rows}; "
                "get the file again"
            )
    for key in ("action", "reward"):
        columns[key] = np.array(columns[key])
        columns[key][::LENGTH] = 0  # of the reset, whose action and reward are of no step
    shapes = {"action": (None, None), **dict.fromkeys(("reward", "discount", *marks), (None,))}
    check_columns(path, columns, shapes, rows="reward")
    _check_marks(path, columns)
    return _shifted(columns)


def _check_marks(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Refuse episodes that begin or end elsewhere than each :data:`LENGTH` rows."""
    step = np.arange(len(columns["reward"])) % LENGTH
    first, last = step == 0, step == LENGTH - 1
    expected = {"step_type": np.where(first, 0, np.where(last, 2, 1)),
                "is_first": first, "is_last": last}  # fmt: skip
    for key in columns.keys() & expected.keys():
        wrong = np.flatnonzero(columns[key] != expected[key])
        if len(wrong):
            raise UserError(
                f"{path}: the key '{key}' is {columns[key][wrong[0]]} in row {wrong[0]}, but "
                f"V-D4RL's episodes begin and end each {LENGTH} rows; get the file again"
            )


def _shifted(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows that hold the frame before their action, from rows that hold the frame after it."""
    last = np.arange(len(columns["reward"])) % LENGTH == LENGTH - 1
    actions = np.roll(columns["action"], -1, axis=0)
    rewards = np.roll(columns["reward"], -1)
    actions[last], rewards[last] = 0, 0
    ended = last & (columns["discount"] == 0)
    terminals = np.roll(ended, -1)
    terminals[last] = False
    kept = ~ended
    return {
        "actions": actions[kept].astype(np.float32),
        "rewards": rewards[kept].astype(np.float32),
        "terminals": terminals[kept],
        "timeouts": (last & ~ended)[kept],
        "kept": kept,
    }


def pictures(path: Path, size: int) -> Iterator[np.ndarray]:
    """The file's frames in pieces, (n, size, size, 3) uint8."""
    with ArrayFile(path) as file:
        for piece in file.pieces(_PICTURES[size]):
            yield piece.transpose(0, 2, 3, 1) if size == 84 else piece


def shard_folder(identity: DataIdentity) -> Path:
    """Where the files of a set are."""
    stated = os.environ.get("VD4RL_DIR")
    home = Path(stated).expanduser() if stated else cache_folder() / "vd4rl" / "vd4rl_data"
    return home / identity.env.removeprefix("vd4rl:") / f"{identity.size}px"


def shards(identity: DataIdentity) -> list[Path]:
    """The files of a set, by name."""
    return sorted(shard_folder(identity).glob(_PATTERNS[identity.size]))
