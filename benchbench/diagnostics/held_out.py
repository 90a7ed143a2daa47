"""Fixed transitions, on which an agent's features and values are measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchbench.agent.protocol import Agent
from benchbench.data.batch import Batch
from benchbench.diagnostics.dormancy import dormant_share, encode
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
    """Where probes are fitted, and other rows, held out, on which everything is scored."""

    fit: Rows
    score: Rows
    variance: np.ndarray | None = None
    """Of states, actions and return (T,), over which R² is taken; None: of the scored rows."""

    @property
    def sigma(self) -> float:
        """Spread of the behaviour's returns on the held-out rows: the unit of all errors of Q."""
        return float(np.std(self.score.returns))

    def measure(self, agent: Agent) -> dict[str, float | None]:
        """Probes, effective rank, dormant units and Q errors, keyed as in ``evaluations.parquet``.

        Features are the encoder's output without proprioception. With ``observation: state`` there
        is no encoder, so the feature measures are None.
        """
        errors = q_errors(agent, self.score.batch, self.score.returns)
        encoder = agent.probed()
        if not list(encoder.parameters()):
            return errors
        features, _ = encode(encoder, self.fit.batch.obs)
        held_out, activity = encode(encoder, self.score.batch.obs)
        r2 = probe_r2(
            features, _targets(self.fit), self.fit.episodes, held_out, _targets(self.score),
            self.variance,
        )  # fmt: skip
        dims = self.score.states.shape[1]
        return errors | {
            "state_r2": mean_r2(r2[:dims]),
            "action_r2": mean_r2(r2[dims:-1]),
            "return_r2": mean_r2(r2[-1:]),
            "time_return_r2": self._clock_r2,
            "srank": float(effective_rank(held_out)),
            "dormant": dormant_share(activity),
        }

    @cached_property
    def _clock_r2(self) -> float | None:
        """R² of the return-to-go from the time index alone: the same at every evaluation."""
        clock_r2 = probe_r2(
            _clock(self.fit),
            self.fit.returns[:, None],
            self.fit.episodes,
            _clock(self.score),
            self.score.returns[:, None],
            None if self.variance is None else self.variance[-1:],
        )
        return mean_r2(clock_r2)


def mean_r2(values: np.ndarray) -> float | None:
    """Mean of the finite values; None where there is none (constant targets have no R²)."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def _targets(rows: Rows) -> np.ndarray:
    """What is probed for, side by side: states, then actions, then the return-to-go."""
    return np.column_stack([rows.states, rows.batch.action_BA.cpu().numpy(), rows.returns])


def _clock(rows: Rows) -> np.ndarray:
    """All that a probe without eyes can see: powers of the time since the episode's start."""
    time = rows.times[:, None] / 100.0
    return np.hstack([time, time**2, time**3])
