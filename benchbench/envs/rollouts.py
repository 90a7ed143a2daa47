"""What a policy collects from stored rows on: the truth that its Q is measured against.

The simulator is put back to a row, takes the row's own action, and then follows the policy. The
rewards are booked as the data set books them (:meth:`PixelEnv.data_reward`), for that is what Q was
trained on: its first reward is the stored row's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchbench.envs import PixelEnv
from benchbench.envs.evaluate import FrameStack, Policy


@dataclass(frozen=True)
class Start:
    """A stored row to start from."""

    qpos: np.ndarray
    qvel: np.ndarray
    last_action: np.ndarray
    """The action of the row before, zeros where there is none."""
    action: np.ndarray
    """The row's own action, which is taken first."""
    frames: np.ndarray
    """The frames (K, H, W, 3) uint8 that a stack may reach back to, oldest first, the row's last;
    empty without pixels."""


class RollOuts:
    """Plays on from fixed rows, side by side in ``envs``, for ``horizon`` steps each.

    Raises ``ValueError`` where the environments cannot be put back to a row.
    """

    def __init__(
        self,
        envs: Sequence[PixelEnv],
        starts: Sequence[Start],
        *,
        horizon: int,
        discount: float,
        stack: int,
        spacing: int,
        proprio: Sequence[str],
        pixels: bool,
    ) -> None:
        if not all(env.can_reset for env in envs):
            raise ValueError("the environment cannot be put back to a stored row")
        self._envs, self._starts = list(envs), list(starts)
        self._horizon, self._discount = horizon, discount
        self._stack, self._spacing = stack, spacing
        self._proprio, self._pixels = tuple(proprio), pixels

    def returns(self, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        """Discounted return of every start (n,) in the environment's rewards, and what it misses.

        The second is the discount of the first reward that is not in the sum, (n,): discount to
        the horizon, or 0 where the episode ended for good.
        """
        size = len(self._envs)
        parts = [
            self._play(policy, self._starts[first : first + size])
            for first in range(0, len(self._starts), size)
        ]
        returns, missing = zip(*parts, strict=True)
        return np.concatenate(returns), np.concatenate(missing)

    def _play(self, policy: Policy, starts: Sequence[Start]) -> tuple[np.ndarray, np.ndarray]:
        returns = np.zeros(len(starts))
        missing = np.full(len(starts), self._discount**self._horizon)
        stacks = [FrameStack(self._stack, self._spacing) for _ in starts]
        for env, stack, start in zip(self._envs, stacks, starts, strict=False):
            env.set_state(start.qpos, start.qvel, start.last_action)
            for index, frame in enumerate(start.frames):
                stack.push(frame) if index else stack.start(frame)
        active = list(range(len(starts)))
        actions = [start.action for start in starts]
        for step in range(self._horizon):
            for index, action in zip(tuple(active), actions, strict=True):
                _, terminal, _ = self._envs[index].step(action)
                returns[index] += self._discount**step * self._envs[index].data_reward()
                if terminal:
                    missing[index] = 0.0
                    active.remove(index)
                elif self._pixels and step + 1 < self._horizon:
                    stacks[index].push(self._envs[index].frame())
            if not active or step + 1 == self._horizon:
                break
            envs = [self._envs[i] for i in active]
            actions = list(
                policy(
                    np.stack([stacks[i].stacked() for i in active]) if self._pixels else _EMPTY,
                    np.stack([env.state() for env in envs]),
                    np.stack([env.proprio(self._proprio) for env in envs]),
                )
            )
        return returns, missing


_EMPTY = np.empty((0,), dtype=np.uint8)
