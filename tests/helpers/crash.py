"""A fault at the k-th file operation of a command, in a forked copy of this process.

An operation is whatever changes a folder: opening a file to write, each write to it, syncs,
renames, removals, new folders, locks, modes. Only those under ``root`` count. Libraries that
write from C (HDF5, Arrow by a file's name) count when their file is opened and when it is closed.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import shutil
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

KILLS = ("killed", "power cut")
ERRORS = {
    "no space": errno.ENOSPC,
    "read-only": errno.EROFS,
    "no permission": errno.EACCES,
    "interrupted": errno.EINTR,
}
KILLED, TRACEBACK = 77, 78
"""Exit codes of a copy that was ended, and of one that let an exception out."""

_CHANGES = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.chmod": 0,
            "os.truncate": 0, "os.link": 1, "os.symlink": 1}  # fmt: skip
"""Events of Python's audit hook that change a folder, and the argument that names the place."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Faults:
    """Counts operations under ``root`` and does ``what`` at number ``at`` (from 1).

    ``lasting`` makes every later operation fail too, as a disk does that stays full.
    """

    root: Path
    what: str = "count"
    at: int = 0
    lasting: bool = False
    count: int = 0
    names: list[str] = field(default_factory=list)
    unsynced: set[tuple[int, int]] = field(default_factory=set)
    """Files that hold bytes which the disk may not have, by device and inode."""

    def point(self, name: str, half: Callable[[], object] | None = None) -> None:
        """One operation is about to happen; ``half`` does it by half."""
        self.count += 1
        self.names.append(name)
        if self.count == self.at and self.what in KILLS:
            if half:
                half()
            self._end()
        reached = self.count >= self.at if self.lasting else self.count == self.at
        if self.what in ERRORS and reached:
            code = ERRORS[self.what]
            raise OSError(code, os.strerror(code), name.partition(" ")[2])

    def holds(self, path: object) -> bool:
        """Whether a path, a descriptor or a name is under the root."""
        try:
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            return os.path.abspath(os.fsdecode(path)).startswith(f"{self.root}/")  # type: ignore[arg-type]
        except (OSError, TypeError, ValueError):
            return False

    def wrote(self, descriptor: int) -> None:
        """A file has bytes that were not synced."""
        found = os.fstat(descriptor)
        self.unsynced.add((found.st_dev, found.st_ino))

    def synced(self, descriptor: int) -> None:
        """The disk has them."""
        found = os.fstat(descriptor)
        self.unsynced.discard((found.st_dev, found.st_ino))

    def _end(self) -> None:
        """End this process as a kill does; a power cut also takes half of what was not synced."""
        if self.what == "power cut":
            for folder, _, files in os.walk(self.root):
                for name in files:
                    path = os.path.join(folder, name)
                    found = os.lstat(path)
                    if stat.S_ISREG(found.st_mode) and (
                        (found.st_dev, found.st_ino) in self.unsynced
                    ):
                        os.truncate(path, found.st_size // 2)
        os._exit(KILLED)

    def install(self) -> None:
        """Patch this process, for good; to be called in a copy only."""
        faults, busy = self, False

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal busy
            if busy:
                return
            if event == "open":
                flags = arguments[2]
                changes = isinstance(flags, int) and flags & _WRITES
                if not changes or isinstance(arguments[0], int):
                    return
                place = arguments[0]
            elif event in _CHANGES:
                place = arguments[_CHANGES[event]]
                inside = isinstance(arguments[-1], int) and arguments[-1] >= 0
                if not inside and not faults.holds(place):
                    return
                if inside and not faults.holds(arguments[-1]):
                    return  # beside a folder's descriptor, as rmtree removes
            else:
                return
            busy = True
            try:
                if event != "open" or faults.holds(place):
                    faults.point(f"{event} {place!s}")
            finally:
                busy = False

        class Raw(io.FileIO):
            def write(self, data: object) -> int:
                view = memoryview(data).cast("B")  # type: ignore[arg-type]
                if faults.holds(self.fileno()):

                    def half() -> None:
                        super(Raw, self).write(view[: len(view) // 2])
                        faults.wrote(self.fileno())

                    faults.point(f"write {self.name}", half)
                    faults.wrote(self.fileno())
                return super().write(view)

        plain = io.open

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
                   closefd=True, opener=None):  # fmt: skip
            if not set(mode) & set("wax+") or buffering == 0:
                return plain(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            both = io.BufferedRandom if "+" in mode else io.BufferedWriter
            buffer = both(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
            if "b" in mode:
                return buffer
            text = io.TextIOWrapper(buffer, encoding, errors, newline)
            text.mode = mode
            return text

        io.open = builtins.open = opened  # type: ignore[assignment]
        fsync, flock = os.fsync, fcntl.flock

        def synced(file):
            number = file if isinstance(file, int) else file.fileno()
            if faults.holds(number):
                faults.point(f"sync {os.readlink(f'/proc/self/fd/{number}')}")
                faults.synced(number)
            fsync(file)

        def locked(file, operation):
            number = file if isinstance(file, int) else file.fileno()
            if faults.holds(number) and operation & fcntl.LOCK_EX:
                faults.point(f"lock {os.readlink(f'/proc/self/fd/{number}')}")
            return flock(file, operation)

        os.fsync, fcntl.flock = synced, locked
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
        _patch_libraries(self)
        sys.addaudithook(hook)


def _patch_libraries(faults: Faults) -> None:
    """Files that C code opens by their names."""
    import h5py
    import numpy as np
    import pyarrow.parquet as pq

    def mark(path: object) -> None:
        descriptor = os.open(path, os.O_RDONLY)  # type: ignore[call-overload]
        faults.wrote(descriptor)
        os.close(descriptor)

    class File(h5py.File):
        def __init__(self, name, mode="r", *rest, **more):
            self._mine = str(name) if mode != "r" and faults.holds(name) else None
            if self._mine:
                faults.point(f"hdf5 open {name}")
            super().__init__(name, mode, *rest, **more)

        def close(self):
            if getattr(self, "_mine", None):
                name, self._mine = self._mine, None
                faults.point(f"hdf5 close {name}")
                super().close()
                mark(name)
            else:
                super().close()

    write = pq.write_table

    def write_table(table, where, *rest, **more):
        if not faults.holds(where):
            return write(table, where, *rest, **more)
        faults.point(f"parquet open {where}")
        write(table, where, *rest, **more)
        mark(where)
        faults.point(f"parquet close {where}")
        return None

    flush = np.memmap.flush

    def flushed(self):
        if isinstance(self.filename, (str, Path)) and faults.holds(self.filename):
            faults.point(f"flush {self.filename}")
            mark(self.filename)
        flush(self)

    h5py.File, pq.write_table, np.memmap.flush = File, write_table, flushed  # type: ignore[misc,method-assign]


@dataclass(frozen=True)
class Outcome:
    """How a forked copy ended: its exit code, what it printed, the operations it made."""

    code: int
    text: str
    names: tuple[str, ...]


def in_copy(command: Callable[[], object], faults: Faults, log: Path) -> Outcome:
    """Run ``command`` in a forked copy of this process under ``faults``."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = TRACEBACK
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            faults.install()
            try:
                command()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            faults.what = "count"
            os.write(os.open(f"{log}.points", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                     "\n".join(faults.names).encode())  # fmt: skip
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            sys.stdout.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    points = Path(f"{log}.points")
    names = tuple(points.read_text().splitlines()) if points.exists() else ()
    points.unlink(missing_ok=True)
    return Outcome(code, log.read_text(errors="replace"), names)
