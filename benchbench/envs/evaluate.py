"""Scoring a policy: the same episodes at every evaluation, stepped side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
