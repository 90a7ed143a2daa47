"""One fixed set of held-out transitions, on which an agent's features and values are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchbench.agent.lapo import LAPO
from benchbench.data.batch import Batch
from benchbench.diagnostics.probes import effective_rank, probe_r2
from benchbench.diagnostics.values import q_errors


@dataclass(frozen=True)
class HeldOut:
    """Held-out transitions and what is known of them; the same for every variant of a pair."""

    batch: Batch
    states: np.ndarray
    """Simulator states (N, D) of the transitions' first frames."""
    returns: np.ndarray
    """Discounted return-to-go (N,) of the data's policy, in the scaled reward's units."""
    episodes: np.ndarray
    """Episode of each transition (N,); probes never tear one apart."""
    times: np.ndarray
    """Steps since the episode's start (N,)."""

    def measure(self, agent: LAPO) -> dict[str, float | None]:
        """Probes, effective rank and Q errors, keyed as in ``evaluations.parquet``.

        Features are the encoder's output without proprioception. With ``observation: state`` there
        is no encoder, so the feature measures are None.
        """
        measures = q_errors(agent, self.batch, self.returns)
        if not list(agent.obs_encoder.parameters()):
            return measures
        with torch.no_grad():
            features = agent.obs_encoder(self.batch.obs).double().cpu().numpy()
        dims = self.states.shape[1]
        targets = np.column_stack([self.states, self.batch.action_BA.cpu().numpy(), self.returns])
        r2 = probe_r2(features, targets, self.episodes)
        time = self.times[:, None] / max(1, self.times.max())
        clock = np.hstack([time, time**2, time**3])
        time_r2 = probe_r2(clock, self.returns[:, None], self.episodes)
        return measures | {
            "state_r2": _mean(r2[:dims]),
            "action_r2": _mean(r2[dims:-1]),
            "return_r2": _mean(r2[-1:]),
            "time_return_r2": _mean(time_r2),
            "srank": float(effective_rank(features)),
        }


def _mean(values: np.ndarray) -> float | None:
    """Mean of the finite values; None where there is none (constant targets have no R²)."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
