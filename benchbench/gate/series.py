"""Which series are gated: their columns, units, directions and margins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchbench.suite.model import Margins

Scale = Literal["difference", "ln ratio"]


@dataclass(frozen=True)
class Series:
    """One number a cell that the gate watches.

    ``worse`` is +1 where more of it is worse, -1 where less is. ``margin`` names a field of the
    suite's ``margins``. On the ln-ratio scale the difference is ln(candidate / baseline), so that
    a margin is relative. A ``cost`` says something about the machine too, and is compared only
    between runs on the same one.
    """

    name: str
    table: Literal["cells", "evaluations"]
    unit: str
    worse: int
    margin: str
    scale: Scale = "difference"
    cost: bool = False


SERIES = (
    Series("final_score", "cells", "points", -1, "score"),
    Series("q_error", "evaluations", "σ_G", 1, "q_error", "ln ratio"),
    Series("td_error", "evaluations", "σ_G", 1, "q_error", "ln ratio"),
    Series("state_r2", "evaluations", "R²", -1, "r2"),
    Series("return_r2", "evaluations", "R²", -1, "r2"),
    Series("action_r2", "evaluations", "R²", -1, "r2"),
    Series("update_ms", "cells", "ms", 1, "update_ms", "ln ratio", cost=True),
    Series("peak_memory_mb", "cells", "MiB", 1, "memory", "ln ratio", cost=True),
)
"""Every gated series; those of ``evaluations`` are read at a cell's last evaluation."""

NAMES = tuple(series.name for series in SERIES)


def margin_of(series: Series, margins: Margins) -> float:
    """The suite's margin on the series' scale: a relative growth by m is ln(1 + m)."""
    stated = float(getattr(margins, series.margin))
    return math.log1p(stated) if series.scale == "ln ratio" else stated
