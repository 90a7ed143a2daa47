"""Power before the run: the spreads of finished pairs, or of a pilot, for a suite's own design."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from benchbench.analysis.claims import ALPHA, chosen, delta_of, differences
from benchbench.analysis.curves import pair_hours
from benchbench.analysis.pairing import Study, pair
from benchbench.analysis.power import power_table
from benchbench.core.errors import UserError
from benchbench.core.inference import nominal_levels
from benchbench.core.statistics import pairs_needed
from benchbench.core.text import NONE, difference, number, percent, plain_table
from benchbench.results.tables import read_results, read_suite
from benchbench.suite.model import SeedPlan, Suite

FEWEST_PAIRS = 3
"""Pairs of one environment from which a spread is taken."""


@dataclass(frozen=True)
class Plan:
    """A suite's power: the table, and what its spreads come from."""

    table: pd.DataFrame
    """As :func:`benchbench.analysis.power.power_table` has it, environments by name."""
    source: str
    """The suite whose pairs they are."""
    pilot: bool
    """Whether that is another suite than the planned one."""
    planned: int
    """Pairs of one environment."""
    members: int
    """Tests of the family, claims × environments × contrasts."""
    alpha: float
    """Level of one member, at the last look where looks are planned."""
    without: tuple[str, ...]
    """Environments of the suite of which nothing is known there."""


def plan_power(suite: Suite, results: Path, pilot: str | None = None) -> Plan:
    """What the suite's seeds can show, from its own finished pairs, else from a pilot.

    ``results`` is the folder that holds the suites' results, ``pilot`` the name of one of them;
    without it the one that is of the same agent and knows most of the suite's environments. Raises
    :class:`UserError` where there is none that has compared two variants there.
    """
    study = None if pilot else _study_of(suite, results / suite.name)
    name = suite.name
    if study is None:
        names = [pilot] if pilot else _others(results, suite.name)
        found = [(n, s) for n in names if (s := _study_of(suite, results / n)) is not None]
        if not found:
            where = f"{results / pilot}" if pilot else f"{results}"
            raise UserError(
                f"{where}: holds no {FEWEST_PAIRS} finished pairs of two variants on an "
                "environment of this suite, so nothing is known of the spread; run a pilot: the "
                "suite with --set seeds=5 --set name=pilot"
            )
        name, study = max(found, key=lambda item: _likeness(item[1], suite))
    envs = [one.label for one in suite.strata]
    members = max(1, len(suite.compared)) * len(suite.judged) * len(envs)
    planned, alpha = len(suite.seed_list), ALPHA / members
    if isinstance(suite.seeds, SeedPlan):
        alpha = nominal_levels(suite.seeds.looks, suite.seeds.spending, alpha)[-1]
    claims, hours = _for_strata(spreads(study), pair_hours(study), suite)
    table = power_table(claims, hours, planned, alpha)
    without = tuple(env for env in envs if env not in set(table["env"]))
    return Plan(table, name, name != suite.name, planned, members, alpha, without)


def spreads(study: Study) -> pd.DataFrame:
    """The standard deviation of D, a row a contrast, environment and tested claim.

    Columns as :func:`benchbench.analysis.power.power_table` takes them, of all finished pairs.
    """
    rows = []
    for pairing, env in itertools.product(study.pairings, study.envs):
        for claim, measure, _ in sorted(chosen(pairing), key=lambda one: one[1].row):
            d = differences(measure, pairing.alone(env))
            if claim in study.results.suite.judged and d and len(d[0]) >= FEWEST_PAIRS:
                rows.append({
                    "of": pairing.contrast.of, "against": pairing.contrast.against, "env": env,
                    "claim": claim, "measure": measure.name, "unit": measure.unit,
                    "scale": measure.scale, "spread": float(d[0].std(ddof=1)), "verdict": "",
                    "delta": delta_of(measure, study.results.suite.deltas),
                })  # fmt: skip
    names = ["of", "against", "env", "claim", "measure", "unit", "scale", "spread", "verdict",
             "delta"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def _names(suite: Suite) -> set[str]:
    """What a pilot may call the suite's strata: by label, or by the environment's id."""
    return {name for one in suite.strata for name in (one.label, one.env.id)}


def _for_strata(
    claims: pd.DataFrame, hours: dict[tuple[str, str, str], float], suite: Suite
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], float]]:
    """Claims and hours by the suite's strata; one that a pilot does not know takes its id's."""
    parts, took = [], dict(hours)
    for one in suite.strata:
        known = one.label if one.label in set(claims["env"]) else one.env.id
        parts.append(claims[claims["env"] == known].assign(env=one.label))
        took |= {(a, b, one.label): h for (a, b, env), h in hours.items() if env == known}
    return pd.concat(parts), took


def too_few_pairs(suite: Suite) -> str | None:
    """Why the suite's seeds can decide no claim, or none in a single environment; None if they can.

    However clear the differences: a sign-flip test of n pairs has no p below 2 / 2^n.
    """
    if not suite.compared:
        return None
    envs = len(suite.strata)
    claims = len(suite.compared) * len(suite.judged)
    planned, over_mean, alone = (
        len(suite.seed_list), max(3, pairs_needed(claims)), max(3, pairs_needed(claims * envs))
    )  # fmt: skip
    if planned >= alone:
        return None
    count = f"{planned} pair{'' if planned == 1 else 's'}"
    if envs > 1 and planned >= over_mean:
        return (
            f"{count} an environment: enough for the mean over the environments, too few for a "
            f"verdict in any of them, which takes {alone}, as one of {claims * envs} tests"
        )
    return (
        f"{count} an environment: too few for any verdict, which takes {over_mean} as one of "
        f"{claims} tests; fewer claims (claims: in the suite) take fewer"
    )


def power_text(plan: Plan) -> str:
    """The plan's power for a terminal."""
    rows = []
    for _, part in plan.table.iterrows():
        pairs = float(part["pairs_for_delta"])
        known = pairs < float("inf")
        rows.append([
            part["env"], f"{part['of']} − {part['against']}", part["measure"].partition(",")[0],
            _size(part["smallest"], part), _size(part["delta"], part),
            f"{pairs:,.0f}" if known else NONE, number(part["hours_for_delta"]),
        ])  # fmt: skip
    header = ["environment", "contrast", "measure", f"shown by {plan.planned} pairs", "delta",
              "pairs for delta", "hours"]  # fmt: skip
    source = (
        f"a pilot, {plan.source}: its spreads, and the hours that its cells took"
        if plan.pilot
        else "this suite's own finished pairs"
    )
    lines = [
        f"Power from {source}.",
        f"The smallest effect shown with 80 % power by {plan.planned} pairs an environment, as one "
        f"of {plan.members} tests ({percent(1 - plan.alpha, 2)} intervals); the pairs that an "
        "effect of delta takes; and the hours of those, cells one after another.",
        "",
        plain_table(header, rows).rstrip(),
    ]
    if plan.without:
        lines.append(f"\nnothing is known of {', '.join(plan.without)}")
    return "\n".join(lines)


def _size(value: float, part: pd.Series) -> str:
    if not abs(value) < float("inf"):
        return "none"
    if part["scale"] == "ln ratio":
        return difference(-value, float("nan"), float("nan"), "", "ln ratio")
    return f"{number(value, part['unit'])} {part['unit']}"


def _others(results: Path, name: str) -> list[str]:
    folders = sorted(path.parent.name for path in results.glob("*/suite.json"))
    return [folder for folder in folders if folder != name]


def _study_of(suite: Suite, folder: Path) -> Study | None:
    """The folder's pairs under the suite's claims and deltas; None where it knows no spread."""
    try:
        there, _ = read_suite(folder)
        if not _names(suite) & {one.label for one in there.strata}:
            return None
        results = read_results(folder)
    except UserError:
        return None
    names = {routing.name for routing in there.routings}
    contrasts = tuple(c for c in suite.compared if {c.of, c.against} <= names) or there.compared
    asked = there.model_copy(
        update={"contrasts": contrasts, "deltas": suite.deltas, "claims": suite.claims}
    )
    study = pair(replace(results, suite=asked) if asked is not there else results)
    return study if _known_envs(study, suite) else None


def _likeness(study: Study, suite: Suite) -> tuple[bool, int]:
    """How well a pilot fits: the same agent, and as many environments as may be."""
    same = study.results.suite.agent.algorithm == suite.agent.algorithm
    return same, len(_known_envs(study, suite))


def _known_envs(study: Study, suite: Suite) -> set[str]:
    """The suite's environments of which the study has pairs enough for a spread."""
    known = set()
    for pairing in study.pairings:
        of, _, _ = pairing.sides("final_score")
        probes, _, _ = pairing.sides("state_r2")
        for index in (of.index, probes.index):
            counts = index.get_level_values("env").value_counts()
            known |= {str(env) for env, n in counts.items() if n >= FEWEST_PAIRS}
    return known & _names(suite)
