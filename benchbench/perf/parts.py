"""What the benchmark times: updates and their batches, drawing, evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchbench.cell.build import make_evaluator, make_policy
from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.data.batch import Batch
from benchbench.envs import make_pixel_env
from benchbench.envs.evaluate import Policy
from benchbench.perf.rounds import Figure, Work
from benchbench.perf.timing import TimedCell, timed
from benchbench.routing import Routing
from benchbench.suite.agent import ENCODERS
from benchbench.suite.environments import KNOWN_ENVS, family_of
from benchbench.suite.grid import Cell

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrix product by which a device's peak is measured."""

GIGA, MEGA = 1e9, 1e6


class Updates:
    """A cell's updates under several variants and with every encoder, by one shared sampler.

    The encoders are compared under the cell's own variant, and the sampler's share is of its
    updates too.
    """

    def __init__(self, cell: Cell, routings: Sequence[Routing], device: Device) -> None:
        self.own = TimedCell(cell, device)
        self._cell, self._updates = cell, {("variant", cell.variant): self.own}
        for routing in routings:
            if routing.name != cell.variant:
                self._add("variant", routing.name, cell.under(routing), device)
        if cell.observation == "pixels":
            self._updates["encoder", cell.agent.encoder] = self.own
            for encoder in ENCODERS:
                if encoder != cell.agent.encoder:
                    agent = cell.agent.model_copy(update={"encoder": encoder})
                    self._add("encoder", encoder, replace(cell, agent=agent), device)
        self._works = {
            updates: Work(f"update, {name}", updates.seconds)
            for (_, name), updates in self._updates.items()
        }
        self._sampling = Work("sampler", timed(self.own.sampler.sample, device))
        self._side = SIDE[device.kind]
        self._dtype = torch.bfloat16 if cell.agent.precision == "bf16" else torch.float32
        self._product = Work("matrix product", timed(self._multiplied(device), device))

    @property
    def works(self) -> list[Work]:
        """What is timed, turn by turn."""
        return [*self._works.values(), self._sampling, self._product]

    def figures(self) -> Iterator[Figure]:
        """The measured figures."""
        peak = [2 * self._side**3 * rate for rate in self._product.rates]
        for (what, name), updates in self._updates.items():
            rates, flops = self._works[updates].rates, update_flops(updates)
            shares = [flops * rate / most for rate, most in zip(rates, peak, strict=True)]
            share = Figure.of(f"share of peak by {what}", name, "share", shares)
            note = f"{flops / GIGA:.2f} GFLOP each, {share.value:.2f} of the peak"
            yield Figure.of(f"updates by {what}", name, "1/s", rates, note)
            yield Figure.of(f"operations by {what}", name, "GFLOP", [flops / GIGA])
            yield share
        product = f"{self._dtype} product, {self._side} x {self._side}".removeprefix("torch.")
        yield Figure.of("peak", product, "GFLOP/s", [flops / GIGA for flops in peak])
        yield Figure.of("sampler", "batches", "1/s", self._sampling.rates)
        moved = batch_bytes(self.own.sampler.sample()) / MEGA
        yield Figure.of("sampler", "bytes", "MB/s", [moved * r for r in self._sampling.rates])
        turns = zip(self._sampling.each, self._works[self.own].each, strict=True)
        shares = [sampling / update for sampling, update in turns]
        yield Figure.of("sampler", f"of an update, {self._cell.variant}", "share", shares)

    def _add(self, what: str, name: str, cell: Cell, device: Device) -> None:
        self._updates[what, name] = TimedCell(cell, device, self.own.sampler)

    def _multiplied(self, device: Device) -> Callable[[], torch.Tensor]:
        matrix = torch.ones(self._side, self._side, dtype=self._dtype, device=device.kind)
        return lambda: matrix @ matrix


def update_flops(updates: TimedCell) -> int:
    """Floating-point operations of one update's products and convolutions, as torch counts them.

    A multiplication and an addition are two; both passes are in it, what is elementwise is not.
    """
    batch = updates.sampler.sample()
    with FlopCounterMode(display=False) as counter:
        updates.agent.update(batch)
    return int(counter.get_total_flops())


def batch_bytes(batch: Batch) -> int:
    """Bytes of all that a batch holds."""
    return sum(getattr(batch, field.name).nbytes for field in fields(batch))


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
        """What is timed, turn by turn."""
        return list(self._works.values())

    def figures(self) -> Iterator[Figure]:
        """The measured figures."""
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
        """What is timed, turn by turn; nothing where the environment is not scored."""
        return [self._work] if self._evaluator else []

    def figures(self) -> Iterator[Figure]:
        """The measured figures."""
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
    """As many steps as wanted were timed."""


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
