"""How much memory a cell is expected to need, from what finished cells of its kind took."""

from __future__ import annotations

from collections.abc import Mapping

SLACK = 1.2
"""What a cell takes of a device beyond the peak it records: its allocator's unused blocks."""

UNSEEN = 1.25
"""A kind that has not run is assumed to need this multiple of the largest kind's known peak."""


class MemoryEstimate:
    """Needs of kinds of cells, MiB; ``peaks`` are those recorded by earlier runs."""

    def __init__(self, peaks: Mapping[str, float] | None = None) -> None:
        self._peaks = dict(peaks or {})
        self._floors: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Whether any kind's peak is known."""
        return bool(self._peaks)

    def knows(self, kind: str) -> bool:
        """Whether a cell of this kind has recorded its peak."""
        return kind in self._peaks

    def record(self, kind: str, peak_mb: float) -> None:
        """A cell of this kind has finished with this peak."""
        self._peaks[kind] = max(peak_mb, self._peaks.get(kind, 0.0))

    def raise_to(self, kind: str, need_mb: float) -> None:
        """A cell of this kind ran out of memory and needs at least this much."""
        self._floors[kind] = max(need_mb, self._floors.get(kind, 0.0))

    def need_mb(self, kind: str, overhead_mb: float, unknown_mb: float) -> float:
        """Expected need of a cell; ``unknown_mb`` while no kind's peak is known.

        ``overhead_mb`` is what each process takes beside its recorded peak.
        """
        peak = self._peaks.get(kind)
        if peak is None and self._peaks:
            peak = UNSEEN * max(self._peaks.values())
        need = unknown_mb if peak is None else peak * SLACK + overhead_mb
        return max(need, self._floors.get(kind, 0.0))
