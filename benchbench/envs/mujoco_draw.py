"""Frames from stored positions, drawn on every core.

Each worker is a spawned process with a camera of its own and writes its rows straight into the
frames' file. Rows are reported done in order, so that one number is enough to resume where a killed
process stopped.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.core.processes import begin_worker
from benchbench.envs.mujoco_camera import MujocoCamera, shared_camera

CHUNK = 500
"""Rows that a worker draws between two reports."""


def draw_frames(
    body: str,
    qpos: np.ndarray,
    frames: Path,
    progress: Callable[[int, int], None],
    first: int = 0,
    workers: int | None = None,
) -> None:
    """Draw ``body`` at each of the positions ``qpos`` (N, nq) into the file ``frames``.

    ``frames`` is an ``.npy`` file that is there already, (N, size, size, 3) uint8. Rows before
    ``first`` are left alone. ``progress`` is called with a number of rows, all of them from the
    start written, and N. ``workers`` is by default one a core that this process may
    use. The bytes do not depend on it. Raises :class:`~benchbench.core.errors.UserError` where the
    machine cannot draw or a worker is killed, ``OSError`` where the disk is full.
    """
    shape, offset = _layout(frames)
    total = shape[0]
    if total != len(qpos):
        raise ValueError(f"{frames} has {total} rows for {len(qpos)} positions")
    starts = range(first, total, CHUNK)
    workers = min(workers or _cores(), len(starts))
    try:
        if workers <= 1:
            camera = shared_camera(body, shape[1])
            for start in starts:
                part = qpos[start : start + CHUNK]
                progress(start + _draw(camera, part, frames, offset, start), total)
        else:
            with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
                tasks = ((body, shape[1], qpos[k : k + CHUNK], frames, offset, k) for k in starts)
                _collect(pool, tasks, 2 * workers, lambda row: progress(row, total))
    except BrokenProcessPool:
        raise UserError(
            f"{frames}: a process that draws frames was killed, most likely as memory ran out; "
            "prepare the set again with more of it free"
        ) from None


def _collect(
    pool: ProcessPoolExecutor,
    tasks: Iterator[tuple[str, int, np.ndarray, Path, int, int]],
    ahead: int,
    report: Callable[[int], None],
) -> None:
    """Run the tasks, ``ahead`` of them at once, and report the row each leads up to, in order."""
    waiting: deque[Future[int]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_worker_draw, *task))
            if len(waiting) > ahead:
                report(waiting.popleft().result())
        while waiting:
            report(waiting.popleft().result())
    except BaseException:
        for future in waiting:
            future.cancel()
        raise


def _worker_draw(
    body: str, size: int, qpos: np.ndarray, frames: Path, offset: int, start: int
) -> int:
    """In a worker: draw a chunk; returns the row after its last."""
    return start + _draw(shared_camera(body, size), qpos, frames, offset, start)


def _draw(camera: MujocoCamera, qpos: np.ndarray, frames: Path, offset: int, start: int) -> int:
    """Draw and write the rows from ``start`` on; returns how many.

    Written, not mapped: on a full disk a write says why it fails, a mapped page kills the process.
    """
    block = np.stack([camera.frame(position) for position in qpos])
    with frames.open("r+b") as file:
        file.seek(offset + start * block[0].nbytes)
        file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())  # reported done, it stays done
    return len(qpos)


def _layout(frames: Path) -> tuple[tuple[int, ...], int]:
    """The shape of the pictures and where in the file they begin."""
    pictures = np.load(frames, mmap_mode="r", allow_pickle=False)
    return pictures.shape, pictures.offset


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
