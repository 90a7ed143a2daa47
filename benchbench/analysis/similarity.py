"""How alike two sets of features are, whatever their rotation and scale."""

from __future__ import annotations

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear centred kernel alignment of features (N, F) and (N, G) of the same N rows.

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, with the columns of both centred (Kornblith et al.
    2019, "Similarity of neural network representations revisited", eq. 5 and section 3). 1 where
    one is a rotation and scaling of the other; None where either does not vary.

    Raises ``ValueError`` where the rows differ in number.
    """
    if len(x) != len(y):
        raise ValueError(f"features of {len(x)} and of {len(y)} rows cannot be compared")
    x = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64) - np.mean(y, axis=0, dtype=np.float64)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / scale) if scale > 0 else None
