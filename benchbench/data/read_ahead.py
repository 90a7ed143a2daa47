"""Frames that lie on a disk, asked for all at once before they are read.

A mapped file is else read one page fault after the other, each with all that the system likes to
read behind it: of a set larger than the memory, most of that is gone before it is of use.
"""

from __future__ import annotations

import os

import numpy as np

SHARE = 0.25
"""A set that takes less of the machine's memory than this will stay in it once it is read."""


class ReadAhead:
    """Asks the system for frames of a mapped array, which it then reads side by side."""

    def __init__(self, frames: np.memmap) -> None:
        assert frames.filename is not None
        self._file = os.open(frames.filename, os.O_RDONLY)
        self._start, self._each = frames.offset, frames.nbytes // len(frames)

    def ask(self, rows: np.ndarray) -> None:
        """Have these rows' frames read; returns at once."""
        for row in np.unique(rows).tolist():
            place = self._start + row * self._each
            os.posix_fadvise(self._file, place, self._each, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        os.close(self._file)


def read_ahead(frames: np.ndarray) -> ReadAhead | None:
    """For large mapped frames; None for others, and where the system knows no such thing."""
    if not isinstance(frames, np.memmap) or not hasattr(os, "posix_fadvise"):
        return None
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ReadAhead(frames) if frames.nbytes > SHARE * memory else None
