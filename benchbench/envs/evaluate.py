"""Scoring a policy: the same episodes at every evaluation, stepped side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchbench.envs import PixelEnv

Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Actions (E, A) in the environment's units from frames uint8 (E, H, W, stack x 3), states (E, D)
and proprioception (E, P), both unnormalised."""


class FrameStack:
    """The last frames of one episode, as the sampler stacks them: spaced, oldest first.

    Before the episode is old enough its first frame stands in for the missing ones.
    """

    def __init__(self, stack: int, spacing: int) -> None:
        self._ages = [spacing * age for age in reversed(range(stack))]
        self._frames: list[np.ndarray] = []

    def start(self, frame: np.ndarray) -> None:
        """Begin an episode with its first frame, uint8 (H, W, 3)."""
        self._frames = [frame]

    def push(self, frame: np.ndarray) -> None:
        """Add the next frame."""
        self._frames.append(frame)
        del self._frames[: -self._ages[0] - 1]

    def stacked(self) -> np.ndarray:
        """The observation, uint8 (H, W, stack x 3)."""
        last = len(self._frames) - 1
        return np.concatenate([self._frames[max(0, last - age)] for age in self._ages], axis=2)


class Evaluator:
    """Plays fixed episodes with a policy; equal seeds mean equal start states.

    ``envs`` are as many environments as episodes are to be played side by side, ``seeds`` one
    integer an episode.
    """

    def __init__(
        self,
        envs: Sequence[PixelEnv],
        seeds: Sequence[int],
        *,
        stack: int,
        spacing: int,
        proprio: Sequence[str],
        pixels: bool,
    ) -> None:
        self.envs, self._seeds = list(envs), list(seeds)
        self._stacks = [FrameStack(stack, spacing) for _ in envs]
        self._proprio, self._pixels = tuple(proprio), pixels

    def returns(self, policy: Policy) -> np.ndarray:
        """Undiscounted return of every episode, in the order of the seeds."""
        batches = [
            self._seeds[start : start + len(self.envs)]
            for start in range(0, len(self._seeds), len(self.envs))
        ]
        return np.concatenate([self._play(policy, seeds) for seeds in batches])

    def score(self, return_: float) -> float:
        """D4RL-normalised score x 100 of a return."""
        return self.envs[0].normalized_score(return_)

    def close(self) -> None:
        """Shut the simulators down."""
        for env in self.envs:
            env.close()

    def _play(self, policy: Policy, seeds: Sequence[int]) -> np.ndarray:
        totals = np.zeros(len(seeds))
        for index, seed in enumerate(seeds):
            self.envs[index].reset(seed)
            self._look(index, first=True)
        active = list(range(len(seeds)))
        while active:
            envs = [self.envs[i] for i in active]
            actions = policy(
                np.stack([self._stacks[i].stacked() for i in active]) if self._pixels else _EMPTY,
                np.stack([env.state() for env in envs]),
                np.stack([env.proprio(self._proprio) for env in envs]),
            )
            for index, action in zip(tuple(active), actions, strict=True):
                reward, terminal, timeout = self.envs[index].step(action)
                totals[index] += reward
                if terminal or timeout:
                    active.remove(index)
                else:
                    self._look(index, first=False)
        return totals

    def _look(self, index: int, *, first: bool) -> None:
        if self._pixels:
            frame = self.envs[index].frame()
            stack = self._stacks[index]
            stack.start(frame) if first else stack.push(frame)


_EMPTY = np.empty((0,), dtype=np.uint8)
