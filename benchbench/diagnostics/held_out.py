"""Fixed transitions, on which an agent's features and values are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchbench.agent.lapo import LAPO
from benchbench.data.batch import Batch
from benchbench.diagnostics.probes import effective_rank, probe_r2
from benchbench.diagnostics.values import q_errors


@dataclass(frozen=True)
class Rows:
    """Transitions and what the data knows of them; the same for every variant of a pair."""

    batch: Batch
    states: np.ndarray
    """Simulator states (N, D) of the transitions' observations."""
    returns: np.ndarray
    """Discounted return-to-go (N,) of the data's policy, in the scaled reward's units."""
    episodes: np.ndarray
    """Episode of each transition (N,)."""
    times: np.ndarray
    """Steps since the episode's start (N,)."""


@dataclass(frozen=True)
class HeldOut:
    """Where probes are fitted (training episodes), and where everything is scored (held out)."""

    fit: Rows
    score: Rows

    def measure(self, agent: LAPO) -> dict[str, float | None]:
        """Probes, effective rank and Q errors, keyed as in ``evaluations.parquet``.

        Features are the encoder's output without proprioception. With ``observation: state`` there
        is no encoder, so the feature measures are None.
        """
        errors = q_errors(agent, self.score.batch, self.score.returns)
        if not list(agent.obs_encoder.parameters()):
            return errors
        features = _features(agent, self.fit)
        held_out = _features(agent, self.score)
        r2 = probe_r2(
            features, _targets(self.fit), self.fit.episodes, held_out, _targets(self.score)
        )
        clock_r2 = probe_r2(
            _clock(self.fit),
            self.fit.returns[:, None],
            self.fit.episodes,
            _clock(self.score),
            self.score.returns[:, None],
        )
        dims = self.score.states.shape[1]
        return errors | {
            "state_r2": _mean(r2[:dims]),
            "action_r2": _mean(r2[dims:-1]),
            "return_r2": _mean(r2[-1:]),
            "time_return_r2": _mean(clock_r2),
            "srank": float(effective_rank(held_out)),
        }


def _targets(rows: Rows) -> np.ndarray:
    """What is probed for, side by side: states, then actions, then the return-to-go."""
    return np.column_stack([rows.states, rows.batch.action_BA.cpu().numpy(), rows.returns])


def _clock(rows: Rows) -> np.ndarray:
    """All that a probe without eyes can see: powers of the time since the episode's start."""
    time = rows.times[:, None] / 100.0
    return np.hstack([time, time**2, time**3])


@torch.no_grad()
def _features(agent: LAPO, rows: Rows) -> np.ndarray:
    return agent.encoder("critic")(rows.batch.obs).double().cpu().numpy()


def _mean(values: np.ndarray) -> float | None:
    """Mean of the finite values; None where there is none (constant targets have no R²)."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
