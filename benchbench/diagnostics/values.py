"""How well Q predicts, on held-out transitions."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from benchbench.agent.protocol import Agent, Features
from benchbench.data.batch import Batch
from benchbench.diagnostics.features import ROWS_AT_ONCE


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
