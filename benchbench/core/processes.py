"""What processes that benchbench starts have in common: they end with whoever started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


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
