"""Linear probes of frozen features, and the features' effective rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

PENALTIES = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
"""Ridge penalties to choose from, for standardised features.

The largest predict the mean, so that a target that cannot be read scores 0 and not less.
"""

FOLDS = 5
"""Folds of whole episodes on which the penalty is chosen."""


def probe_r2(
    features: np.ndarray,
    targets: np.ndarray,
    episodes: np.ndarray,
    new_features: np.ndarray,
    new_targets: np.ndarray,
    variance: np.ndarray | None = None,
) -> np.ndarray:
    """R² of ridge regression from features to each target, scored on other episodes.

    Fitted on ``features`` (N, F), ``targets`` (N, T) of ``episodes`` (N,); each target's penalty
    is chosen by cross-validation over folds of whole episodes. Scored on ``new_features`` (M, F)
    and ``new_targets`` (M, T), which must come from none of those episodes. Returns (T,):
    1 - MSE / ``variance`` (T,), where NaN stands for the new rows' own, as no ``variance`` does. A
    target that does not vary gives NaN.

    Raises ``ValueError`` where there are fewer than two episodes to fit on.
    """
    folds = GroupKFold(min(FOLDS, len(np.unique(episodes)))).split(features, groups=episodes)
    errors = np.zeros((len(PENALTIES), targets.shape[1]))
    for fit, score in folds:
        predicted = _ridge(features[fit], targets[fit], features[score])
        errors += ((predicted - targets[score]) ** 2).sum(1)
    best = errors.argmin(0)
    predicted = _ridge(features, targets, new_features)[best, :, np.arange(len(best))].T
    r2 = r2_score(new_targets, predicted, multioutput="raw_values")
    r2[np.ptp(new_targets, axis=0) == 0] = np.nan
    if variance is not None:
        given = ~np.isnan(variance)
        fixed = np.where(given & (variance > 0), variance, np.nan)
        r2[given] = (1 - ((predicted - new_targets) ** 2).mean(axis=0) / fixed)[given]
    return r2


def moving(columns: Sequence[int], states: np.ndarray, episodes: np.ndarray) -> list[int]:
    """Those of the ``columns`` of ``states`` (N, D) that change within an episode (N,).

    A constant column has one value per episode, and a fit to those does not generalise to other
    episodes. All are kept where no episode has two rows.
    """
    same = np.diff(episodes) == 0
    if not same.any():
        return list(columns)
    return [c for c in columns if (np.diff(states[:, c])[same] != 0).any()]


def effective_rank(features: np.ndarray, threshold: float = 0.99) -> int:
    """srank (Kumar et al. 2021, "Implicit under-parameterization", eq. 1) of features (N, F).

    The smallest k whose largest k singular values sum to ``threshold`` of the sum of all.
    """
    singular = np.linalg.svd(features, compute_uv=False)
    if singular.sum() == 0:
        return 0
    share = np.cumsum(singular) / singular.sum()
    return int(np.searchsorted(share, threshold - 1e-12) + 1)


def _ridge(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
    """Predictions (penalties, M, T) of ridge regression on standardised features, intercept free.

    One eigendecomposition serves all penalties.
    """
    scaler = StandardScaler().fit(x)
    z, mean = scaler.transform(x), y.mean(0)
    values, vectors = np.linalg.eigh(z.T @ z)
    inner = vectors.T @ (z.T @ (y - mean))
    outer = scaler.transform(x_new) @ vectors
    return np.stack([outer @ (inner / (values + a)[:, None]) + mean for a in PENALTIES])
