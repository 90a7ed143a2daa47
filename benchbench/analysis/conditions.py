"""Whether the answer depends on the condition: the same environments and seeds, other settings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchbench.analysis.brief import Measure
from benchbench.analysis.claims import chosen
from benchbench.analysis.pairing import Pairing, Study
from benchbench.core.inference import any_differs
from benchbench.core.statistics import holm

EFFECTS = ("of", "against", "claim", "measure", "unit", "scale", "env", "name", "condition",
           "difference", "lo", "hi", "delta")  # fmt: skip
"""Columns of :func:`effects`."""

DEPENDS = ("of", "against", "claim", "measure", "over", "seeds", "p", "p_holm")
"""Columns of :func:`dependence`."""


def has_conditions(study: Study) -> bool:
    """Whether the suite has an environment more than once."""
    ids = [one.env.id for one in study.results.suite.strata]
    return len({*ids}) < len(ids)


def effects(study: Study, claims: pd.DataFrame) -> pd.DataFrame:
    """Each tested claim's difference in every stratum, with its interval: rows of the verdicts.

    ``claims`` is what :func:`~benchbench.analysis.claims.judge` returns, so that planned looks are
    paid for here too. ``env`` is the stratum's label, ``name`` the environment's and ``condition``
    the condition's; in a suite without conditions ``name`` is the id, and ``condition`` the
    environment's own name.
    """
    suite = study.results.suite
    named = [(one.name, one.condition) if suite.conditions else (one.env.id, one.name)
             for one in suite.strata]  # fmt: skip
    strata = pd.DataFrame(named, columns=["name", "condition"])
    strata.insert(0, "env", [one.label for one in suite.strata])
    tested = claims[claims["claim"].isin(suite.judged)]
    return tested.merge(strata, on="env").reindex(columns=list(EFFECTS))


def dependence(study: Study) -> pd.DataFrame:
    """Whether each tested claim's difference depends on the condition.

    The rows are seeds, each under all conditions: :func:`~benchbench.core.inference.any_differs`.
    With the suite's ``conditions`` ``over`` is 'all', the test is over all environments; where the
    same id stands under several names it is that id. ``p_holm`` is adjusted over a contrast's rows.
    """
    parts = []
    for pairing in study.pairings:
        rows = []
        for claim, measure, _ in _tested(study, pairing):
            of, against, _ = pairing.sides(measure.column, measure.scale)
            for over, tables in _tables(study, (of - against).rename("d").reset_index()).items():
                rows.append({
                    "of": pairing.contrast.of, "against": pairing.contrast.against, "claim": claim,
                    "measure": measure.name, "over": over, "seeds": sum(map(len, tables)),
                    "p": any_differs(tables) if tables else math.nan, "p_holm": math.nan,
                })  # fmt: skip
        frame = pd.DataFrame(rows, columns=list(DEPENDS))
        known = frame["p"].notna()
        frame.loc[known, "p_holm"] = holm(frame.loc[known, "p"])
        parts.append(frame)
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(DEPENDS))


def _tested(study: Study, pairing: Pairing) -> list[tuple[str, Measure, str]]:
    judged = study.results.suite.judged
    return [one for one in chosen(pairing) if one[0] in judged]


def _tables(study: Study, differences: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Arrays of seeds × conditions, one an environment, whole rows only; by what a test covers."""
    suite = study.results.suite
    strata = {one.label: one for one in suite.strata}
    ids = differences["env"].map(lambda env: strata[env].env.id)
    column = differences["env"].map(
        lambda env: strata[env].condition if suite.conditions else strata[env].name
    )
    frame = differences.assign(id=ids, column=column)
    found: dict[str, list[np.ndarray]] = {}
    for env, mine in frame.groupby("id", sort=False):
        names = list(suite.conditions) or [o.name for o in suite.strata if o.env.id == env]
        wide = mine.pivot_table("d", "seed", "column", "mean").reindex(columns=names).dropna()
        if len(names) > 1 and len(wide):
            found.setdefault("all" if suite.conditions else str(env), []).append(wide.to_numpy())
    return found
