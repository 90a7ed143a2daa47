"""A data set while it is made: its three files, under one layout whatever the source.

``transitions.hdf5`` holds the columns under D4RL's key names, ``frames.npy`` the picture of each
row's state, ``card.json`` says what they are. The same identity gives the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from benchbench.core.files import DRAFT, file_sha256, from_json, write_text
from benchbench.data.catalogue import CARD, FILES
from benchbench.suite.dataset_identity import DataIdentity

Progress = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""


class Draft:
    """The files of a set of ``count`` rows in ``folder``.

    Fill :attr:`columns` and :attr:`frames`, then :meth:`finish`. ``widths`` are the numbers in a
    row of ``observations``, ``actions``, ``infos/qpos``, ``infos/qvel`` and whatever other float32
    column the source has; a width of 0 says that the source does not know it.
    """

    def __init__(
        self, identity: DataIdentity, folder: Path, count: int, widths: Mapping[str, int]
    ) -> None:
        self.identity, self.folder, self.count = identity, folder, count
        wide = {name: np.zeros((count, width), np.float32) for name, width in widths.items()}
        self.columns: dict[str, np.ndarray] = {
            "observations": wide.pop("observations"),
            "actions": wide.pop("actions"),
            "rewards": np.zeros(count, np.float32),
            "terminals": np.zeros(count, bool),
            "timeouts": np.zeros(count, bool),
            **wide,
        }
        shape = (count, identity.size, identity.size, 3)
        self.frames = _frames(folder / "frames.npy", shape)

    def finish(
        self,
        state_names: Sequence[str],
        score: Callable[[float], float] | None,
        packages: Sequence[str],
        *,
        continuous: bool = False,
        last_is_whole: bool = True,
        **more: object,
    ) -> None:
        """Write the columns and the card; the frames are flushed.

        ``score`` gives the normalised score of a return, where there is one, ``packages`` are those
        that decide the set's bytes. ``continuous`` says that the run continues across its cuts, as
        nothing is reset there; ``last_is_whole``, that the last episode was not just broken off.
        The entries of ``more`` are copied into the card unchanged.
        """
        self.frames.flush()
        del self.frames
        with h5py.File(self.folder / "transitions.hdf5", "w") as file:
            for name, values in self.columns.items():
                file.create_dataset(name, data=values, track_times=False)
        ends = self.columns["terminals"] | self.columns["timeouts"]
        episodes = int(ends[:-1].sum()) + 1
        returns = episode_returns(self.columns["rewards"], ends)
        if not last_is_whole and episodes > 1:
            returns = returns[: episodes - 1]
        hashes = {name: file_sha256(self.folder / name) for name in FILES}
        together = "\n".join(f"{name} {digest}" for name, digest in hashes.items())
        mean = float(returns.mean())
        card = {
            "identity": self.identity.settings(),
            "key": self.identity.key,
            "transitions": self.count,
            "episodes": episodes,
            "return": {"mean": mean, "min": float(returns.min()), "max": float(returns.max())},
            "normalized_score_mean": score(mean) if score else None,
            "state_names": list(state_names),
            "continuous": continuous,
            **more,
            "files": {
                name: {"sha256": digest, "bytes": (self.folder / name).stat().st_size}
                for name, digest in hashes.items()
            },
            "sha256": hashlib.sha256(together.encode()).hexdigest(),
            "versions": _versions(packages),
        }
        (self.folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages; PyBullet's under the name that it is installed by."""
    found: dict[str, str] = {}
    for name in packages:
        names = (name, f"{name}-arm64") if name == "pybullet" else (name,)
        found[name] = next(version for one in names if (version := _version(one)) is not None)
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _frames(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """The file to draw into: what a killed maker left, where it fits, else a new one.

    Raises ``OSError`` where the disk has no room for all of it.
    """
    try:
        frames = np.lib.format.open_memmap(path, "r+")
        if frames.shape != shape or frames.dtype != np.uint8:
            raise ValueError("of another set")
    except (OSError, ValueError):
        frames = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    _take_room(path)
    return frames


def _take_room(path: Path) -> None:
    """Have the disk set the whole file aside, where it can.

    Else it fills up while frames are written to mapped memory, and that ends the process (SIGBUS).
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise


def episode_returns(rewards: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Undiscounted return of each episode (E,) float64, from rewards and last rows (N,)."""
    starts = np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1])
    sums: np.ndarray = np.add.reduceat(rewards.astype(np.float64), starts)
    return sums


_RECORD = "drawn.json"
"""How many frames are drawn, and of which positions; gone once all are."""


def draw_rows(body: str, qpos: np.ndarray, folder: Path, progress: Progress) -> None:
    """Draw a frame of ``body`` at each of ``qpos`` (N, nq) into the folder's ``frames.npy``.

    Frames that a killed maker is known to have drawn of the same positions stay as they are. Raises
    as :func:`benchbench.envs.mujoco_draw.draw_frames` does.
    """
    from benchbench.envs.mujoco_draw import draw_frames

    record = folder / _RECORD
    of = hashlib.sha256(np.ascontiguousarray(qpos, np.float32).tobytes()).hexdigest()

    def note(done: int, total: int) -> None:
        write_text(record, json.dumps({"rows": done, "of": of}), synced=False)
        progress(done, total)

    drawn = _drawn(record, of)
    if drawn < len(qpos):
        draw_frames(body, qpos, folder / "frames.npy", note, first=drawn)
    for left in (record, *folder.glob(f"{DRAFT}*")):
        left.unlink(missing_ok=True)


def _drawn(record: Path, of: str) -> int:
    try:
        told = from_json(record.read_text(encoding="utf-8"))
        return int(told["rows"]) if told["of"] == of else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
