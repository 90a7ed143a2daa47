"""What can be read from the frozen features by a linear probe, and how many of them are used."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

PENALTIES = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3)
"""Ridge penalties to choose from, for standardised features."""

FOLDS = 5
"""Folds of whole episodes on which the penalty is chosen."""


def probe_r2(
    features: np.ndarray,
    targets: np.ndarray,
    episodes: np.ndarray,
    new_features: np.ndarray,
    new_targets: np.ndarray,
) -> np.ndarray:
    """R² of ridge regression from features to each target, scored on other episodes.

    Fitted on ``features`` (N, F), ``targets`` (N, T) of ``episodes`` (N,); each target's penalty
    is chosen by cross-validation over folds of whole episodes. Scored on ``new_features`` (M, F)
    and ``new_targets`` (M, T), which must come from none of those episodes. Returns (T,); a target
    that is constant on the new rows gives NaN.

    Raises ``ValueError`` where there are fewer than two episodes to fit on.
    """
    folds = GroupKFold(min(FOLDS, len(np.unique(episodes)))).split(features, groups=episodes)
    errors = np.zeros((len(PENALTIES), targets.shape[1]))
    for fit, score in folds:
        for index, penalty in enumerate(PENALTIES):
            predicted = _ridge(features[fit], targets[fit], features[score], penalty)
            errors[index] += ((predicted - targets[score]) ** 2).sum(0)
    best = np.array(PENALTIES)[errors.argmin(0)]
    predicted = np.empty_like(new_targets, dtype=np.float64)
    for penalty in np.unique(best):
        mine = best == penalty
        predicted[:, mine] = _ridge(features, targets[:, mine], new_features, penalty)
    r2 = r2_score(new_targets, predicted, multioutput="raw_values")
    r2[np.ptp(new_targets, axis=0) == 0] = np.nan
    return r2


def effective_rank(features: np.ndarray, threshold: float = 0.99) -> int:
    """srank (Kumar et al. 2021, "Implicit under-parameterization", eq. 1) of features (N, F).

    The smallest k whose largest k singular values sum to ``threshold`` of the sum of all.
    """
    singular = np.linalg.svd(features, compute_uv=False)
    if singular.sum() == 0:
        return 0
    share = np.cumsum(singular) / singular.sum()
    return int(np.searchsorted(share, threshold - 1e-12) + 1)


def _ridge(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, penalty: float) -> np.ndarray:
    scaler = StandardScaler().fit(x)
    model = Ridge(alpha=penalty, solver="cholesky").fit(scaler.transform(x), y)
    return model.predict(scaler.transform(x_new)).reshape(len(x_new), -1)
