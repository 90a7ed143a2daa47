"""What can be read from the frozen features by a linear probe, and how many of them are used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

PENALTIES = (1e-2, 1e0, 1e1, 1e2, 1e3)
"""Ridge penalties to choose from, for standardised features."""

OUTER_FOLDS, INNER_FOLDS = 5, 3


def probe_r2(features: np.ndarray, targets: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Cross-validated R² of ridge regression from ``features`` (N, F) to each target (N, T).

    Episodes are never torn between fitting and scoring: the outer folds predict each held-out
    episode once, and the penalty of each target is chosen by folds inside the fitting episodes.
    R² is taken over all N held-out predictions; a constant target gives NaN. Returns (T,).

    Raises ``ValueError`` where there are fewer than ``INNER_FOLDS`` + 2 episodes.
    """
    if len(np.unique(episodes)) < INNER_FOLDS + 2:
        raise ValueError(f"probes need at least {INNER_FOLDS + 2} held-out episodes")
    predictions = np.empty_like(targets, dtype=np.float64)
    for fit, score in _folds(episodes, OUTER_FOLDS):
        best = _best_penalties(features[fit], targets[fit], episodes[fit])
        for penalty in np.unique(best):
            mine = best == penalty
            predicted = _ridge(features[fit], targets[fit][:, mine], features[score], penalty)
            predictions[np.ix_(score, np.flatnonzero(mine))] = predicted
    r2 = np.array([r2_score(targets[:, t], predictions[:, t]) for t in range(targets.shape[1])])
    r2[np.ptp(targets, axis=0) == 0] = np.nan
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


def _best_penalties(features: np.ndarray, targets: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    errors = np.zeros((len(PENALTIES), targets.shape[1]))
    for fit, score in _folds(episodes, INNER_FOLDS):
        for index, penalty in enumerate(PENALTIES):
            predicted = _ridge(features[fit], targets[fit], features[score], penalty)
            errors[index] += ((predicted - targets[score]) ** 2).sum(0)
    return np.array(PENALTIES)[errors.argmin(0)]


def _ridge(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, penalty: float) -> np.ndarray:
    scaler = StandardScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Ridge(alpha=penalty, solver="cholesky").fit(scaler.transform(x), y)
    return model.predict(scaler.transform(x_new)).reshape(len(x_new), -1)


def _folds(episodes: np.ndarray, folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    folds = min(folds, len(np.unique(episodes)))
    yield from GroupKFold(folds).split(episodes, groups=episodes)
