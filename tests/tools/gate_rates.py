"""How often the gate is right, on simulated nights; run by hand, with PYTHONPATH=tests.

    python tests/tools/gate_rates.py false-alarms N   A/A nights that fail, of N
    python tests/tools/gate_rates.py pairs N   pairs to find a loss in score, N draws each
    python tests/tools/gate_rates.py slowdowns N   how often throughput finds them, N draws each

Between two of these nights no seed is shared, so the paired difference of two scores has a spread
of the square root of two times a seed's. That is the worst case: on the CPU the same seeds make the
same scores, any change is seen and no unchanged code differs; a GPU lies between.
"""

import collections
import dataclasses
import math
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from helpers.gate_factory import SPREAD, make_night
from scipy import stats

from benchbench.gate import Snapshot, gate
from benchbench.gate.compare import COLUMNS, judge
from benchbench.perf.throughput import gate_throughput

LOSSES = (25, 50, 75, 100, 125)
"""Points of score."""

PAIRS = (5, 6, 8, 10, 12, 14, 16, 20)

FAMILY = 32
"""Series of suites/nightly.yaml: 2 mazes, 2 variants, 8 series."""

SLOWDOWNS = (0.0, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2)

ROUNDS = {0.012: "two cores, quiet", 0.035: "two cores, others at work"}
"""The spread of a round's ratio as measured with one version on both sides, or a planted one."""

WANTED = 0.8
"""The share of nights in which a loss is to be found."""


def without_margins(night: Snapshot) -> Snapshot:
    """The night under a suite that calls anything beyond doubt worse."""
    margins = night.suite.margins
    none = margins.model_copy(update=dict.fromkeys(type(margins).model_fields, 1e-9))
    return dataclasses.replace(night, suite=night.suite.model_copy(update={"margins": none}))


def false_alarms(nights: int) -> None:
    """Print how many of so many A/A nights fail, with the exact 95 % upper bound."""
    kinds: dict[str, dict[str, object]] = {
        "10 seeds, the suite's margins": {},
        "5 seeds, the suite's margins": {"seeds": 5},
        "10 seeds, no margins, times apart": {"night": 0.0, "margins": False},
        "14 seeds, no margins, times apart": {"seeds": 14, "night": 0.0, "margins": False},
    }
    for number, (kind, settings) in enumerate(kinds.items()):
        margins = settings.pop("margins", True)
        failed, better, by = 0, 0, collections.Counter()
        for i in range(nights):
            rng = np.random.default_rng([i, number])
            old, new = make_night(rng, **settings), make_night(rng, **settings)
            table, _, decision = gate(old, new if margins else without_margins(new))
            failed += decision.exit_code != 0
            better += (table["sign"] == "better").any()
            by.update(table.loc[table["sign"] == "worse", "series"])
        bound = stats.binomtest(failed, nights).proportion_ci(0.95, "exact")
        print(f"{kind}: {failed} of {nights} nights of {len(table)} series fail, "
              f"{failed / nights:.2%} [{bound.low:.2%}, {bound.high:.2%}]; "
              f"{better} better; {dict(by)}", flush=True)  # fmt: skip


def pairs(draws: int) -> None:
    """Print the share of draws in which a loss of score in one maze and variant is found."""
    print(f"{'loss':<12}" + "".join(f"{n:>6}" for n in PAIRS) + "  pairs")
    for loss in LOSSES:
        found = [_share(n, loss, draws) for n in PAIRS]
        enough = next((n for n, share in zip(PAIRS, found, strict=True) if share >= WANTED), None)
        print(f"{loss:>4} points " + "".join(f"{share:>6.0%}" for share in found)
              + f"  {enough or f'more than {PAIRS[-1]}'} for {WANTED:.0%}", flush=True)  # fmt: skip


def _share(n: int, loss: float, draws: int) -> float:
    row = {"series": "final_score", "scale": "difference", "margin": 5.0, "sign": "", "note": ""}
    table = pd.DataFrame([row] * FAMILY, columns=list(COLUMNS))
    rng = np.random.default_rng([n, loss])
    differences = rng.normal(-loss, math.sqrt(2) * SPREAD["final_score"], size=(draws, n))
    others = [np.zeros(n)] * (FAMILY - 1)
    found = sum(judge(table, [d, *others])["sign"].iloc[0] == "worse" for d in differences)
    return found / draws


def slowdowns(draws: int) -> None:
    """Print the share of throughput's draws that fail, of 12 rounds, for each slowdown."""
    for spread, when in ROUNDS.items():
        for members in (1, 4):
            shares = [_fails(by, spread, members, draws) for by in SLOWDOWNS]
            text = ", ".join(f"{by:.0%} {share:.1%}" for by, share in zip(SLOWDOWNS, shares,
                                                                         strict=True))  # fmt: skip
            print(f"rounds of {spread:.1%} ({when}), {members} rows: slower by {text}", flush=True)


def _fails(by: float, spread: float, members: int, draws: int) -> float:
    rng = np.random.default_rng([members, round(1000 * by), round(1000 * spread)])
    same = {"device_name": "a machine", "versions": {"torch": "2.9.0"}}
    works = [("maze", str(number)) for number in range(members)]

    def measure(wanted: Sequence[tuple[str, str]]) -> pd.DataFrame:
        rows = []
        for env, variant in wanted:
            seconds = (1 + by) * np.exp(spread * rng.normal(size=12))
            for number, new in enumerate(seconds):
                shared = {"round": number, "env": env, "variant": variant, "updates": 1}
                rows += [shared | {"turn": 0, "side": "old", "seconds": 1.0},
                         shared | {"turn": 1, "side": "new", "seconds": new}]  # fmt: skip
        return pd.DataFrame(rows)

    failed = sum(gate_throughput((same, same), works, measure)[2].exit_code for _ in range(draws))
    return failed / draws


if __name__ == "__main__":
    {"false-alarms": false_alarms, "pairs": pairs, "slowdowns": slowdowns}[sys.argv[1]](
        int(sys.argv[2])
    )
