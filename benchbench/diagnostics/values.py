"""How well Q predicts, on held-out transitions."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from benchbench.agent.lapo import LAPO
from benchbench.data.batch import Batch


@torch.no_grad()
def q_errors(agent: LAPO, batch: Batch, behaviour_returns: np.ndarray) -> dict[str, float | None]:
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
    q1_B, q2_B = agent.critic.q(agent.read("critic", batch.obs, batch.proprio_BP), batch.action_BA)
    next_v_B = agent.critic.v(agent.read("critic", batch.next_obs, batch.next_proprio_BP))
    td_B = torch.stack([q1_B, q2_B]) - (batch.reward_B + batch.discount_B * next_v_B)
    q = torch.minimum(q1_B, q2_B).double().cpu().numpy()
    error = q - behaviour_returns
    spearman = stats.spearmanr(q, behaviour_returns).statistic if np.ptp(q) > 0 else None
    return {
        "td_error": td_B.square().mean().sqrt().item() / sigma,
        "q_behaviour_error": float(np.sqrt(np.mean(error**2)) / sigma),
        "q_behaviour_bias": float(error.mean() / sigma),
        "q_behaviour_spearman": None if spearman is None else float(spearman),
    }
