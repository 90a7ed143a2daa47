"""The C library's allocator, set up for tensors that come and go with every update."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have this process keep memory that it frees, for the next tensor of that size.

    By default glibc gives blocks of 32 MB and more back to the system at once, and each page of
    the next one is faulted in and cleared anew: at 84x84 pixels and batch 256 that was up to half
    of an update's time. The price is memory that lies in pieces: a peak 11 to 16 % higher there,
    reached within ten updates. Returns whether there was a glibc to tell.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
