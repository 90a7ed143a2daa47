"""How often cells have been tried, and which of those that failed are tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchbench.results.failures import RETRIED, Failure


@dataclass(frozen=True)
class _Tries:
    """A failed cell's attempts, those of them since it last got further, and how far it got."""

    attempts: int = 0
    in_vain: int = 0
    safe: int = 0


class Attempts:
    """The failures of a grid's cells; ``retries`` may follow each other without getting further."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._tries: dict[str, _Tries] = {}

    def failed(self, key: str, failure: Failure, safe: int) -> tuple[Failure, bool]:
        """The failure with its number, and whether the cell may be tried again.

        ``safe`` is how many updates its last checkpoint holds.
        """
        before = self._tries.get(key, _Tries())
        in_vain = before.in_vain + 1 if safe <= before.safe else 1
        self._tries[key] = _Tries(before.attempts + 1, in_vain, safe)
        may_go_on = in_vain <= self._retries and failure.kind in RETRIED
        return replace(failure, attempts=before.attempts + 1), may_go_on
