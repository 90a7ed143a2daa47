"""A results folder belongs to one writing process at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from benchbench.core.errors import UserError
from benchbench.core.files import from_json, write_text
from benchbench.results.store import Store


class Hold:
    """A results folder that this process holds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._was = self._lock()

    def _lock(self) -> tuple[int, int] | None:
        try:
            found = (self._store.folder / ".lock").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check(self) -> None:
        """Raise :class:`UserError` where the path no longer leads to the folder that was locked.

        A folder that is renamed, or whose disk is unmounted, would otherwise be created again, and
        the results would be split between the two.
        """
        if self._lock() != self._was:
            raise UserError(
                f"{self._store.folder}: was moved, replaced or unmounted while this went on; what "
                "was finished before is where it is now: bring it back under its name, join to it "
                "with 'benchbench merge' what may lie here, and run the same command again"
            )


@contextmanager
def held(store: Store) -> Iterator[Hold]:
    """Hold the results folder for the length of a block, and record in it who does.

    Raises :class:`UserError` where another process holds it, or where it cannot be written.
    """
    path = store.folder / ".holder.json"
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store.folder / ".lock")
        lock.acquire(timeout=0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(path, json.dumps(holder))
    except Timeout:
        raise UserError(
            f"{store.folder}: another 'benchbench run' is writing there{_holder(path)}; wait for "
            "it, or choose another folder with --results"
        ) from None
    except OSError as error:
        raise unwritable(store, error) from None
    try:
        yield Hold(store)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def one_report(folder: Path) -> Iterator[None]:
    """Wait until no other process writes the folder's report, then be the one that does.

    A run holds the folder by another lock, so that a report may be written while it goes on.
    Raises :class:`UserError` where the folder cannot be written.
    """
    try:
        lock = FileLock(folder / ".report.lock")
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"{folder}: the report cannot be written ({error.strerror or error}); the results are "
            "safe; make room or mend it, then 'benchbench report'"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        told = from_json(path.read_text(encoding="utf-8"))
        return f" (process {told['pid']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def unwritable(store: Store, error: OSError) -> UserError:
    """The error for a results folder in which no file can be written."""
    return UserError(
        f"{store.folder}: cannot be written ({error.strerror or error}); finished cells are kept: "
        "make room or mend it and run the same command again, or choose another folder with "
        "--results"
    )
