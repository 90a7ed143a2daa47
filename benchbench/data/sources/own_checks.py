"""What can be wrong with pictures, actions and ends of a data set of one's own, and its cure."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import ArrayFile, refuse_other_length
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData
from benchbench.suite.pixels import LARGEST, SMALLEST

log = logging.getLogger(__name__)

STATES = ("observations", "observation", "obs", "state", "observation.state", "qpos")
"""What others call columns that may be states."""

REWARDS = ("reward", "rews", "rew", "r", "next.reward", "next_rewards")
"""What others call the rewards."""

SMALL = 8
"""Pixels: no picture of a camera has shorter sides."""

DIM = 16
"""Of 255 levels: pictures that use no more are probably on another scale, or of one thing."""

_CAST = {0, 1, 255}
"""The levels of pictures in [-1, 1] that were cast to bytes."""

JUMP = 10
"""A step this many times the ordinary one, after an end, is a reset."""


def check_frames(file: ArrayFile, identity: DataIdentity, rows: int) -> None:
    """Refuse frames that are no (N, H, W, 3) uint8 of the suite's size, with the line that mends.

    With ``fit`` any height and width will do. Raises :class:`UserError`.
    """
    shape, dtype = file.shape("frames")
    what = f"{file.path}: the key 'frames' holds {dtype} of the shape {shape}"
    if cure := _cure_of(shape, dtype, file.shape("actions")[0]):
        raise UserError(
            f"{what}, and should hold uint8 of N x size x size x 3, one unstacked picture a row; "
            f"{cure}"
        )
    assert isinstance(identity.source, FileData)
    if identity.source.fit is None:
        if shape[1] != shape[2]:
            raise UserError(
                f"{what}, which are not square; write fit: crop, pad or stretch into its data in "
                "the suite"
            )
        if shape[1] != identity.size:
            size = f"pixels: {{size: {shape[1]}}} for {identity.env} in the suite, or "
            raise UserError(
                f"{file.path}: the key 'frames' has pictures of {shape[1]} pixels; write "
                f"{size if SMALLEST <= shape[1] <= LARGEST else ''}fit: stretch into its data, "
                "which resizes them"
            )
    refuse_other_length(file, "frames", "actions", rows)


def _cure_of(shape: tuple[int, ...], dtype: np.dtype, actions: tuple[int, ...]) -> str | None:
    """The line of numpy that makes such an array frames; None where it is of the right kind.

    ``actions`` is the shape of the actions.
    """
    several = len(shape) == 5 and shape[1] > 1
    if several and (actions[:2] == shape[:2] or actions[:1] == (shape[0] * shape[1],)):
        return "of episodes of equal length write frames = frames.reshape(-1, *frames.shape[2:])"
    if len(shape) == 5:
        return "of several cameras or steps a row take one: frames = frames[:, -1]"
    if len(shape) == 1 and dtype.kind in "OSUV":
        return "of files' names or compressed pictures, write np.stack([imageio.v3.imread(…), …])"
    if len(shape) == 2 and (side := math.isqrt(shape[1] // 3)) and 3 * side**2 == shape[1]:
        return f"of flat pictures write frames = frames.reshape(-1, {side}, {side}, 3)"
    if len(shape) not in (3, 4) or 0 in shape:
        return "each row should be one picture"
    if len(shape) == 3:
        return "gray pictures take frames = np.repeat(frames[..., None], 3, axis=-1)"
    channels = shape[3]
    if channels not in (1, 2, 3, 4) and shape[1] in (1, 3, 4):
        return "channels stand first: frames = frames.transpose(0, 2, 3, 1)"
    if shape[2] == channels > shape[1] and shape[1] % 3 == 0:
        return (
            "channels stand first, of stacked pictures: keep the newest, "
            "frames = frames[:, -3:].transpose(0, 2, 3, 1)"
        )
    if channels == 1:
        return "gray pictures take frames = np.repeat(frames, 3, axis=-1)"
    if channels == 4:
        return (
            "leave the fourth channel (alpha) out: frames = frames[..., :3]; of four stacked gray "
            "pictures keep the newest: frames = np.repeat(frames[..., -1:], 3, axis=-1)"
        )
    if channels != 3 and channels % 3 == 0:
        return "of stacked pictures keep the newest: frames = frames[..., -3:]"
    if channels != 3:
        return f"{channels} channels are no colours; write red, green and blue"
    if dtype.kind == "f":
        return (
            "of floats in [0, 1] write frames = (255 * frames).round().astype(np.uint8), of floats "
            "in [0, 255] frames.round().astype(np.uint8), in [-1, 1] (127.5 * (frames + 1)) so"
        )
    if dtype.kind == "b":
        return "write frames = 255 * frames.astype(np.uint8)"
    if dtype == np.int8:
        return "bytes that were taken for signed ones are frames = frames.view(np.uint8)"
    if dtype == np.uint16:
        return (
            "of 16 bits write frames = (frames >> 8).astype(np.uint8), of numbers up to 255 "
            "frames.astype(np.uint8)"
        )
    if dtype != np.uint8:
        return "write frames = frames.clip(0, 255).astype(np.uint8)"
    return None


class Seen:
    """What was seen of the pictures as they went by: :meth:`judge` says what is wrong with them."""

    def __init__(self) -> None:
        self._low, self._high = np.empty(0, np.uint8), np.empty(0, np.uint8)
        self._levels: set[int] = set()
        """The first few levels that occur."""
        self._flat = self._count = 0

    def add(self, frames: np.ndarray) -> None:
        """Look at pictures (n, H, W, 3), of the same shape each time."""
        if not len(frames):
            return
        low, high = frames.min(0), frames.max(0)
        first = not self._count
        self._low = low if first else np.minimum(self._low, low)
        self._high = high if first else np.maximum(self._high, high)
        if len(self._levels) <= len(_CAST):
            self._levels |= set(np.unique(frames).tolist())
        rows = frames.reshape(len(frames), -1)
        self._flat += int((rows.min(1) == rows.max(1)).sum())
        self._count += len(frames)

    def judge(self, path: Path) -> None:
        """Raise :class:`UserError` where the pictures show nothing; warn where they show little."""
        what = f"{path}: the key 'frames' shows nothing: "
        least, most = int(self._low.min()), int(self._high.max())
        moved = int((self._high - self._low).max())
        if most == least:
            raise UserError(f"{what}every channel of every pixel is {most}; draw it again")
        if most <= 1:
            raise UserError(
                f"{what}it holds only 0 and 1 of 255; pictures in [0, 1] lose all but that as "
                "uint8: write frames = (255 * frames).round().astype(np.uint8) from the floats"
            )
        if not moved:
            raise UserError(f"{what}all of its pictures are the same; draw it again")
        if {1, 255} <= self._levels <= _CAST:
            log.warning(
                "%s: the key 'frames' holds only 0, 1 and 255, which is all that pictures in "
                "[-1, 1] keep as uint8: write frames = (127.5 * (frames + 1)).round()"
                ".astype(np.uint8) from the floats",
                path,
            )
        elif most <= DIM:
            log.warning(
                "%s: the key 'frames' goes only from %d to %d of 255; pictures on another scale "
                "take frames = (frames * (255 / %d)).round().astype(np.uint8)",
                path, least, most, most,
            )  # fmt: skip
        elif moved <= DIM:
            log.warning(
                "%s: no pixel of 'frames' changes by more than %d of 255 levels; is it the camera "
                "that sees the task?",
                path, moved,
            )  # fmt: skip
        if self._flat:
            log.warning(
                "%s: %d of %d pictures of 'frames' are of one colour all over and show nothing; "
                "take those episodes out, or draw them again",
                path, self._flat, self._count,
            )  # fmt: skip


def warn_of_unread(file: ArrayFile) -> None:
    """Say which other arrays of pictures are not read, and which may be meant for the states."""
    if "states" not in file.names:
        meant = [n for n in sorted(file.names) if n in STATES and len(file.shape(n)[0]) == 2]
        if meant:
            log.warning(
                "%s: has no 'states', so that no state is probed; '%s' is left out: call it so if "
                "it is the simulator's state",
                file.path, meant[0],
            )  # fmt: skip
    rows = file.shape("frames")[0][0]
    others = [
        name for name in sorted(file.names - {"frames"})
        if (one := file.shape(name))[0][:1] == (rows,) and _is_pictures(*one)
    ]  # fmt: skip
    if others:
        log.warning(
            "%s: only 'frames' is read; other pictures are left out: %s. Two cameras can stand side"
            " by side in one picture (np.concatenate(…, axis=2), with fit: pad)",
            file.path, ", ".join(others),
        )  # fmt: skip


def _is_pictures(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array looks like pictures or depths, one a row, or compressed ones."""
    sides = [length for length in shape[1:] if length >= SMALL]
    return len(sides) == 2 or (len(shape) == 1 and dtype.kind in "SV")


def warn_of_rewards(file: ArrayFile, path: Path, rewards: np.ndarray) -> None:
    """Say so where the rewards (N,) tell no action from another; ``file`` is one of ``path``'s."""
    if not rewards.any():
        other = next((f" (call '{n}' so if that is it)" for n in REWARDS if n in file.names), "")
        log.warning(
            "%s: holds no 'rewards'%s, so it can only be imitated (agent: {algorithm: cloning}), "
            "and nothing is said of returns, of Q or of a score",
            path, other,
        )  # fmt: skip
    elif np.ptp(rewards) == 0:
        log.warning(
            "%s: all rewards are %g, so that only an episode's length tells one action from "
            "another; where all episodes are cut, nothing does",
            path, rewards[0],
        )  # fmt: skip


def warn_of_short_episodes(path: Path, terminals: np.ndarray, timeouts: np.ndarray) -> None:
    """Say so where the marks of ends (N,) are probably a row off, or the same ends twice."""
    ends = np.flatnonzero(terminals | timeouts)
    single = int((np.diff(ends, prepend=-1) == 1).sum())
    if single and (3 * single >= len(ends) or ends[0] == 0):
        log.warning(
            "%s: %d of %d episodes are one row long; 'terminals' and 'timeouts' should be true on "
            "an episode's last row, and mark an end once",
            path, single, len(ends),
        )  # fmt: skip


def warn_of_constant_actions(path: Path, actions: np.ndarray) -> None:
    """Say which columns of the actions (N, A) never change: from them nothing is learned."""
    still = np.flatnonzero(np.ptp(actions, axis=0) == 0)
    if len(still) == actions.shape[1]:
        log.warning(
            "%s: all actions are the same, so that there is nothing to imitate and no better "
            "action to be found; were they written before the policy had acted?",
            path,
        )
    elif len(still):
        log.warning(
            "%s: of the actions, %s never %s: %s; leave out what the environment does not read",
            path, _columns(len(still)), "changes" if len(still) == 1 else "change",
            ", ".join(map(str, still)),
        )  # fmt: skip


def true_cuts(
    path: Path, terminals: np.ndarray, timeouts: np.ndarray, columns: Mapping[str, np.ndarray]
) -> np.ndarray:
    """``timeouts`` without those in mid-trajectory, as in D4RL's adroit demonstrations.

    There each trajectory ends in a terminal, behind which the states jump, and has a timeout
    somewhere before, behind which they go on. Where no terminal is followed by a jump, as in a run
    that is cut without a reset, all stay.
    """
    known = [k for k in ("states", "infos/qpos", "observations") if k in columns]
    states = columns[known[0]] if known else None
    ends, cuts = (np.flatnonzero(flags[:-1]) for flags in (terminals, timeouts))
    if states is None or not len(ends) or not len(cuts):
        return timeouts
    steps = np.linalg.norm(np.diff(states.astype(np.float64), axis=0), axis=1)
    ordinary = steps[~(terminals | timeouts)[:-1]]
    if not len(ordinary) or np.median(steps[ends]) <= JUMP * np.median(ordinary):
        return timeouts
    inside = cuts[steps[cuts] <= max(np.quantile(ordinary, 0.999), JUMP * np.median(ordinary))]
    if not len(inside):
        return timeouts
    log.warning(
        "%s: %d timeouts stand in mid-trajectory, where the states go on; they end no episode",
        path, len(inside),
    )  # fmt: skip
    kept = timeouts.copy()
    kept[inside] = False
    return kept


def check_known(
    identity: DataIdentity, path: Path, columns: Mapping[str, np.ndarray], env: Callable
) -> None:
    """Hold a file under a known environment's id against that environment.

    ``env()`` makes it. Raises :class:`UserError` where a width differs.
    """
    known = env()
    try:
        known.reset(0)
        qpos, qvel = known.qpos_qvel()
        wanted = {"actions": known.action_dim, "states": len(known.state()),
                  "infos/qpos": len(qpos), "infos/qvel": len(qvel)}  # fmt: skip
    finally:
        known.close()
    for key, width in wanted.items():
        if key in columns and (found := columns[key].shape[1]) != width:
            raise UserError(
                f"{path}: the key '{key}' has {_columns(found)}, and {identity.env} has {width}; "
                "write the file for that environment, or give it an id of its own"
            )
    outside = float((np.abs(columns["actions"]) > 1 + 1e-3).any(axis=1).mean())
    if outside:
        log.warning(
            "%s: %.1f %% of the actions lie outside of [-1, 1], to which %s clips them; divide "
            "them by the environment's largest action if they are in other units",
            path, 100 * outside, identity.env,
        )  # fmt: skip
    if "infos/qpos" not in columns or "infos/qvel" not in columns:
        log.warning(
            "%s: has no 'infos/qpos' and 'infos/qvel', so roll-outs cannot start from its states: "
            "Q is not compared with the policy's own returns",
            path,
        )


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def fitted(frames: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Pictures (n, H, W, 3) uint8 as (n, size, size, 3): the middle square, on black, or bent."""
    from PIL import Image, ImageOps

    def one(picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture)
        if fit == "crop":
            return np.asarray(ImageOps.fit(image, (size, size)))
        if fit == "pad":
            return np.asarray(ImageOps.pad(image, (size, size)))
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))

    return np.stack([one(picture) for picture in frames])
