"""Pairs of cells: two variants side by side, one row an (env, seed), for any measure.

A report reads the measures of every cell once, into a :class:`Study`, and judges, describes and
draws from that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from benchbench.analysis.brief import Scale
from benchbench.analysis.measures import measure_cells
from benchbench.core.statistics import MEANINGLESS_R2
from benchbench.results.tables import Results
from benchbench.suite.model import Contrast, SeedPlan

Sides = tuple[pd.Series, pd.Series, str]
"""Values of ``of`` and ``against``, indexed by (env, seed), and a note on the pairs left out."""


@dataclass(frozen=True)
class Pairing:
    """The cells of a contrast's two variants in pairs; ``cells`` is one row a finished cell.

    ``plan`` holds the (env, seed) pairs that the suite wants, so that a pair that is left out is
    counted. ``ids`` says what environment each stratum of the plan simulates.
    """

    contrast: Contrast
    cells: pd.DataFrame
    plan: pd.DataFrame
    ids: Mapping[str, str] = field(default_factory=dict)
    merged: bool = False
    """Whether the strata of one environment are one pair a seed, the mean over them."""
    unseen: bool = False
    """Whether the suite also evaluates under distractions that the training has not seen."""
    _known: dict[tuple[str, Scale], Sides] = field(default_factory=dict, repr=False)

    def where(self, keep: Callable[[pd.DataFrame], pd.Series]) -> Pairing:
        """The planned pairs for which ``keep`` of the plan is true."""
        return replace(self, plan=self.plan[keep(self.plan)], _known={})

    def alone(self, env: str) -> Pairing:
        """The pairs of one environment."""
        return self.where(lambda plan: plan["env"] == env)

    def together(self) -> Pairing:
        """Over environments: each seed counts once, however many strata it has.

        A seed draws the same weights and batches in every stratum of an environment, so that its
        differences there hang together and are no pairs of their own.
        """
        ids = [self.ids.get(env, env) for env in dict.fromkeys(self.plan["env"])]
        return self if len({*ids}) == len(ids) else replace(self, merged=True, _known={})

    def having(self, **columns: pd.Series) -> Pairing:
        """The same pairs with columns of ``cells`` added or replaced."""
        return replace(self, cells=self.cells.assign(**columns), _known={})

    def sides(self, column: str, scale: Scale = "difference") -> Sides:
        """The values of both variants over the pairs in which both are finite.

        On the ln-ratio scale the values are logarithms, and one that is not positive is not finite.
        A pair with an R² below :data:`MEANINGLESS_R2` is left out, and counted in the note.
        """
        if (column, scale) not in self._known:
            sides = self._paired(column, scale)
            self._known[column, scale] = self._over_strata(sides) if self.merged else sides
        return self._known[column, scale]

    def of_control(self, column: str, index: pd.Index) -> pd.Series:
        """A column of the control's cells, for the pairs of ``index``."""
        values = self._side(self.contrast.against)[column].astype(float)
        if self.merged:
            values = values.groupby(
                [self._ids(values), values.index.get_level_values("seed")]
            ).mean()
        return values.reindex(index)

    def _side(self, variant: str) -> pd.DataFrame:
        return self.cells[self.cells["variant"] == variant].set_index(["env", "seed"])

    def _ids(self, values: pd.Series) -> pd.Index:
        return values.index.get_level_values("env").map(lambda env: self.ids.get(env, env))

    def _over_strata(self, sides: Sides) -> Sides:
        """Means over the strata of an environment, of the seeds that have all of them."""
        of, against, note = sides
        strata = [self.ids.get(env, env) for env in dict.fromkeys(self.plan["env"])]
        seeds = of.index.get_level_values("seed")
        groups = [self._ids(of).rename("env"), seeds]
        count = of.groupby(groups).size()
        whole = count == count.index.get_level_values("env").map(strata.count)
        if not whole.all():
            left = f"{int((~whole).sum())} seeds without all of their conditions"
            note = "; ".join(filter(None, (note, left)))
        means = [side.groupby(groups).mean()[whole] for side in (of, against)]
        return means[0], means[1], note

    @cached_property
    def _planned(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
        """Both cells of each planned pair; which are finished, and evaluated at equal updates."""
        of, against = self.contrast.of, self.contrast.against
        planned = self.plan.loc[self.plan["variant"].isin([of, against]), ["env", "seed"]]
        index = pd.MultiIndex.from_frame(planned.drop_duplicates().sort_values(["env", "seed"]))
        first, second = (self._side(name).reindex(index) for name in (of, against))
        finished = first["key"].notna() & second["key"].notna()
        same = finished & (first["steps"].map(str) == second["steps"].map(str))
        return first, second, finished, same

    def _paired(self, column: str, scale: Scale) -> Sides:
        of, against = self.contrast.of, self.contrast.against
        first, second, finished, same = self._planned
        values = [side[column].astype(float) for side in (first, second)]
        if scale == "ln ratio":
            values = [value.where(value > 0).map(math.log) for value in values]
        usable = same & np.isfinite(values[0]) & np.isfinite(values[1])
        meaningless = usable & False
        if column.endswith("_r2"):
            meaningless = usable & ((values[0] < MEANINGLESS_R2) | (values[1] < MEANINGLESS_R2))
            usable &= ~meaningless
        reasons = {
            f"without a finished {against} and {of}": ~finished,
            "evaluated at different updates": finished & ~same,
            "with a probe's R² below −1, which says nothing": meaningless,
            "without a finite value": same & ~usable & ~meaningless,
        }
        out = [f"{int(left.sum())} {why}" for why, left in reasons.items() if left.any()]
        note = f"{int(usable.sum())} of {len(usable)} planned pairs" if out else ""
        return values[0][usable], values[1][usable], "; ".join([note, *out]) if out else ""


@dataclass(frozen=True)
class Study:
    """Results with every measure of every finished cell, and the pairs of each contrast."""

    results: Results
    cells: pd.DataFrame
    pairings: tuple[Pairing, ...]

    @property
    def envs(self) -> list[str]:
        """The environments that the plan holds, in its order."""
        return list(dict.fromkeys(self.results.plan["env"]))

    def up_to(self, seeds: int) -> Study:
        """The study as it was with that many seeds, the first ones of the plan."""
        first = self.results.suite.seed_list[:seeds]
        pairings = tuple(p.where(lambda plan: plan["seed"].isin(first)) for p in self.pairings)
        return replace(self, pairings=pairings)


def pair(results: Results) -> Study:
    """Measure the results' cells and pair them for each contrast; the one costly step."""
    plan, suite = results.plan, results.suite
    if isinstance(suite.seeds, SeedPlan):
        plan = plan[plan["seed"].isin(suite.seed_list[: seeds_so_far(results)])]
        results = replace(results, plan=plan)
    cells = measure_cells(results)
    ids = {one.label: one.env.id for one in suite.strata}
    pairings = tuple(
        Pairing(contrast, cells, plan, ids, unseen=suite.has_unseen) for contrast in suite.compared
    )
    return Study(results, cells, pairings)


def seeds_so_far(results: Results) -> int:
    """Of a plan of looks: the seeds of the last look whose cells have all ended, else the first."""
    suite, plan = results.suite, results.plan
    if not isinstance(suite.seeds, SeedPlan):
        return len(suite.seed_list)
    ended = plan["key"].isin(results.cells["key"])
    reached = suite.seeds.looks[0]
    for look in suite.seeds.looks:
        seeds = suite.seed_list[:look]
        if not {*seeds} <= {*plan["seed"]} or not ended[plan["seed"].isin(seeds)].all():
            break
        reached = look
    return reached
