"""The first row of the brief's table, gradient flow, read off the ledger: exact, without a test."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchbench.analysis.brief import AFTER, ALL, BEFORE, COLUMNS, aspect_columns
from benchbench.results.tables import Results
from benchbench.suite.model import Contrast


def judge_flow(results: Results, contrast: Contrast) -> dict[str, object]:
    """Row 1, from the ledger: exact, so it is *opposite* where a single cell differs.

    Claimed of every ``before`` cell: the critic's gradient on ``obs_encoder`` is computed, all of
    it dropped and none applied, while the VAE's is applied. Of every ``after`` cell: the critic's
    is applied and the VAE's is not computed. Of both: what the optimizer found in ``.grad`` is the
    routed sum (mismatch below 1e-5).
    """
    encoder = results.ledger[results.ledger["module"] == "obs_encoder"]
    done = results.cells[results.cells["status"] == "done"]
    shares: dict[str, list[float]] = {BEFORE: [], AFTER: []}
    wrong, silent = [], 0
    for cell in done[done["variant"].isin([BEFORE, AFTER])].itertuples():
        watched = encoder[encoder["key"] == cell.key]
        if watched.empty:
            silent += 1
            continue
        shares[str(cell.variant)].append(applied_share(watched, "critic"))
        if not flows_as_claimed(watched, str(cell.variant)):
            wrong.append(f"{cell.env} seed {cell.seed} {cell.variant}")
    watched_cells = len(shares[BEFORE]) + len(shares[AFTER])
    if not shares[BEFORE] or not shares[AFTER]:
        word, label = "not measured", ""
    elif wrong:
        word, label = "opposite", f"{len(wrong)} of {watched_cells} cells differ"
    elif silent:
        word, label = "inconclusive", f"{silent} cells without a ledger"
    else:
        word, label = "supported", ""
    means = {name: float(np.mean(share)) if share else math.nan for name, share in shares.items()}
    return {
        **dict.fromkeys(COLUMNS, math.nan),
        "of": contrast.of,
        "against": contrast.against,
        "env": ALL,
        **aspect_columns(1),
        "claim": "flow",
        "measure": "applied share of the critic's gradient, on obs_encoder at the watched steps",
        "unit": "share",
        "scale": "difference",
        "claimed": "higher",
        "interval": "",
        "n_pairs": min(len(shares[BEFORE]), len(shares[AFTER])),
        "against_mean": means[BEFORE],
        "of_mean": means[AFTER],
        "difference": means[AFTER] - means[BEFORE],
        "verdict": word,
        "label": label,
        "note": "exact, no test" + (f"; differs in {', '.join(wrong)}" if wrong else ""),
    }


def flows_as_claimed(watched: pd.DataFrame, variant: str) -> bool:
    """Whether a cell's ledger rows on the encoder show what the brief claims of the variant."""
    critic = watched[watched["loss"] == "critic"]
    vae = watched[watched["loss"] == "vae"]
    if critic.empty or vae.empty or not (critic["computed"] > 0).all():
        return False
    kept = watched["mismatch"].dropna()
    if kept.empty or not (kept < 1e-5).all():
        return False
    if variant == BEFORE:
        lost = np.isclose(critic["dropped"], critic["computed"], rtol=1e-5, atol=0).all()
        return bool(
            lost and (critic["applied"].fillna(0) == 0).all() and (vae["applied"] > 0).all()
        )
    return bool((critic["applied"] > 0).all() and (vae["computed"] == 0).all())


def applied_share(watched: pd.DataFrame, loss: str) -> float:
    """Mean over the watched steps of applied / computed, for one loss on the encoder."""
    rows = watched[(watched["loss"] == loss) & (watched["computed"] > 0)]
    return float((rows["applied"].fillna(0) / rows["computed"]).mean())
