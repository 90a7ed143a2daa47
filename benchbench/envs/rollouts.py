"""What a policy collects from stored rows on: the truth that its Q is measured against.

The simulator is put back to a row, takes the row's own action, and then follows the policy. The
rewards are booked as the data set books them (:meth:`PixelEnv.data_reward`), for that is what Q was
trained on: its first reward is the stored row's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchbench.envs.evaluate import Policy, Stacks
from benchbench.envs.pool import Pool

if TYPE_CHECKING:
    from benchbench.envs.distraction import Layer


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
    episode: int
    """The row's episode in the data set, and the row's time in it."""
    time: int


class RollOuts:
    """Plays on from fixed rows, side by side in ``pool``, for ``horizon`` steps each.

    Raises ``ValueError`` where the environments cannot be put back to a row.
    """

    def __init__(
        self,
        pool: Pool,
        starts: Sequence[Start],
        *,
        horizon: int,
        discount: float,
        stack: int,
        spacing: int,
        layer: Layer | None = None,
    ) -> None:
        if not pool.can_reset:
            raise ValueError("the environment cannot be put back to a stored row")
        self._pool, self._starts = pool, list(starts)
        self._horizon, self._discount = horizon, discount
        self._stacks = Stacks(pool, stack, spacing, layer)

    def returns(self, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        """Discounted return of every start (n,) in the environment's rewards, and what it misses.

        The second is the discount of the first reward that is not in the sum, (n,): discount to
        the horizon, or 0 where the episode ended for good.
        """
        size = self._pool.count
        parts = [
            self._play(policy, self._starts[first : first + size])
            for first in range(0, len(self._starts), size)
        ]
        returns, missing = zip(*parts, strict=True)
        return np.concatenate(returns), np.concatenate(missing)

    def _play(self, policy: Policy, starts: Sequence[Start]) -> tuple[np.ndarray, np.ndarray]:
        returns = np.zeros(len(starts))
        missing = np.full(len(starts), self._discount**self._horizon)
        self._pool.set_state(
            {place: (s.qpos, s.qvel, s.last_action) for place, s in enumerate(starts)}
        )
        for place, start in enumerate(starts):
            self._stacks.start(place, start.frames, start.episode, start.time)
        actions = {place: start.action for place, start in enumerate(starts)}
        for step in range(self._horizon):
            is_last = step + 1 == self._horizon
            stepped = self._pool.step(actions, draw=not is_last)
            for place, now in stepped.items():
                returns[place] += self._discount**step * now.data_reward
                if now.terminal:
                    missing[place] = 0.0
            shown = {place: now for place, now in stepped.items() if not now.terminal}
            if is_last or not shown:
                break
            self._stacks.push(shown)
            actions = dict(zip(shown, policy(*self._stacks.observed(shown)), strict=True))
        return returns, missing
