"""How much of the spread of the score's differences is chance in the evaluation episodes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchbench.analysis.measures import score_per_return
from benchbench.analysis.pairing import Pairing, Study
from benchbench.results.tables import FINAL_SHARE

NOISE_LIMIT = 0.1
"""Share of the variance of D that the evaluation's noise is meant to stay under."""


def evaluation_noise(study: Study, pairing: Pairing) -> pd.DataFrame:
    """Share of D's variance that is evaluation noise, D the pairs' difference in final score.

    One row an environment with three pairs or more that were scored over fresh episodes: ``env,
    pairs, episodes, share``. ``episodes`` are a cell's, over all evaluations of the last tenth.
    Both cells of a pair have the same starts, so the episodes are paired: with d_ki the difference
    of episode i's return at evaluation k, and s the score of a unit of return, the noise is
    s² Σ_k var_i(d_ki) / n_k / K², a mean over the pairs.
    """
    late = _late_returns(study)
    slopes = score_per_return(study.results.evaluations)
    of, against, _ = pairing.sides("final_score")
    sides, rows = (pairing.contrast.of, pairing.contrast.against), []
    for env, d in (of - against).groupby(level="env", sort=False):
        noises, counts = [], []
        for name, seed in d.index:
            both = [late.get((name, seed, side)) for side in sides]
            if both[0] is None or both[1] is None or len(both[0]) != len(both[1]):
                continue
            parts = [a - b for a, b in zip(both[0], both[1], strict=True) if len(a) == len(b) > 1]
            if len(parts) == len(both[0]):
                noise = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
                noises.append(slopes[str(name)] ** 2 * noise)
                counts.append(sum(map(len, parts)))
        spread = float(d.var(ddof=1)) if len(d) > 2 else 0.0
        if noises and spread > 0:
            rows.append((env, len(noises), int(np.median(counts)), np.mean(noises) / spread))
    return pd.DataFrame(rows, columns=["env", "pairs", "episodes", "share"])


def _late_returns(study: Study) -> dict[tuple[str, int, str], list[np.ndarray]]:
    """By (env, seed, variant): the fresh returns of each evaluation in the last tenth."""
    found: dict[tuple[str, int, str], list[np.ndarray]] = {}
    table = study.results.evaluations
    last = table.groupby("key")["update"].transform("max")
    rows = table[(table["update"] >= (1 - FINAL_SHARE) * last) & table["fresh_returns"].notna()]
    for _, row in rows.sort_values("update").iterrows():
        returns = np.asarray(row["fresh_returns"], dtype=float)
        found.setdefault((row["env"], row["seed"], row["variant"]), []).append(returns)
    return found
