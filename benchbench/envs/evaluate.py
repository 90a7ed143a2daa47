"""Playing a policy: the episodes of an evaluation, and roll-outs from stored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchbench.envs.pool import Pool, Shown

if TYPE_CHECKING:
    from benchbench.envs.distraction import Layer


Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Actions (E, A) in the environment's units from frames uint8 (E, H, W, stack x 3), states (E, D)
and proprioception (E, P), both unnormalised."""


class FrameStack:
    """The last frames of one episode, as the sampler stacks them: spaced, oldest first.

    Early in an episode, its first frame is repeated in place of the missing ones.
    """

    def __init__(self, stack: int, spacing: int) -> None:
        self._ages = [spacing * age for age in reversed(range(stack))]
        self._frames: list[np.ndarray] = []

    def start(self, frames: Iterable[np.ndarray]) -> None:
        """Begin an episode with its frames so far, uint8 (H, W, 3), oldest first."""
        self._frames = list(frames)

    def push(self, frame: np.ndarray) -> None:
        """Add the next frame."""
        self._frames.append(frame)
        del self._frames[: -self._ages[0] - 1]

    def stacked(self) -> np.ndarray:
        """The observation, uint8 (H, W, stack x 3)."""
        last = len(self._frames) - 1
        return np.concatenate([self._frames[max(0, last - age)] for age in self._ages], axis=2)


class Stacks:
    """The frame stacks of a pool's environments, by place, and what the policy is shown.

    ``layer`` is laid over every frame, by the episode that a place plays and the time in it.
    """

    def __init__(self, pool: Pool, stack: int, spacing: int, layer: Layer | None = None) -> None:
        self._stacks = [FrameStack(stack, spacing) for _ in range(pool.count)]
        self._pixels, self._layer = pool.pixels, layer
        self._episodes, self._times = [0] * pool.count, [0] * pool.count

    def start(self, place: int, frames: np.ndarray, episode: int, time: int = 0) -> None:
        """Begin with the clean frames (K, H, W, 3) of an episode up to ``time``, oldest first.

        Without pixels there are none.
        """
        self._episodes[place], self._times[place] = episode, time
        if self._layer and len(frames):
            times = range(time - len(frames) + 1, time + 1)
            frames = self._layer.lay(frames, [episode] * len(frames), times)
        self._stacks[place].start(frames)

    def push(self, shown: Mapping[int, Shown]) -> None:
        """Add the next frames."""
        clean = {place: now.frame for place, now in shown.items() if now.frame is not None}
        for place in clean:
            self._times[place] += 1
        frames: Iterable[np.ndarray] = clean.values()
        if self._layer and clean:
            of = ([values[place] for place in clean] for values in (self._episodes, self._times))
            frames = self._layer.lay(np.stack(list(clean.values())), *of)
        for place, frame in zip(clean, frames, strict=True):
            self._stacks[place].push(frame)

    def observed(self, shown: Mapping[int, Shown]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A :data:`Policy`'s arguments, in the order of ``shown``."""
        return (
            np.stack([self._stacks[place].stacked() for place in shown])
            if self._pixels
            else np.empty((0,), np.uint8),
            np.stack([now.state for now in shown.values()]),
            np.stack([now.proprio for now in shown.values()]),
        )


NO_FRAMES = np.empty((0,), dtype=np.uint8)


class Evaluator:
    """Plays fixed episodes with a policy; equal seeds mean equal start states.

    ``pool`` has as many environments as episodes are to be played side by side, ``seeds`` are one
    integer an episode; ``layer`` is laid over the frames, where the episodes are its ``first``-th
    and those after it.
    """

    def __init__(
        self,
        pool: Pool,
        seeds: Sequence[int],
        *,
        stack: int,
        spacing: int,
        layer: Layer | None = None,
        first: int = 0,
    ) -> None:
        self.pool, self._seeds, self._first = pool, list(seeds), first
        self._stacks = Stacks(pool, stack, spacing, layer)

    def returns(self, policy: Policy) -> np.ndarray:
        """Undiscounted return of every episode, in the order of the seeds."""
        size = self.pool.count
        batches = [(k, self._seeds[k : k + size]) for k in range(0, len(self._seeds), size)]
        played = [self._play(policy, seeds, self._first + k) for k, seeds in batches]
        return np.concatenate(played)

    def score(self, return_: float) -> float:
        """D4RL-normalised score x 100 of a return."""
        return self.pool.normalized_score(return_)

    def close(self) -> None:
        """Shut the simulators down."""
        self.pool.close()

    def _play(self, policy: Policy, seeds: Sequence[int], first: int) -> np.ndarray:
        totals = np.zeros(len(seeds))
        shown = self.pool.reset(dict(enumerate(seeds)))
        for place, now in shown.items():
            frames = NO_FRAMES if now.frame is None else now.frame[None]
            self._stacks.start(place, frames, first + place)
        while shown:
            actions = policy(*self._stacks.observed(shown))
            stepped = self.pool.step(dict(zip(shown, actions, strict=True)))
            for place, now in stepped.items():
                totals[place] += now.reward
            shown = {p: now for p, now in stepped.items() if not now.terminal and not now.timeout}
            self._stacks.push(shown)
        return totals


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
    """Returns of a policy from stored rows on: the truth that its Q is measured against.

    The simulator is set to a row, takes the row's own action, and then follows the policy for
    ``horizon`` steps in all, side by side in ``pool``. Rewards are booked as the data set books
    them (:meth:`PixelEnv.data_reward`), since Q was trained on those: the first reward is the
    stored row's own.

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
