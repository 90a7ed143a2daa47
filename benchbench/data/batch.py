"""What the sampler hands to the agent."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """Transitions of n steps, on the agent's device.

    - ``obs``, ``next_obs``: uint8 (B, C, H, W), channels last in memory, C = stack x 3 with the
      oldest frame first; for ``observation: state`` float32 (B, D), z-scored;
    - ``proprio_BP``, ``next_proprio_BP``: float32, z-scored; of width 0 where there is none;
    - ``action_BA``: float32, z-scored;
    - ``reward_B``: float32, the discounted sum of up to n scaled rewards;
    - ``discount_B``: float32, the discount of the next observation's value; 0 after a terminal.
    """

    obs: torch.Tensor
    proprio_BP: torch.Tensor
    action_BA: torch.Tensor
    reward_B: torch.Tensor
    discount_B: torch.Tensor
    next_obs: torch.Tensor
    next_proprio_BP: torch.Tensor
