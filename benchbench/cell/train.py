"""One cell's life: open the data, build the agent, train, evaluate, measure.

:func:`run_cell` is the whole of it, in one process and on one device. It returns the rows of the
five result tables; the caller publishes them. With checkpoints, a cell that was killed goes
on where its last one was written, and ends in the same rows and weights as one left alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from functools import partial
from typing import cast

import numpy as np
import torch

from benchbench.agent.base import PixelAgent
from benchbench.agent.protocol import Info
from benchbench.cell.build import (
    final_evaluator,
    make_agent,
    make_evaluator,
    make_policy,
    make_sampler,
    split,
    unseen_evaluator,
)
from benchbench.cell.devices import Device
from benchbench.cell.policy import policy_bytes
from benchbench.cell.state import CellState, Clock
from benchbench.core.processes import compute_on
from benchbench.core.provenance import git_state, versions
from benchbench.data.batch import Batch
from benchbench.data.sampler import Sampler
from benchbench.data.store import Dataset, open_dataset
from benchbench.diagnostics.evaluation import Measures
from benchbench.diagnostics.ledger import Ledger, check_routing
from benchbench.diagnostics.reference_encoder import oracle_state_r2
from benchbench.diagnostics.signals import Signals
from benchbench.envs.evaluate import Evaluator, Policy
from benchbench.results.checkpoints import About, Checkpoints, State
from benchbench.results.failures import Diverged
from benchbench.results.store import POLICY, CellRows, TableRows
from benchbench.results.tables import FINAL_SHARE
from benchbench.routing import Routing
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

SignalsRow = dict[str, float | None]

FINAL_EVALUATIONS = 5
"""How many of the last evaluations make the final score."""

LOOK_EVERY = 50
"""Losses are looked at after this many updates at the latest: looking waits for the device."""


def run_cell(
    cell: Cell,
    device: Device,
    on_update: Callable[[int], None],
    checkpoints: Checkpoints | None = None,
    on_alive: Callable[[], None] = lambda: None,
    processes: int = 1,
) -> TableRows:
    """Train and measure one cell; calls ``on_update`` with the number of updates done.

    ``on_alive`` is called now and then where no updates are made. With ``checkpoints`` the cell
    goes on from the one that is there, and writes new ones. At most ``processes`` play its
    episodes, this one among them; its results do not depend on their number. Raises whatever goes
    wrong, among it :class:`Diverged`, ``RoutingMismatch``, and ``Stopped`` where the checkpoints
    were told to stop.
    """
    return CellRun(cell, device, on_update, checkpoints, on_alive, processes).to_the_end()


class CellRun:
    """One cell while it runs; the arguments are those of :func:`run_cell`.

    ``beside`` is another cell on the same data in this process, whose frames it shares. ``apart``
    is called before the agent's gradients or optimizers are read, or it is updated on its own.
    """

    def __init__(
        self,
        cell: Cell,
        device: Device,
        on_update: Callable[[int], None],
        checkpoints: Checkpoints | None = None,
        on_alive: Callable[[], None] = lambda: None,
        processes: int = 1,
        beside: CellRun | None = None,
    ) -> None:
        self.clock, self.state = Clock(device), CellState.at_the_start()
        self.on_update, self.checkpoints, self.on_alive = on_update, checkpoints, on_alive
        self.apart: Callable[[], None] = lambda: None
        self.cell, self.device = cell, device
        torch_device = torch.device(device.kind)
        self.dataset: Dataset = beside.dataset if beside else open_dataset(cell.data)
        train_rows, held_out_rows = split(cell, self.dataset)
        frames = beside.sampler.source if beside else None
        self.sampler: Sampler = make_sampler(cell, self.dataset, train_rows, torch_device, frames)
        self.agent = make_agent(cell, self.sampler, torch_device)
        self.initial_weights = self.agent.weights_sha256()
        self.evaluator = make_evaluator(cell, processes)
        self.unseen_evaluator = unseen_evaluator(cell, self.evaluator)
        self.policy = self._lively(make_policy(self.agent, self.sampler, torch_device))
        with self.clock.running("diagnose"):
            self.measures = Measures(
                cell,
                self.dataset,
                self.sampler,
                train_rows,
                held_out_rows,
                self.evaluator.pool if self.evaluator else None,
                self.policy,
            )
            self.signals = Signals(self.agent, cell.diagnose.signals_every)
        self.unseen: list[tuple[int, Info]] = []
        self._resume()

    def to_the_end(self) -> TableRows:
        """Train and measure the cell; returns its rows."""
        steps = self.steps()
        try:
            batch = next(steps)
            while True:
                with self.clock.running("train"):
                    info = self.agent.update(batch)
                batch = steps.send(info)
        except StopIteration:
            return self.rows()

    def rows(self) -> CellRows:
        """The finished cell's rows, and its policy where that is kept."""
        rows = CellRows(self.state.rows)
        if self.cell.keep_policy:
            sha256 = self.dataset.sha256
            rows.files = {POLICY: policy_bytes(self.cell, self.agent, self.sampler, sha256)}
        return rows

    def steps(self) -> Generator[Batch, Info, None]:
        """Run the cell to its end, except for its plain updates, which the caller makes.

        Yields the batch of each and expects its losses. Training goes in blocks of
        ``evaluate.every`` updates, each after an evaluation. The ledger watches the first two
        updates of a block, which are made here. There is no pause between those two, so it is no
        part of the state.
        """
        every, updates, state = self.cell.evaluate.every, self.cell.train.updates, self.state
        oracle = self._oracle(wait=False)  # or all others would wait for it at their ends
        ledger: Ledger | None = None
        for update in range(state.updates, updates):
            number, in_block = divmod(update, every)
            if self.cell.routing.encoder_until < 1:
                cast(PixelAgent, self.agent).follow(self._routing(update))
            if in_block == 0:
                if len(state.scores) <= number:  # else the cell went on from after it
                    self._evaluate()
                    self._pause()
                self.apart()
                ledger = Ledger(self.agent.modules(), self.agent.optimizers)
            with self.clock.running("train"):
                batch = self.sampler.sample()
            signals = self._signals(batch)
            if ledger:
                with self.clock.running("diagnose"):
                    info = ledger.watch(partial(self.agent.update, batch))
            else:
                info = yield batch
            self._updated(info, signals)
            ends = in_block + 1 == every or update + 1 == updates
            if ledger and (in_block == 1 or ends):
                self._close_ledger(ledger, update - in_block)
                ledger = None
            if ends:
                self._end_block(in_block + 1)
            if not ledger:
                self._pause()
        if len(state.scores) <= math.ceil(updates / every):
            self._evaluate()
        oracle = self._oracle() if oracle is None else oracle
        with self.clock.running("diagnose"):
            self._add("features", *self.measures.features(self.agent, updates))
        if self.evaluator:
            self.evaluator.close()
        self._describe(oracle)

    def _oracle(self, wait: bool = True) -> float | None:
        """See :func:`~benchbench.diagnostics.reference_encoder.oracle_state_r2`."""
        device = torch.device(self.device.kind)
        with self.clock.running("diagnose"):
            return oracle_state_r2(self.cell, self.dataset, device, self._alive, wait=wait)

    def _routing(self, update: int) -> Routing:
        """The routing that ``update`` is made under."""
        return self.cell.routing.at(update / self.cell.train.updates)

    def _close_ledger(self, ledger: Ledger, start: int) -> None:
        """Check the routing of the block's first updates, and begin to time the others."""
        self._refuse_divergence()
        entries = ledger.entries()
        check_routing(entries, self._routing(start))
        self._add("ledger", *({"update": start, **asdict(entry)} for entry in entries))
        self.state.block_began = self.clock.seconds["train"]

    def _end_block(self, updates: int) -> None:
        """Time an update of the finished block of ``updates``, without the two watched ones."""
        self._refuse_divergence()
        if updates > 2:
            seconds = self.clock.seconds["train"] - self.state.block_began
            self.state.block_ms.append(1000 * seconds / (updates - 2))

    def _signals(self, batch: Batch) -> SignalsRow | None:
        """Gradient norms before the next update, every ``signals_every`` updates."""
        update = self.state.updates
        if not self.signals.due(update):
            return None
        with self.clock.running("diagnose"):
            seed = self.cell.stream(f"signals {update}")
            return self.signals.before_update(update, batch, seed)

    def _updated(self, info: Info, signals: SignalsRow | None) -> None:
        """An update is made: look at its losses now and then, and count it."""
        self.unseen.append((self.state.updates, info))
        if signals is not None:
            losses = self._refuse_divergence()
            self._add("training", {"update": self.state.updates, **losses, **signals})
        elif len(self.unseen) >= LOOK_EVERY:
            self._refuse_divergence()
        self.state.updates += 1
        self.on_update(self.state.updates)

    def _refuse_divergence(self) -> dict[str, float]:
        """Look at all losses not looked at yet; returns the last update's.

        Waiting for them is waiting for their updates, so the time counts as training.
        """
        with self.clock.running("train"):
            last = look_at(self.unseen)
        self.unseen.clear()
        return last

    def _evaluate(self) -> None:
        update = self.state.updates
        played: dict[str, object] = {}
        score = math.nan
        if self.evaluator:
            with self.clock.running("evaluate"):
                returns = self.evaluator.returns(self.policy)
            mean = float(returns.mean())
            score = self.evaluator.score(mean)
            played = {"score": score, "return_mean": mean, "returns": returns.tolist()}
            played |= self._final_episodes(self.evaluator, update)
        if self.unseen_evaluator:
            with self.clock.running("evaluate"):
                returns = self.unseen_evaluator.returns(self.policy)
            played["unseen_score"] = self.unseen_evaluator.score(float(returns.mean()))
            played["unseen_returns"] = returns.tolist()
        with self.clock.running("diagnose"):
            index = len(self.state.scores)
            measures = self.measures.at_evaluation(
                self.agent, index, last=update == self.cell.train.updates
            )
        self.state.scores.append(score)
        self._add("evaluations", {"update": update, **played, **measures})

    def _final_episodes(self, evaluator: Evaluator, update: int) -> dict[str, object]:
        """What the fresh starts give, in the last tenth of training; empty before."""
        late = update >= (1 - FINAL_SHARE) * self.cell.train.updates
        if not (late and self.cell.evaluate.final_episodes):
            return {}
        with self.clock.running("evaluate"):
            returns = final_evaluator(self.cell, evaluator, update).returns(self.policy)
        score = evaluator.score(float(returns.mean()))
        return {"fresh_score": score, "fresh_returns": returns.tolist()}

    # ------------------------------------------------------------------ stopping and going on

    def _pause(self) -> None:
        """A boundary between updates, at which a checkpoint is written if one is due."""
        if self.checkpoints and self.checkpoints.due():
            self._refuse_divergence()
            self.apart()
            self.checkpoints.save(self._about(), self._checkpoint())

    def _alive(self) -> None:
        """Report that the cell is alive where no updates are made; also a place to stop."""
        self.on_alive()
        if self.checkpoints and self.checkpoints.stopping:
            self._pause()

    def _lively(self, policy: Policy) -> Policy:
        """The policy, which also reports at each step that the cell is alive."""

        def lively(frames: np.ndarray, states: np.ndarray, proprio: np.ndarray) -> np.ndarray:
            self._alive()
            return policy(frames, states, proprio)

        return lively

    def _about(self) -> About:
        return About(
            key=self.cell.key,
            updates=self.state.updates,
            threads=torch.get_num_threads(),
            device=self.device.kind,
            versions=versions(),
            git_commit=git_state()[0],
            data_sha256=self.dataset.sha256,
            initial_weights=self.initial_weights,
        )

    def _checkpoint(self) -> State:
        """All that the rest of the cell depends on. What is not a tensor is stored as JSON."""
        self.state.seconds, self.state.total = self.clock.seconds, self.clock.total()
        return {
            "agent": self.agent.state(),
            "signals": self.signals.state(),
            "sampler": json.dumps(self.sampler.state()),
            "cell": self.state.to_json(),
        }

    def _resume(self) -> None:
        """Resume from the checkpoint, if there is one."""
        found = self.checkpoints and self.checkpoints.load(self._about(), self.device.kind)
        if not found:
            return
        about, saved = found
        compute_on(about.threads)
        self.agent.restore(saved["agent"])
        self.signals.restore(saved["signals"])
        self.sampler.restore(json.loads(saved["sampler"]))
        self.state = CellState.from_json(saved["cell"])
        self.clock.go_on(self.state.seconds, self.state.total)
        log.info("going on after update %d on %d threads", about.updates, about.threads)
        self.on_update(about.updates)

    def _describe(self, oracle: float | None) -> None:
        """The cell's own row."""
        seconds, scores = self.clock.seconds, self.state.scores
        commit, dirty = git_state()
        scored = {
            "untrained_score": scores[0],
            "final_score": float(np.mean(scores[1:][-FINAL_EVALUATIONS:])),
            "best_score": max(scores),
        }
        self._add(
            "cells",
            {
                "status": "done",
                "observation": self.cell.observation,
                "updates": self.cell.train.updates,
                **(scored if self.evaluator else {}),
                "initial_weights": self.initial_weights,
                "final_weights": self.agent.weights_sha256(),
                "total_seconds": self.clock.total(),
                **{f"{part}_seconds": seconds[part] for part in seconds},
                "oracle_state_r2": oracle,
                "update_ms": float(np.median(self.state.block_ms)) if self.state.block_ms else None,
                "peak_memory_mb": self.device.peak_memory_mb(),
                "device": self.device.kind,
                "device_name": self.device.name(),
                "threads": torch.get_num_threads(),
                "started_at": self.state.started_at,
                "data_key": self.cell.data.key,
                "data_sha256": self.dataset.sha256,
                "versions": versions(),
                "git_commit": commit,
                "git_dirty": dirty,
                "settings": json.dumps(self.cell.settings(), sort_keys=True),
            },
        )

    def _add(self, table: str, *rows: dict[str, object]) -> None:
        cell = self.cell
        head = {"key": cell.key, "env": cell.stratum, "seed": cell.seed, "variant": cell.variant}
        self.state.rows[table].extend({**head, **row} for row in rows)


def look_at(unseen: Sequence[tuple[int, Info]]) -> dict[str, float]:
    """The last update's losses, by one copy of all of them from the device.

    Raises :class:`Diverged` with the first update and loss that is no longer a finite number.
    """
    losses: dict[str, float] = {}
    if unseen:
        scalars = [value.reshape(()) for _, info in unseen for value in info.values()]
        values = iter(torch.stack(scalars).tolist())
        for update, info in unseen:
            losses = {name: next(values) for name in info}
            for name, value in losses.items():
                if not math.isfinite(value):
                    raise Diverged(f"{name} is {value} at update {update}")
    return losses
