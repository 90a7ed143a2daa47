"""A candidate's gated series against a baseline's: two snapshots in, one row a series out.

A **pair** is an (env, seed) of one variant, finished in both runs, with a finite value in both;
D = candidate - baseline, or ln(candidate / baseline). A **family** is every series that both runs
have, over all environments and variants.

**Sign**, with D turned so that positive is worse:

- *worse* (fails): the Holm-adjusted p is at most :data:`ALPHA`, and the mean exceeds the margin;
- *better*: the same on the other side;
- *no change*: the interval lies within ± the margin, or all differences are exactly zero;
- *undecided* (warns): otherwise, and always with fewer than :data:`PAIRS_NEEDED` pairs;
- *missing* (fails): a cell failed or is missing, or a value that the baseline has is not finite;
- *new* (warns): the baseline does not have it;
- *definition changed* (nothing to compare): a cell has another key than the baseline's.

**Test.** Holm's procedure tests "no difference", which is exactly what a rejection claims, so it
is valid here; the margin only removes alarms. (The report's claims compare intervals with delta,
for which Holm's levels would be too narrow; see ``benchbench.core.statistics``.) It is two-sided:
unchanged code is called worse *or* better with a probability of at most :data:`ALPHA`, and worse
with about half of that. The p-value is the paired t test's: with ten pairs and forty series the
exact sign-flip test, whose smallest p is 2/2¹⁰, cannot reject anything. With enough pairs for it
(2/2ⁿ <= alpha / m), the larger of the two p-values counts, which guards the t test against
outliers. The interval is Student's at Holm's own level for the series, 1 - alpha / k, with
k the factor that Holm multiplies its p by (for those not rejected, the factor of the first of
them), so it excludes zero wherever a difference is found.

All seeds of a night run on the machine in one state, so the pairs of a timing series are not
independent and the test's level does not hold for them; a margin wider than the differences
between nights limits false alarms, so the gate finds only coarse slowdowns.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchbench.core.files import object_of
from benchbench.core.statistics import (
    holm,
    paired_t_interval,
    pairs_needed,
    sign_flip_p,
    simultaneous_level,
)
from benchbench.gate.canary import compare_canary
from benchbench.gate.snapshot import SERIES, Series, Snapshot, margin_of

ALPHA = 0.01
"""Chance, over all series of a night, of calling unchanged code worse or better."""

PAIRS_NEEDED = 5
"""With fewer pairs the spread is too uncertain for a t test that far out in the tails."""

COLUMNS = ("env", "variant", "series", "unit", "scale", "n_pairs", "baseline", "candidate",
           "difference", "lo", "hi", "level", "p", "p_holm", "margin", "sign", "note")  # fmt: skip
"""Columns of a comparison. ``baseline`` and ``candidate`` are means over the pairs, geometric on
the ln-ratio scale, on which ``difference``, ``lo``, ``hi`` and ``margin`` then are too."""

WORSE = {series.name: series.worse for series in SERIES}

FAILING = ("worse", "differs", "missing")
WARNING = ("undecided", "new")


def compare(baseline: Snapshot, candidate: Snapshot) -> pd.DataFrame:
    """One row an environment, variant and gated series; columns as in :data:`COLUMNS`.

    The margins and the tolerance are those of the candidate's suite. A canary is compared as
    :mod:`benchbench.gate.canary` says.
    """
    if candidate.suite.tolerance:
        table = compare_canary(baseline, candidate, candidate.suite.tolerance)
        return table.reindex(columns=list(COLUMNS))
    gated = [s for s in SERIES if not s.cost or same_machine(baseline, candidate)]
    margins = candidate.suite.margins
    pairs = _pairs(baseline.cells, candidate.cells)
    rows, differences = [], []
    for group, cells in pairs.groupby(["env", "variant"], sort=False):
        for series in gated:
            row, d = _estimate(series, cells)
            if row:
                margin = margin_of(series, margins)
                rows.append(dict(zip(("env", "variant"), group, strict=True)) | row
                            | {"margin": margin})  # fmt: skip
                differences.append(d)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return judge(table, differences)


def judge(table: pd.DataFrame, differences: list[np.ndarray]) -> pd.DataFrame:
    """The table with tests, intervals and signs, from each row's paired differences.

    Rows that have a sign already (new, missing, definition changed) keep it.
    """
    paired = [i for i, d in enumerate(differences) if len(d)]
    m = len(paired)
    p = np.array([_p(differences[i], m) for i in paired])
    adjusted = holm(p)
    rejected = adjusted <= ALPHA
    k = np.full(m, m - int(rejected.sum()), dtype=float)
    k[rejected] = m - np.argsort(np.argsort(p[rejected], kind="stable"), kind="stable")
    rows = table.to_dict("records")
    for i, p_i, adjusted_i, k_i in zip(paired, p, adjusted, k, strict=True):
        d, row = differences[i], rows[i]
        row["level"] = simultaneous_level(max(1, int(k_i)), ALPHA)
        row["lo"], row["hi"] = interval = paired_t_interval(d, row["level"])
        row["difference"], row["p"], row["p_holm"] = float(d.mean()), p_i, adjusted_i
        if not row["sign"]:
            worse = WORSE[str(row["series"])]
            row["sign"], row["note"] = sign_of(worse * d, interval, adjusted_i, row["margin"])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sign_of(
    worsening: np.ndarray, interval: tuple[float, float], p_holm: float, margin: float
) -> tuple[str, str]:
    """The sign of one series, and a note where it needs one.

    ``interval`` may be of the difference or of the worsening: only its distance from 0 is read.
    """
    if not worsening.any():
        return ("no change", "equal to the last bit")
    if len(worsening) < PAIRS_NEEDED:
        return ("undecided", f"{len(worsening)} pairs; {PAIRS_NEEDED} needed")
    mean = float(worsening.mean())
    if p_holm <= ALPHA and abs(mean) > margin:
        return ("worse" if mean > 0 else "better", "")
    if max(abs(end) for end in interval) <= margin:
        return ("no change", "")
    return ("undecided", "")


@dataclass(frozen=True)
class Decision:
    """Whether a night passes: the exit code of ``compare --gate``, and why."""

    exit_code: int
    headline: str
    warnings: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """``pass``, ``regression`` or ``cannot compare``."""
        return ("pass", "regression", "cannot compare")[self.exit_code]


def decide(table: pd.DataFrame, keys: pd.DataFrame) -> Decision:
    """0 pass, 1 regression, 2 cannot compare; of a comparison and :func:`compare_keys`."""
    counts = table["sign"].value_counts()
    warnings = tuple(f"{counts[sign]} {sign}" for sign in WARNING if sign in counts)
    if differing := list(keys.loc[~keys["equal"], "part"]):
        return Decision(2, f"not the baseline's {', '.join(differing)}", warnings)
    if bad := [f"{counts[sign]} {sign}" for sign in FAILING if sign in counts]:
        return Decision(1, f"{', '.join(bad)} of {len(table)} series", warnings)
    if not set(table["sign"]) & {"better", "no change", "undecided"}:
        return Decision(2, "no series is in both runs", warnings)
    return Decision(0, f"none of {len(table)} series is worse", warnings)


def gate(baseline: Snapshot, candidate: Snapshot) -> tuple[pd.DataFrame, pd.DataFrame, Decision]:
    """The comparison, the keys and the decision, all at once."""
    table, keys = compare(baseline, candidate), compare_keys(baseline, candidate)
    return table, keys, decide(table, keys)


def _pairs(baseline: pd.DataFrame, candidate: pd.DataFrame) -> pd.DataFrame:
    """All planned cells of both runs side by side, one row an (env, variant, seed)."""
    return baseline.merge(
        candidate, on=["env", "variant", "seed"], how="outer", suffixes=("_b", "_c"), sort=False
    )


def _estimate(series: Series, cells: pd.DataFrame) -> tuple[dict[str, object], np.ndarray]:
    """One series of one (env, variant): its row, without tests, and the paired differences.

    The row is empty where neither run has the series.
    """
    b, c = _usable(series, cells, "_b"), _usable(series, cells, "_c")
    if not b.any() and not c.any() and series != SERIES[0]:
        # Where a whole variant has failed, its first series represents all of them.
        return {}, np.empty(0)
    old, new = cells["key_b"].notna(), cells["key_c"].notna()
    changed = old & new & (cells["key_b"] != cells["key_c"])
    both = b & c & ~changed
    values = {side: cells.loc[both, f"{series.name}{side}"].astype(float) for side in ("_b", "_c")}
    if series.scale == "ln ratio":
        values = {side: value.map(math.log) for side, value in values.items()}
    d = (values["_c"] - values["_b"]).to_numpy()
    sign, note = "", ""
    lost = (old & ~new) | (b & ~c) | (old & new & (cells["status_c"] != "done"))
    if lost.any():
        sign, note = "missing", _why_missing(cells[lost])
    elif changed.any():
        sign, note = "definition changed", f"{int(changed.sum())} of {len(cells)} cells"
    elif not both.any():
        sign, note = "new", ""
    row = {
        "series": series.name,
        "unit": series.unit,
        "scale": series.scale,
        "n_pairs": len(d),
        "baseline": _mean(values["_b"], series),
        "candidate": _mean(values["_c"], series),
        "sign": sign,
        "note": note,
    }
    return row, d


def _usable(series: Series, cells: pd.DataFrame, side: str) -> pd.Series:
    value = cells[f"{series.name}{side}"].astype(float)
    finite = pd.Series(np.isfinite(value), index=cells.index)
    done = cells[f"status{side}"] == "done"
    return finite & done & ((value > 0) | (series.scale == "difference"))


def _why_missing(cells: pd.DataFrame) -> str:
    """The first of the cells that are missing, and why."""
    first = cells.iloc[0]
    status = first["status_c"]
    why = {"failed": f"failed: {first['error_c']}", "done": "no finite value"}.get(
        status, "not in the run" if isinstance(status, float) else "did not finish"
    )
    more = f", and {len(cells) - 1} more" if len(cells) > 1 else ""
    return f"seed {first['seed']} {why}{more}"


def _mean(values: pd.Series, series: Series) -> float:
    if values.empty:
        return math.nan
    mean = float(values.mean())
    return math.exp(mean) if series.scale == "ln ratio" else mean


def _p(d: np.ndarray, members: int) -> float:
    """The p-value of one series; see the module's docstring. 1 where it cannot be tested."""
    if len(d) < PAIRS_NEEDED or not d.any():
        return 1.0
    spread = d.std(ddof=1)
    if spread == 0:
        p = 0.0
    else:
        t = abs(float(d.mean())) * math.sqrt(len(d)) / spread
        p = float(2 * stats.t.sf(t, len(d) - 1))
    if len(d) >= pairs_needed(members, ALPHA):
        p = max(p, sign_flip_p(d))
    return p


def compare_keys(baseline: Snapshot, candidate: Snapshot) -> pd.DataFrame:
    """Is there anything to compare? The parts of both keys: ``part, baseline, candidate, equal``.

    Two runs are comparable where the suite's cells, the GPU's or processor's model, torch's version
    and the data sets are the same. A canary is meant to run anywhere: its key has the kind of
    device instead of the model, and neither torch's version nor the bytes of the data, since the
    tolerance judges what they change.

    A part that a run does not know, since none of its cells finished, is null. Unknown in the
    candidate counts as equal: its cells will be called missing. Unknown in the baseline does not.
    """
    canary = bool(candidate.suite.tolerance)
    theirs, ours = _key(baseline, canary), _key(candidate, canary)
    rows = [
        (part, theirs.get(part), ours.get(part), _equal(theirs.get(part), ours.get(part)))
        for part in dict.fromkeys([*theirs, *ours])
    ]
    return pd.DataFrame(rows, columns=["part", "baseline", "candidate", "equal"])


def suite_hash(snapshot: Snapshot) -> str:
    """12 hexadecimal digits of a hash over the keys of all planned cells, in any order.

    A cell's key covers everything that defines it, including its data; descriptions, margins and
    deltas are not in it.
    """
    text = "\n".join(sorted(snapshot.cells["key"]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_machine(baseline: Snapshot, candidate: Snapshot) -> bool:
    """Whether all finished cells of both ran on one model of device with equally many threads."""
    ran = pd.concat([_done(baseline), _done(candidate)])
    return len(ran[["device_name", "threads"]].drop_duplicates()) == 1


def _key(snapshot: Snapshot, canary: bool) -> dict[str, str | None]:
    done = _done(snapshot)
    key: dict[str, str | None] = {"suite": suite_hash(snapshot)}
    if canary:
        return key | {"device": _values(done["device"])}
    key |= {"device": _values(done["device_name"]), "torch": _values(torch_of(done["versions"]))}
    data = done["data_key"] + " sha256 " + done["data_sha256"].str[:12]
    return key | {f"data of {env}": _values(data[done["env"] == env]) for env in _envs(snapshot)}


def torch_of(versions: pd.Series) -> pd.Series:
    """PyTorch's version in each of a cell's ``versions``; 'unknown' where they name none."""
    return versions.map(
        lambda text: (
            str(object_of(text).get("torch", "unknown")) if isinstance(text, str) else "unknown"
        )
    )


def _done(snapshot: Snapshot) -> pd.DataFrame:
    return snapshot.cells[snapshot.cells["status"] == "done"]


def _envs(snapshot: Snapshot) -> list[str]:
    return list(dict.fromkeys(snapshot.cells["env"]))


def _values(column: pd.Series) -> str | None:
    return " + ".join(sorted({str(value) for value in column})) or None


def _equal(baseline: str | None, candidate: str | None) -> bool:
    return baseline is not None and candidate in (baseline, None)
