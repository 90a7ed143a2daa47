"""The ways in which a cell can fail, by name."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import Literal, get_args

from benchbench.core.errors import UserError

Kind = Literal["killed", "raised", "refused", "diverged", "silent", "out of memory", "disk"]
KINDS: tuple[Kind, ...] = get_args(Kind)

RETRIED: frozenset[Kind] = frozenset({"killed", "raised", "silent", "out of memory"})
"""What may succeed the next time. A loss that diverges will diverge again, an input that is refused
will be refused again, and a full disk cannot take the next cell's results either."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


class Diverged(FloatingPointError):
    """A loss or an action is no longer a finite number."""


@dataclass(frozen=True)
class Failure:
    """How a cell failed, and its message."""

    kind: Kind
    text: str
    attempts: int = 1

    def __str__(self) -> str:
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{self.kind}: {self.text}{tries}"


def kind_of(name: str) -> Kind:
    """The kind of that name; raises ``ValueError`` where there is none."""
    return KINDS[KINDS.index(name)]


def of_error(error: BaseException) -> Failure:
    """The failure of a cell that raised; to be called in its own process."""
    from torch import OutOfMemoryError

    if isinstance(error, UserError):
        return Failure("refused", " ".join(str(error).split()))
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, FloatingPointError):
        return Failure("diverged", text)
    if isinstance(error, (MemoryError, OutOfMemoryError)) or "can't allocate memory" in text:
        return Failure("out of memory", text)
    if isinstance(error, OSError) and error.errno in _DISK:
        return Failure("disk", text)
    return Failure("raised", text)


def of_exit(exitcode: int | None) -> Failure:
    """The failure of a process that ended without reporting one."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        cause = " (the system kills so when memory is out)" if name == "SIGKILL" else ""
        return Failure("killed", f"its process was ended by {name}{cause}")
    return Failure("killed", f"its process ended with exit code {exitcode}")
