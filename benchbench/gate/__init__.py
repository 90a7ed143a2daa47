"""The nightly gate: is a candidate's run worse than the baseline's?

The gate knows the parquet tables and the suite, never the runner. :func:`load_snapshot` reads a
results folder or a stored baseline; :func:`compare` pairs two of them, series by series;
:func:`decide` says whether the night passes. A suite with a ``tolerance`` is a canary, judged by
:mod:`benchbench.gate.canary` instead of by statistics.
"""

from benchbench.gate.compare import Decision, compare, compare_keys, decide, gate
from benchbench.gate.snapshot import Snapshot, load_snapshot, take_snapshot

__all__ = [
    "Decision",
    "Snapshot",
    "compare",
    "compare_keys",
    "decide",
    "gate",
    "load_snapshot",
    "take_snapshot",
]
