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
    done = results.cells[results.cells["status"] == "done"]
    done = done[done["variant"].isin([BEFORE, AFTER])].set_index("key")
    ledger = results.ledger
    watched = ledger[(ledger["module"] == "obs_encoder") & ledger["key"].isin(done.index)]
    variants = done["variant"].reindex(watched["key"].unique())
    silent = len(done) - len(variants)
    share = applied_share(watched, "critic").reindex(variants.index)
    shares = {name: share[variants == name].to_list() for name in (BEFORE, AFTER)}
    as_claimed = flows_as_claimed(watched, variants)
    of = done.loc[done.index.isin(as_claimed.index[~as_claimed])]
    wrong = [f"{cell.env} seed {cell.seed} {cell.variant}" for cell in of.itertuples()]
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


def flows_as_claimed(watched: pd.DataFrame, variants: pd.Series) -> pd.Series:
    """Whether the cells' ledger rows on the encoder show what the brief claims, by key.

    ``variants`` names each cell's, by key.
    """
    computed, applied = watched["computed"], watched["applied"].fillna(0)
    before = watched["key"].map(variants) == BEFORE
    lost = np.isclose(watched["dropped"], computed, rtol=1e-5, atol=0) & (applied == 0)
    of_critic = (computed > 0) & (applied > 0).where(~before, lost)
    of_vae = (applied > 0).where(before, computed == 0)
    kept = watched["mismatch"].dropna() < 1e-5

    def all_and_some(true: pd.Series) -> pd.Series:
        return true.groupby(watched["key"]).all().reindex(variants.index, fill_value=False)

    critic, vae = watched["loss"] == "critic", watched["loss"] == "vae"
    return all_and_some(of_critic[critic]) & all_and_some(of_vae[vae]) & all_and_some(kept)


def applied_share(watched: pd.DataFrame, loss: str) -> pd.Series:
    """Mean over the watched steps of applied / computed, for one loss on the encoder, by key."""
    rows = watched[(watched["loss"] == loss) & (watched["computed"] > 0)]
    return (rows["applied"].fillna(0) / rows["computed"]).groupby(rows["key"]).mean()
