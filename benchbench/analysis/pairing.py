"""Pairs of cells: two variants side by side, one row an (env, seed), for any measure.

A report reads the measures of every cell once, into a :class:`Pairing`, and judges, describes and
draws from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from benchbench.analysis.brief import AFTER, BEFORE, Scale
from benchbench.analysis.measures import measure_cells
from benchbench.results.tables import Results

Sides = tuple[pd.Series, pd.Series, str]
"""Values of ``before`` and ``after``, indexed by (env, seed), and a note on the pairs left out."""


@dataclass(frozen=True)
class Pairing:
    """The cells of ``before`` and ``after`` in pairs; ``cells`` is one row a finished cell.

    ``plan`` holds the (env, seed) pairs that the suite wants, so that a pair that is left out is
    counted.
    """

    results: Results
    cells: pd.DataFrame
    plan: pd.DataFrame
    _known: dict[tuple[str, Scale], Sides] = field(default_factory=dict, repr=False)

    def alone(self, env: str) -> Pairing:
        """The pairs of one environment."""
        return replace(self, plan=self.plan[self.plan["env"] == env], _known={})

    def having(self, **columns: pd.Series) -> Pairing:
        """The same pairs with columns of ``cells`` added or replaced."""
        return replace(self, cells=self.cells.assign(**columns), _known={})

    def sides(self, column: str, scale: Scale = "difference") -> Sides:
        """The values of both variants over the pairs in which both are finite.

        On the ln-ratio scale the values are logarithms, and one that is not positive is not finite.
        """
        if (column, scale) not in self._known:
            self._known[column, scale] = self._paired(column, scale)
        return self._known[column, scale]

    def of_before(self, column: str, index: pd.Index) -> pd.Series:
        """A column of the ``before`` cells, for the pairs of ``index``."""
        return self._side(BEFORE)[column].astype(float).reindex(index)

    def _side(self, variant: str) -> pd.DataFrame:
        return self.cells[self.cells["variant"] == variant].set_index(["env", "seed"])

    def _paired(self, column: str, scale: Scale) -> Sides:
        planned = self.plan.loc[self.plan["variant"].isin([BEFORE, AFTER]), ["env", "seed"]]
        index = pd.MultiIndex.from_frame(planned.drop_duplicates().sort_values(["env", "seed"]))
        before, after = (self._side(name).reindex(index) for name in (BEFORE, AFTER))
        finished = before["key"].notna() & after["key"].notna()
        same = finished & (before["steps"].map(str) == after["steps"].map(str))
        values = [side[column].astype(float) for side in (before, after)]
        if scale == "ln ratio":
            values = [value.where(value > 0).map(math.log) for value in values]
        usable = same & np.isfinite(values[0]) & np.isfinite(values[1])
        reasons = {
            "without a finished before and after": ~finished,
            "evaluated at different updates": finished & ~same,
            "without a finite value": same & ~usable,
        }
        out = [f"{int(left.sum())} {why}" for why, left in reasons.items() if left.any()]
        note = f"{int(usable.sum())} of {len(index)} planned pairs" if out else ""
        return values[0][usable], values[1][usable], "; ".join([note, *out]) if out else ""


def pair(results: Results) -> Pairing:
    """The results' cells in pairs, with every measure of every cell; the one costly step."""
    return Pairing(results, measure_cells(results), results.plan)
