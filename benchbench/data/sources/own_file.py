"""The source ``file``: one HDF5 or NPZ file of the user's own.

Each key has N rows, one a step, in the order in which they happened:

- ``frames`` (N, size, size, 3) uint8: the picture before the row's action, unstacked;
- ``actions`` (N, A) and ``rewards`` (N,);
- ``terminals`` (N,): the episode ended here for good; ``timeouts`` (N,): it was cut here;
- if known, ``states`` (N, D), and the names of its columns as ``state_names``;
- for an environment that benchbench has, ``infos/qpos`` and ``infos/qvel``, for roll-outs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import (
    ArrayFile,
    Shape,
    check_columns,
    check_episodes,
    check_flags,
)
from benchbench.data.format import Draft, Progress
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

RESUMES = False

_SHAPES: dict[str, Shape] = {
    "actions": (None, None),
    "rewards": (None,),
    "terminals": (None,),
    "timeouts": (None,),
    "states": (None, None),
    "infos/qpos": (None, None),
    "infos/qvel": (None, None),
}
_OPTIONAL = ("states", "infos/qpos", "infos/qvel")


def lacking(identity: DataIdentity) -> str | None:
    """Whether the file is missing."""
    path = file_path(identity)
    if path.is_file():
        return None
    return f"{path}: the data file of {identity.env} is missing; check data.path in the suite"


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return f"your file {file_path(identity)}"


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """Nothing: only the user has it."""


def count(identity: DataIdentity) -> int:
    """Rows of the file."""
    with ArrayFile(file_path(identity)) as file:
        shape, _ = file.shape("rewards")
        return shape[0] if shape else 0


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check the file and copy it into our layout, a piece at a time.

    Raises :class:`UserError` naming the file and the key where something is missing or wrong.
    """
    path = file_path(identity)
    with ArrayFile(path) as file:
        there = file.names
        keys = [key for key in _SHAPES if key not in _OPTIONAL or key in there]
        columns = {key: file.read(key) for key in keys}
        check_columns(path, columns, _SHAPES)
        check_flags(path, columns)
        terminals = columns["terminals"].astype(bool)
        timeouts = columns["timeouts"].astype(bool) & ~terminals
        timeouts[-1] = not terminals[-1]
        check_episodes(path, terminals, timeouts)
        _check_frames(file, identity, len(terminals))
        width = {key: columns[key].shape[1] if key in columns else 0 for key in _OPTIONAL}
        names = _state_names(file, path, width["states"])
        draft = Draft(
            identity,
            folder,
            len(terminals),
            {
                "observations": width["states"],
                "actions": columns["actions"].shape[1],
                "infos/qpos": width["infos/qpos"],
                "infos/qvel": width["infos/qvel"],
            },
        )
        for key in ("actions", "rewards", "infos/qpos", "infos/qvel"):
            if key in columns:
                draft.columns[key][:] = columns[key]
        if "states" in columns:
            draft.columns["observations"][:] = columns["states"]
        draft.columns["terminals"][:] = terminals
        draft.columns["timeouts"][:] = timeouts
        done = 0
        for piece in file.pieces("frames"):
            draft.frames[done : done + len(piece)] = piece
            done += len(piece)
            progress(done, len(terminals))
    draft.finish(names, None, ("numpy",), source_sha256=identity.content)


def file_path(identity: DataIdentity) -> Path:
    """The user's file."""
    assert isinstance(identity.source, FileData)
    return Path(identity.source.path).expanduser()


def _check_frames(file: ArrayFile, identity: DataIdentity, rows: int) -> None:
    shape, dtype = file.shape("frames")
    if dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise UserError(
            f"{file.path}: the key 'frames' holds {dtype} of the shape {shape}, and should hold "
            "uint8 of N x size x size x 3, one unstacked picture a row"
        )
    if shape[1] != identity.size:
        raise UserError(
            f"{file.path}: the key 'frames' has pictures of {shape[1]} pixels; write pixels: "
            f"{{size: {shape[1]}}} for {identity.env} in the suite"
        )
    if shape[0] != rows:
        raise UserError(
            f"{file.path}: the key 'frames' has {shape[0]} rows and 'rewards' {rows}; "
            "a row is one step, and every key has all of them"
        )


def _state_names(file: ArrayFile, path: Path, count: int) -> tuple[str, ...]:
    if "state_names" not in file.names:
        return tuple(f"state {column}" for column in range(count))
    names = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in file.read("state_names")
    )
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"{path}: the key 'state_names' has {len(set(names))} different names for {count} "
            "columns of 'states'"
        )
    return names
