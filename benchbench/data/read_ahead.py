"""Prefetching of a batch's frames from disk.

Without it a mapped file is read one page fault at a time, each with the system's own read-ahead;
for a set larger than memory, most of that is evicted before it is used.
"""

from __future__ import annotations

import os

import numpy as np

SHARE = 0.25
"""Sets smaller than this share of the machine's memory are not prefetched: they stay cached."""


class ReadAhead:
    """Asks the system to prefetch frames of a mapped array, which it reads in parallel."""

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
    return ReadAhead(frames) if frames.nbytes > SHARE * memory else None
