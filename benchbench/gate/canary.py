"""The canary: a short deterministic run whose every number must be the stored one's.

No statistics: the same code on the same seeds gives the same numbers up to rounding, which other
processors, thread counts and library versions do in another order. A number's **deviation** is

    |candidate - baseline| / max(|baseline|, floor)

and may not exceed the suite's tolerance. The floor is the unit in which the number is read:
:data:`FLOORS` by column, else 1; for norms of gradients, whose size is a matter of the network,
the largest of that column in the cell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchbench.gate.snapshot import CELL, Snapshot

FLOORS = {"score": 100.0, "return_mean": 10.0, "srank": 10.0}
"""Units of columns that are no share, ratio or loss of order 1."""

NORMS = ("grad_critic", "grad_vae", "grad_q", "grad_v", "computed", "applied", "dropped")

AT = ["env", "variant", "seed", "update", "series"]


def compare_canary(baseline: Snapshot, candidate: Snapshot, tolerance: float) -> pd.DataFrame:
    """One row an environment, variant and table: its number that deviates most.

    ``n_pairs`` counts the numbers compared, ``difference`` is the largest deviation, ``baseline``
    and ``candidate`` are the two numbers and ``note`` says which. ``sign`` is *no change*,
    *differs*, *missing* (a cell failed, or a number is gone), *new* (the baseline lacks it) or
    *definition changed*.
    """
    both = deviations(baseline.numbers, candidate.numbers)
    cells = baseline.cells[CELL].merge(
        candidate.cells[[*CELL, "status", "error"]],
        on=["env", "variant", "seed"],
        how="outer",
        suffixes=("_b", "_c"),
        sort=False,
    )
    rows = [
        row | {"env": env, "variant": variant, "unit": "deviation", "scale": "difference",
               "margin": tolerance}
        for (env, variant), mine in cells.groupby(["env", "variant"], sort=False)
        for row in _rows_of(mine, both[(both["env"] == env) & (both["variant"] == variant)],
                            tolerance)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def deviations(baseline: pd.DataFrame, candidate: pd.DataFrame) -> pd.DataFrame:
    """All numbers of both runs side by side: :data:`AT`, ``value_b, value_c, deviation``.

    The deviation is infinite where one run lacks the number, or it is not finite in one.
    """
    both = baseline.merge(
        candidate.drop(columns="key"), on=AT, how="outer", suffixes=("_b", "_c"), sort=False
    )
    column = both["series"].str.rpartition(".")[2]
    floor = column.map(FLOORS).fillna(1.0)
    largest = both["value_b"].abs().groupby([both[k] for k in ("env", "variant", "seed")]
                                            + [both["series"]]).transform("max")  # fmt: skip
    floor = floor.where(~column.isin(NORMS), largest)
    size = floor.clip(lower=both["value_b"].abs())
    off = (both["value_c"] - both["value_b"]).abs()
    both["deviation"] = np.where(off == 0, 0.0, off / size.where(size > 0, np.nan))
    both["deviation"] = both["deviation"].fillna(np.inf)
    return both


def _rows_of(
    cells: pd.DataFrame, numbers: pd.DataFrame, tolerance: float
) -> list[dict[str, object]]:
    """The rows of one environment and variant, one a table; one in all where it is not whole."""
    old, new = cells["key_b"].notna(), cells["key_c"].notna()
    unfinished = cells[old & (~new | (cells["status"] != "done"))]
    if len(unfinished):
        first = unfinished.iloc[0]
        failed = first["status"] == "failed"
        why = f"failed: {first['error']}" if failed else "did not finish"
        return [{"series": "all", "sign": "missing", "note": f"seed {first['seed']} {why}"}]
    if not old.any():
        return [{"series": "all", "sign": "new", "note": ""}]
    if (cells["key_b"] != cells["key_c"]).any():
        return [{"series": "all", "sign": "definition changed", "note": ""}]
    tables = numbers["series"].str.rpartition(".")[0].str.rpartition(" ")[2]
    return [_row(str(name), mine, tolerance) for name, mine in numbers.groupby(tables, sort=False)]


def _row(table: str, numbers: pd.DataFrame, tolerance: float) -> dict[str, object]:
    lost = numbers["value_b"].notna() & numbers["value_c"].isna()
    added = numbers["value_b"].isna() & numbers["value_c"].notna()
    known = numbers[~added].sort_values("deviation")
    worst = numbers[added].iloc[0] if known.empty else known.iloc[-1]
    if lost.any():
        sign = "missing"
    elif len(known) and worst["deviation"] > tolerance:
        sign = "differs"
    elif added.any():
        sign, worst = "new", numbers[added].iloc[0]
    else:
        sign = "no change"
    where = f"{worst['series']} at update {worst['update']}, seed {worst['seed']}"
    return {
        "series": table,
        "n_pairs": int((~lost & ~added).sum()),
        "baseline": worst["value_b"],
        "candidate": worst["value_c"],
        "difference": worst["deviation"],
        "sign": sign,
        "note": where if worst["deviation"] > 0 else "equal to the last bit",
    }
