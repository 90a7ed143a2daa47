"""Drawing and evaluation: frames of every kind of environment, steps of a cell's policy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch

from benchbench.cell.build import make_evaluator, make_policy
from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.envs import make_pixel_env
from benchbench.envs.evaluate import Policy
from benchbench.perf.rounds import Figure, Work
from benchbench.perf.timing import TimedCell, timed
from benchbench.suite.environments import KNOWN_ENVS, family_of
from benchbench.suite.grid import Cell


class Renderers:
    """Every kind of environment's camera at a cell's size, where it works on this machine."""

    def __init__(self, cell: Cell, device: Device) -> None:
        self._size, self._works = cell.pixels.size, dict[str, Work]()
        self._cannot: dict[str, str] = {}
        first = {family_of(env).name: env for env in reversed(KNOWN_ENVS)}
        first[family_of(cell.env).name] = cell.env
        for env in dict.fromkeys(first.values()):
            if not family_of(env).scored:
                continue
            try:
                made = make_pixel_env(env, self._size, family_of(env).action_repeat)
                made.reset(0)
                made.frame()
            except UserError as error:
                self._cannot[env] = error.message
            else:
                self._works[env] = Work(f"frames, {env}", timed(made.frame, device))

    @property
    def works(self) -> list[Work]:
        """What is to be timed, turn by turn."""
        return list(self._works.values())

    def figures(self) -> Iterator[Figure]:
        """What came of it."""
        for env, work in self._works.items():
            yield Figure.of("frames", f"{env}, {self._size} x {self._size}", "1/s", work.rates)
        for env, reason in self._cannot.items():
            yield Figure("frames", env, "1/s", note=reason)


class Evaluation:
    """Steps of a cell's evaluation: physics, drawing, encoding and acting, resets left out."""

    def __init__(self, cell: Cell, updates: TimedCell, device: Device) -> None:
        self._evaluator = make_evaluator(cell)
        self._policy = make_policy(updates.agent, updates.sampler, torch.device(device.kind))
        self._work = Work("evaluation", self._seconds)

    @property
    def works(self) -> list[Work]:
        """What is to be timed, turn by turn; nothing where the environment is not scored."""
        return [self._work] if self._evaluator else []

    def figures(self) -> Iterator[Figure]:
        """What came of it."""
        if self._evaluator:
            name = f"steps, {self._evaluator.pool.count} episodes side by side"
            yield Figure.of("evaluation", name, "1/s", self._work.rates)

    def _seconds(self, steps: int) -> float:
        """Seconds of ``steps`` steps, extrapolated from those that are played."""
        assert self._evaluator
        policy = _Watched(self._policy, steps)
        with suppress(_Enough):
            self._evaluator.returns(policy)
        return policy.seconds * steps / max(1, policy.steps)


class _Enough(Exception):
    """So many steps were watched."""


class _Watched:
    """A policy that counts the steps between its first call and its last one, and times them."""

    def __init__(self, policy: Policy, wanted: int) -> None:
        self._policy, self._wanted = policy, wanted
        self.steps, self._acting, self._start, self.seconds = 0, 0, 0.0, 0.0

    def __call__(self, frames: np.ndarray, states: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        now = time.perf_counter()
        self._start = self._start or now
        self.steps, self.seconds = self.steps + self._acting, now - self._start
        if self.steps >= self._wanted:
            raise _Enough
        self._acting = len(states)
        return self._policy(frames, states, proprio)
