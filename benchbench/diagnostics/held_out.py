"""Fixed transitions, on which an agent's features and values are measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import stats

from benchbench.agent.protocol import Agent, Features
from benchbench.core.statistics import MEANINGLESS_R2
from benchbench.data.batch import Batch
from benchbench.diagnostics.features import (
    ROWS_AT_ONCE,
    dormant_share,
    effective_rank,
    encode,
    probe_r2,
)


@torch.no_grad()
def least_q(agent: Agent, batch: Batch) -> np.ndarray:
    """min(Q1, Q2) of a batch's actions, (B,) float64: the Q that all errors are taken of.

    Both are trained towards the same target; the smaller is what V is trained on, and so what the
    agent acts on, with LAPO's default ``doubleq_min`` of 1.
    """
    q1_B, q2_B = agent.q(_read(agent, batch.obs, batch.proprio_BP).critic, batch.action_BA)
    return torch.minimum(q1_B, q2_B).double().cpu().numpy()


def own_return_errors(
    q: np.ndarray, returns: np.ndarray, missing: np.ndarray, sigma: float
) -> dict[str, float | None]:
    """Errors of Q against the returns that the agent's own policy collects from the same pairs.

    All arrays (n,), in the scaled reward's units. ``missing`` bounds what each roll-out's horizon
    cuts off; its root mean square bounds how far ``q_error`` and ``q_bias`` can be off for it
    (Minkowski). ``sigma`` is the spread of the *behaviour's* returns, one unit for all variants.
    Keys as in ``evaluations.parquet``; None where the unit, a rank or a slope does not exist.
    """
    if sigma == 0:
        return dict.fromkeys(("q_error", "q_bias", "q_spearman", "q_slope", "q_tail"))
    error = q - returns
    varies = np.ptp(q) > 0
    return {
        "q_error": float(np.sqrt(np.mean(error**2)) / sigma),
        "q_bias": float(error.mean() / sigma),
        "q_spearman": _spearman(q, returns),
        "q_slope": float(stats.linregress(q, returns).slope) if varies else None,
        "q_tail": float(np.sqrt(np.mean(missing**2)) / sigma),
    }


@torch.no_grad()
def q_errors(agent: Agent, batch: Batch, behaviour_returns: np.ndarray) -> dict[str, float | None]:
    """Errors of Q = min(Q1, Q2) on a held-out batch, in units of the behaviour returns' spread.

    ``behaviour_returns`` (B,) are the discounted returns that the *data's* policy went on to
    collect, in the scaled reward's units. The agent's Q is its own policy's, so they are a
    stand-in for its truth and are named as such. Keys as in ``evaluations.parquet``; all None
    where the returns do not vary.
    """
    sigma = float(np.std(behaviour_returns))
    if sigma == 0:
        return dict.fromkeys(
            ("td_error", "q_behaviour_error", "q_behaviour_bias", "q_behaviour_spearman")
        )
    q1_B, q2_B = agent.q(_read(agent, batch.obs, batch.proprio_BP).critic, batch.action_BA)
    next_v_B = agent.bootstrap(_read(agent, batch.next_obs, batch.next_proprio_BP))
    td_B = torch.stack([q1_B, q2_B]) - (batch.reward_B + batch.discount_B * next_v_B)
    q = torch.minimum(q1_B, q2_B).double().cpu().numpy()
    error = q - behaviour_returns
    return {
        "td_error": td_B.square().mean().sqrt().item() / sigma,
        "q_behaviour_error": float(np.sqrt(np.mean(error**2)) / sigma),
        "q_behaviour_bias": float(error.mean() / sigma),
        "q_behaviour_spearman": _spearman(q, behaviour_returns),
    }


def _read(agent: Agent, obs: torch.Tensor, proprio_BP: torch.Tensor) -> Features:
    """What the networks read of many rows, a few at a time."""
    rows = zip(obs.split(ROWS_AT_ONCE), proprio_BP.split(ROWS_AT_ONCE), strict=True)
    parts = [agent.features(*part) for part in rows]
    critic_BF = torch.cat([part.critic for part in parts])
    if parts[0].critic is parts[0].vae:  # one encoder for all: one tensor for all
        return Features(critic_BF, critic_BF, critic_BF)
    vae_BF, actor_BF = (torch.cat([part[i] for part in parts]) for i in (1, 2))
    return Features(critic_BF, vae_BF, actor_BF)


def _spearman(q: np.ndarray, returns: np.ndarray) -> float | None:
    """Rank correlation; None where either does not vary."""
    if np.ptp(q) == 0 or np.ptp(returns) == 0:
        return None
    return float(stats.spearmanr(q, returns).statistic)


@dataclass(frozen=True)
class Rows:
    """Transitions with their states, returns and times; the same for all variants of a pair."""

    batch: Batch
    states: np.ndarray
    """Simulator states (N, D) of the transitions' observations."""
    returns: np.ndarray
    """Discounted return-to-go (N,) of the data's policy, in the scaled reward's units."""
    episodes: np.ndarray
    """Episode of each transition (N,)."""
    times: np.ndarray
    """Steps since the episode's start (N,)."""
    distractions: np.ndarray
    """State (N, D) of what is laid over the observations' newest frames; D is 0 without any."""


@dataclass(frozen=True)
class HeldOut:
    """The rows on which probes are fitted, and the held-out rows on which everything is scored."""

    fit: Rows
    score: Rows
    twin: torch.Tensor | None = None
    """The observations of ``score`` under another draw of the same distractions."""
    unseen: Batch | None = None
    """``score`` under distractions that the training has not seen, where there are any."""
    variance: np.ndarray | None = None
    """Variances of states, actions and return (T,) for R²; None: those of the scored rows."""

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
        if self.unseen is not None:
            unseen = q_errors(agent, self.unseen, self.score.returns)
            errors["unseen_q_behaviour_error"] = unseen["q_behaviour_error"]
        encoder = agent.probed()
        if not list(encoder.parameters()):
            return errors
        features, _ = encode(encoder, self.fit.batch.obs)
        held_out, activity = encode(encoder, self.score.batch.obs)
        measures = errors | {
            **self._probed(features, held_out),
            "time_return_r2": self._clock_r2,
            "srank": float(effective_rank(held_out)),
            "dormant": dormant_share(activity),
        }
        if self.twin is not None:
            measures["filtering"] = filtering(held_out, encode(encoder, self.twin)[0])
        if self.unseen is not None:
            found = self._probed(features, encode(encoder, self.unseen.obs)[0])
            found.pop("distract_r2", None)  # of what lies over the seen frames
            measures |= {f"unseen_{name}": value for name, value in found.items()}
        return measures

    def _probed(self, features: np.ndarray, held_out: np.ndarray) -> dict[str, float | None]:
        """R² of the probes, fitted on ``features`` of ``fit`` and scored on those of ``score``."""
        targets, variance = _targets(self.score), None
        if self.variance is not None:  # that of the distractions' state is each set of rows' own
            variance = np.full(targets.shape[1], np.nan)
            variance[: len(self.variance)] = self.variance
        r2 = probe_r2(features, _targets(self.fit), self.fit.episodes, held_out, targets, variance)
        dims, actions = self.score.states.shape[1], self.score.batch.action_BA.shape[1]
        found = {
            "state_r2": mean_r2(r2[:dims]),
            "action_r2": mean_r2(r2[dims : dims + actions]),
            "return_r2": mean_r2(r2[dims + actions : dims + actions + 1]),
        }
        if self.score.distractions.shape[1]:
            found["distract_r2"] = mean_r2(r2[dims + actions + 1 :])
        return found

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
    """Mean of the values; None where there is none (constant targets have no R²).

    A value below :data:`MEANINGLESS_R2` is left out: such a probe has learned nothing, and how far
    below it lies is chance.
    """
    known = values[np.isfinite(values) & (values >= MEANINGLESS_R2)]
    return float(known.mean()) if known.size else None


def filtering(features: np.ndarray, twins: np.ndarray) -> float | None:
    """Feature distance due to distractions alone, as a share of the whole feature distance.

    Both (N, F): the same N states under two draws of the distractions. The mean of
    ‖f(s, d) - f(s, d')‖² over the mean of ‖f(s, d) - f(s', d')‖² of all pairs of states: 0 where
    the distractions are filtered out altogether, 1 where the features tell nothing of the state.
    None where all features are one point.

    A relative of the denoising factor of Luo et al. (2025, "Understanding behavioral metric
    learning"), (far - near) / (far + near) with the same two kinds of pairs: theirs takes plain
    distances on states that each agent's own policy visits, with one new draw of every state it is
    compared with; here distances are squared, so that the figure is a share of variance, and the
    held-out states and draws are one set for all variants of a pair.
    """
    near = ((features - twins) ** 2).sum(1).mean()
    apart = (features**2).sum(1).mean() + (twins**2).sum(1).mean()
    far = apart - 2 * features.mean(0) @ twins.mean(0)
    return float(near / far) if far > 0 else None


def _targets(rows: Rows) -> np.ndarray:
    """What is probed for, side by side: states, actions, the return-to-go, then distractions."""
    actions = rows.batch.action_BA.cpu().numpy()
    return np.column_stack([rows.states, actions, rows.returns, rows.distractions])


def _clock(rows: Rows) -> np.ndarray:
    """Inputs of the probe that sees only time: powers of the steps since the episode's start."""
    time = rows.times[:, None] / 100.0
    return np.hstack([time, time**2, time**3])
