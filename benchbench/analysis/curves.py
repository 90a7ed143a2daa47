"""From the results' tables to what the figures show: curves with their bands, shares, costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchbench.analysis.brief import ALL
from benchbench.analysis.pairing import Study
from benchbench.core.statistics import (
    MEANINGLESS_R2,
    improvement_interval,
    paired_t_interval,
    performance_profile,
    probability_of_improvement,
)
from benchbench.results.tables import Results

PARTS = ("train", "evaluate", "diagnose")
"""What a cell's wall time is spent on, by the columns' names; the rest is setting up."""

_FATES = ("applied", "dropped")


def runs(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The table's measures in long form: ``env, seed, variant, update, measure, value``.

    An R² below :data:`MEANINGLESS_R2` says nothing and is left out.
    """
    long = table.melt(
        ["env", "seed", "variant", "update"], list(measures), "measure", "value"
    ).dropna(subset="value")
    values = long["value"].astype(float)
    meaningless = long["measure"].str.endswith("_r2") & (values < MEANINGLESS_R2)
    return long[np.isfinite(values) & ~meaningless].reset_index(drop=True)


def bands(long: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its 95 % t interval, per environment, variant, measure and update.

    ``long`` is what :func:`runs` returns. Columns: those, less seed and value, and
    ``n, mean, lo, hi``; ``lo`` and ``hi`` are NaN where there is one seed.
    """
    by = ["env", "variant", "measure", "update"]
    rows = []
    for group, values in long.groupby(by, sort=True)["value"]:
        lo, hi = paired_t_interval(values)
        rows.append((*group, len(values), float(values.mean()), lo, hi))
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "lo", "hi"])


def flows(results: Results) -> pd.DataFrame:
    """What became of each loss's gradient on each module, as means over cells and steps.

    Columns: ``variant, loss, module``; ``computed``, a norm; ``applied`` and ``dropped``, shares of
    it. Variants stand in the suite's order.
    """
    names = [routing.name for routing in results.suite.routings]
    rows = results.ledger[results.ledger["variant"].isin(names)]
    found = []
    for group, steps in rows.groupby(["variant", "loss", "module"]):
        seen = steps[steps["computed"] > 0]
        shares = [(seen[column].fillna(0) / seen["computed"]).mean() for column in _FATES]
        found.append((*group, steps["computed"].mean(), *shares))
    frame = pd.DataFrame(found, columns=["variant", "loss", "module", "computed", *_FATES])
    return frame.sort_values("variant", key=lambda v: v.map(names.index)).reset_index(drop=True)


def profiles(study: Study) -> pd.DataFrame:
    """Share of each variant's finished cells above each score: ``variant, tau, share``."""
    scores = study.cells.dropna(subset="final_score")
    if scores.empty:
        return pd.DataFrame(columns=["variant", "tau", "share"])
    low, high = scores["final_score"].min(), scores["final_score"].max()
    taus = np.linspace(low - 0.02 * (high - low) - 1, high, 201)
    parts = []
    for routing in study.results.suite.routings:
        mine = scores.loc[scores["variant"] == routing.name, "final_score"]
        if len(mine):
            share = performance_profile(mine, taus)
            parts.append(pd.DataFrame({"variant": routing.name, "tau": taus, "share": share}))
    return pd.concat(parts, ignore_index=True)


def geometric_bands(long: pd.DataFrame) -> pd.DataFrame:
    """As :func:`bands`, of the logarithms: geometric means, for positive values on a log axis."""
    positive = long[long["value"] > 0]
    frame = bands(positive.assign(value=np.log(positive["value"].astype(float))))
    frame[["mean", "lo", "hi"]] = np.exp(frame[["mean", "lo", "hi"]].astype(float))
    return frame


def costs(results: Results) -> pd.DataFrame:
    """What each variant took, as means over its finished cells, in the suite's order.

    Columns: ``variant, n``; ``update_ms``, the median over cells of a cell's median update;
    ``cell_s``, and of that ``train_s, evaluate_s, diagnose_s``.
    """
    done = results.cells[results.cells["status"] == "done"]
    rows = []
    for routing in results.suite.routings:
        mine = done[(done["variant"] == routing.name) & done["total_seconds"].notna()]
        if len(mine):
            parts = [mine[f"{part}_seconds"].mean() for part in PARTS]
            row = (routing.name, len(mine), mine["update_ms"].median())
            rows.append((*row, mine["total_seconds"].mean(), *parts))
    columns = ["variant", "n", "update_ms", "cell_s", *(f"{part}_s" for part in PARTS)]
    return pd.DataFrame(rows, columns=columns)


def diagnosed_share(results: Results) -> float:
    """Share of the finished cells' wall time that the diagnostics took; NaN where unknown."""
    done = results.cells[results.cells["status"] == "done"]
    total = float(done["total_seconds"].sum())
    known = total > 0 and bool(done["diagnose_seconds"].notna().all())
    return float(done["diagnose_seconds"].sum()) / total if known else float("nan")


def control_of(study: Study) -> str:
    """The variant that the others are shown against: the first contrast's control."""
    suite = study.results.suite
    return suite.compared[0].against if suite.compared else suite.routings[0].name


def improvements(study: Study) -> pd.DataFrame:
    """Probability that a run of each variant scores above one of the first contrast's control.

    The mean over the environments that have runs of both (Agarwal et al. 2021), with its 95 %
    bootstrap interval: ``variant, n, mean, lo, hi``; ``n`` counts the variant's runs.
    """
    known = study.cells.dropna(subset="final_score")
    by_env = {
        str(variant): {str(env): s.to_numpy() for env, s in rows.groupby("env")["final_score"]}
        for variant, rows in known.groupby("variant")
    }
    control = control_of(study)
    reference = by_env.get(control, {})
    found = []
    for name in (routing.name for routing in study.results.suite.routings):
        envs = [env for env in by_env.get(name, {}) if env in reference]
        if name == control or not envs:
            continue
        mine, theirs = [by_env[name][env] for env in envs], [reference[env] for env in envs]
        chances = [probability_of_improvement(a, b) for a, b in zip(mine, theirs, strict=True)]
        interval = improvement_interval(mine, theirs)
        found.append((name, sum(map(len, mine)), float(np.mean(chances)), *interval))
    return pd.DataFrame(found, columns=["variant", "n", "mean", "lo", "hi"])


def pair_hours(study: Study) -> dict[tuple[str, str, str], float]:
    """What a pair of (of, against, env) took on average, both cells together, in hours.

    Of a single environment it stands under 'all' too, as its claims do.
    """
    hours = study.cells.groupby(["env", "variant"])["total_seconds"].mean() / 3600
    found = {
        (p.contrast.of, p.contrast.against, env): float(
            hours.get((env, p.contrast.of), np.nan) + hours.get((env, p.contrast.against), np.nan)
        )
        for p in study.pairings
        for env in study.envs
    }
    if len(study.envs) == 1:
        found |= {(of, against, ALL): took for (of, against, _), took in found.items()}
    return found
