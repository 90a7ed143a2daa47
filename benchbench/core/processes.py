"""Processes: workers end with their parent, signals raise an exception, freed memory is kept."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_NEVER = 2**31 - 1


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for each other, in processes that start from here.

    By default they spin. On a busy machine a cell on two threads then took eight times the CPU and
    wall time of one on a single thread (results/PERFORMANCE.md). libgomp reads the variable when it
    is loaded, with torch. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def compute_on(threads: int) -> None:
    """Have this process compute on so many CPU threads: torch, and numpy's and scipy's BLAS."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


def end_with_parent() -> None:
    """Have this process end when the one that asked for it is gone, however that ended.

    The parent of a fork server's child is the fork server, so the system's own signal for this
    would not come; but the child holds a pipe whose other end only the asking process has.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def begin_worker() -> None:
    """What a spawned process that simulates or draws does first."""
    # Mesa would give each worker a thread a core.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the workers
    end_with_parent()


def keep_freed_memory() -> bool:
    """Have this process keep memory that it frees, for the next tensor of that size.

    By default glibc gives blocks of 32 MB and more back to the system at once, and each page of the
    next one is faulted in and cleared anew: at 84x84 pixels and batch 256 that was up to half of an
    update's time. The price is fragmentation: a peak 11 to 16 % higher there, reached within ten
    updates. Returns whether the C library is a glibc that accepted it.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


@contextmanager
def without_sigint() -> Iterator[None]:
    """Hold SIGINT back in the block, and for life in processes that start there.

    Ctrl-C reaches all processes of a terminal. In an interpreter that is only starting it would
    print a traceback, before that could ignore it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise :class:`Interrupted` inside the block.

    In any other thread than the main one, where Python allows no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    earlier = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)
