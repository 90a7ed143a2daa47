"""Features of many rows: dormant units, effective rank, and what a linear probe reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchbench.agent.networks import cached_rows

TAU = 0.025
"""A unit is dormant at or below this share of its layer's mean activity (Sokar et al. 2023)."""

ROWS_AT_ONCE = 256
"""Rows in one pass: fastest on a CPU, and small enough for any memory."""


@torch.no_grad()
def encode(encoder: nn.Module, obs: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features (N, F) of observations, float64, and each layer's mean |activation| by unit.

    The layers are every ReLU, in the order in which they are computed, and the output; of a
    convolution a unit is a channel, averaged over the picture.

    Raises ``FloatingPointError`` where a feature is not a finite number.
    """
    features, sums = [], list[np.ndarray]()
    # An encoder that split a part by itself would show each of its ReLUs several times.
    for part in obs.split(min(ROWS_AT_ONCE, cached_rows(obs))):
        with _ReluOutputs() as relus:
            output = encoder(part)
        if not output.isfinite().all():
            raise FloatingPointError("the encoder's output is not a finite number")
        features.append(output.double().cpu().numpy())
        activity = [*relus.activity, _activity(output)]
        now = [layer.double().cpu().numpy() * len(part) for layer in activity]
        sums = [a + b for a, b in zip(sums, now, strict=True)] if sums else now
    return np.concatenate(features), [layer / len(obs) for layer in sums]


def dormant_share(activity: Sequence[np.ndarray], tau: float = TAU) -> float:
    """Share of all units that are τ-dormant: s = E|h| / mean of E|h| over the layer, s <= τ.

    ``activity`` holds E|h| of each layer's units (Sokar et al. 2023, "The dormant neuron
    phenomenon in deep reinforcement learning", definition 3.1). In a silent layer all
    units are dormant.
    """
    dormant = sum(int((layer <= tau * layer.mean()).sum()) for layer in activity)
    return dormant / sum(len(layer) for layer in activity)


class _ReluOutputs(TorchFunctionMode):
    """Records the output of every ReLU in a block, module or function, without changing it."""

    def __init__(self) -> None:
        super().__init__()
        self.activity: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _RELUS:
            self.activity.append(_activity(result))
        return result


_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}


def _activity(output: torch.Tensor) -> torch.Tensor:
    """Mean |activation| of each unit (dimension 1) over rows and places."""
    return output.abs().transpose(0, 1).flatten(1).mean(1)


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
    # Here, as it takes a second to import, which 'plan' and 'status' need not wait for.
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold

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
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    z, mean = scaler.transform(x), y.mean(0)
    values, vectors = np.linalg.eigh(z.T @ z)
    inner = vectors.T @ (z.T @ (y - mean))
    outer = scaler.transform(x_new) @ vectors
    return np.stack([outer @ (inner / (values + a)[:, None]) + mean for a in PENALTIES])
