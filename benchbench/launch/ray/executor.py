"""Cells as tasks of a Ray cluster.

Ray places each cell where the part of a node that it asks for is free, and nothing more. A cell
whose node is lost is placed again, and goes on from its checkpoint. Nodes that see the results
folder write into it; from the others a cell's checkpoints and tables are shipped back
(:mod:`benchbench.launch.ray.node`), so the results folder is the truth either way.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import click

from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.core.processes import Interrupted, interruptible
from benchbench.core.provenance import versions
from benchbench.data.store import cache_folder, open_dataset
from benchbench.launch.executor import RunOptions, Watcher
from benchbench.launch.local import GRACE_SECONDS
from benchbench.launch.ray.mailbox import Mailbox
from benchbench.launch.ray.node import TOKEN, Order, Outcome, carry_out
from benchbench.launch.ray.requests import Node, Shares, nodes_of, wants_gpu
from benchbench.launch.resources import known_from, peak_of
from benchbench.launch.supervise import Next, Supervisor, wait_until_stopped
from benchbench.launch.worker import CellRunner
from benchbench.results.checkpoints import Unusable, keep_checkpoint
from benchbench.results.failures import Failure, of_error
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

POLL_SECONDS = 1.0
"""Seconds between looks at the cluster and the mailbox."""

CONNECT_SECONDS = 5.0
"""Seconds to wait for a connection to the cluster."""

ANSWER_SECONDS = 120.0
"""Seconds that a node may take to describe itself."""


class Ray:
    """Runs cells on a Ray cluster; ``grid`` counts the suite's cells, done ones too.

    Raises :class:`UserError` where Ray is not installed here.
    """

    def __init__(
        self,
        address: str,
        grid: int,
        device: str = "auto",
        jobs: int | None = None,
        per_device: int | None = None,
        poll: float = POLL_SECONDS,
        run_one: CellRunner | None = None,
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError:
            raise UserError(
                "--executor ray needs ray; install it with: pip install 'benchbench[ray]'"
            ) from None
        self.ray: Any = ray
        self.address, self.grid, self.poll = address, grid, poll
        self.device, self.jobs, self.per_device = device, jobs, per_device
        self.run_one = run_one

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells; returns when each is done or has failed for good.

        Whatever ends this early, ends the tasks too; their cells leave checkpoints. Raises
        :class:`UserError` where there is no such cluster, or it cannot run these cells.
        """
        store = Store(store.folder.parent.absolute(), store.folder.name)
        with self._connected(), interruptible():
            try:
                # Ray itself ends the tasks of a driver that was killed.
                wait_until_stopped(cells, store)
                watch = _Watch(self, cells, store, watcher, options)
                with watch.tasks_ended():
                    while watch.waiting or watch.out:
                        watch.submit()
                        time.sleep(self.poll)
                        watch.look()
            except Interrupted:
                raise
            except KeyboardInterrupt:  # a signal that came while Ray waited, which drops its name
                raise Interrupted(signal.SIGINT) from None

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        return nodes_of(self.ray.nodes())

    def about(self, node: Node, task: Any) -> Any:
        """Have the task run on that node, whatever else runs there."""
        affinity = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return task.options(num_cpus=0, scheduling_strategy=affinity(node.id, soft=False))

    @contextmanager
    def _connected(self) -> Iterator[None]:
        address = os.environ.get("RAY_ADDRESS", "auto") if self.address == "auto" else self.address
        if address != "auto" and "://" not in address:
            _refuse_silence(address)
        self._be_quiet()
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise UserError(
                f"--address {address}: no Ray cluster to be used ({text}); start one with "
                "'ray start --head', or name another"
            ) from None
        try:
            yield
        finally:
            self.ray.shutdown()

    def _be_quiet(self) -> None:
        """Keep messages about lost nodes off the screen; Ray has no setting for it."""
        self.ray._private.worker.print_to_stdstream = lambda *_, **__: None


def _refuse_silence(address: str) -> None:
    """Raise :class:`UserError` where nothing answers; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except ValueError:
        raise UserError(f"--address {address}: write it as HOST:PORT, or say auto") from None
    except OSError as error:
        raise UserError(
            f"--address {address}: nothing answers there ({error.strerror or error}); start a "
            "cluster with 'ray start --head', or name another"
        ) from None


class _Watch:
    """The cells that wait, and those that are out, each with its task."""

    def __init__(
        self, ray: Ray, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        self.home, self.ray, self.store = ray, ray.ray, store
        self.watcher, self.options = watcher, options
        self.supervisor = Supervisor(store, watcher, options)
        self.cells = {cell.key: cell for cell in cells}
        self.out: dict[str, Any] = {}
        """The reference of each cell's task, by the cell's key."""
        self.at: dict[str, str] = {}
        """The node of each cell at work."""
        nodes = self._looked_at(ray.nodes())
        on_gpu = wants_gpu(ray.device, nodes)
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu else "cpu"
        self.shares = Shares(
            nodes, cells, known_from(store, self.device),
            on_gpu=on_gpu, grid=ray.grid, jobs=ray.jobs, per_device=ray.per_device,
        )  # fmt: skip
        self.waiting = list(self.shares.longest_first)
        self.token = secrets.token_hex(16)
        write_text(store.folder / TOKEN, self.token)
        self.sha256 = {cell.data: open_dataset(cell.data).sha256 for cell in cells}
        # A worker that has run a cell runs the next one, whose process then starts in no time.
        self.task = self.ray.remote(max_calls=0, max_retries=0)(carry_out)
        here = self.ray.get_runtime_context().get_node_id()
        affinity = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        self.mailbox = (
            self.ray.remote(num_cpus=0, max_restarts=-1)(Mailbox)
            .options(scheduling_strategy=affinity(here, soft=True))
            .remote()
        )
        self.warned = False

    @contextmanager
    def tasks_ended(self) -> Iterator[None]:
        """When the block ends, end the tasks that are still out, each with a checkpoint."""
        try:
            yield
        finally:
            self._end_all()
            (self.store.folder / TOKEN).unlink(missing_ok=True)

    def submit(self) -> None:
        """Submit the cells whose turn it is."""
        while key := self.shares.next(self.waiting, self.out):
            self.waiting.remove(key)
            cell = self.cells[key]
            order = Order(
                cell, self.store, self.token, cache_folder().absolute(), self.sha256[cell.data],
                versions(), replace(self.options, retries=0, fail_fast=False),
                self.device, self.shares.threads, self.home.run_one,
            )  # fmt: skip
            task = self.task.options(
                name=cell.label, scheduling_strategy="SPREAD", **self.shares.of(key).options()
            )
            self.out[key] = task.remote(order, self._checkpoint(key), self.mailbox)

    def look(self) -> None:
        """See what became of the cells; those that are to run again wait again."""
        self._take_mail()
        ready, _ = self.ray.wait(list(self.out.values()), num_returns=len(self.out), timeout=0)
        nodes = self.home.nodes()
        alive = {node.id for node in nodes}
        for key, ref in list(self.out.items()):
            if key not in self.out:  # ended meanwhile by --fail-fast
                continue
            if ref in ready:
                self._ended(key, ref)
            elif self.at.get(key, "") not in alive | {""}:
                # A machine that is off does not close its connections, which Ray waits for.
                self.ray.cancel(ref, force=True)
                self._failed(key, Failure("killed", f"its node {self.at[key][:8]} was lost"))
            else:
                self.supervisor.look(self.cells[key])
        self._warn_of_waiting(nodes)

    def _ended(self, key: str, ref: Any) -> None:
        cell = self.cells[key]
        try:
            outcome = self._received(cell, self.ray.get(ref))
        except self.ray.exceptions.OutOfMemoryError:
            outcome = Outcome("failed", Failure("out of memory", "its node's memory was full"))
        except self.ray.exceptions.RayTaskError as error:
            outcome = Outcome("failed", Failure("raised", " ".join(str(error.cause).split())))
        except self.ray.exceptions.RayError as error:
            node = f" {self.at[key][:8]}" if key in self.at else ""
            text = f"its node{node} or its process there was lost ({type(error).__name__})"
            outcome = Outcome("failed", Failure("killed", text))
        except ValueError as error:
            text = f"what its node sent back is not its results: {error}"
            outcome = Outcome("failed", Failure("raised", text))
        except OSError as error:
            outcome = Outcome("failed", of_error(error))
        if outcome.word == "refused":
            raise UserError(f"the cluster's node {outcome.why}; install the same versions there")
        if self.supervisor.is_done(cell):
            self._leave(key)
            self.shares.finished(key, peak_of(self.store, key))
        else:
            stopped = Failure("killed", "its node told it to stop")
            self._failed(key, outcome.failure or stopped)

    def _received(self, cell: Cell, outcome: Outcome) -> Outcome:
        """Keep what came back: the log, and the tables of a cell that is done."""
        if outcome.log:
            log = self.store.log_path(cell.key)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                file.write(outcome.log)
        if outcome.word == "done" and not self.store.is_done(cell.key):
            self.store.adopt(cell, outcome.tables)
        if self.store.is_done(cell.key):
            self.store.checkpoint_path(cell.key).unlink(missing_ok=True)
        return outcome

    def _failed(self, key: str, failure: Failure) -> None:
        """The cell failed: it waits again, where it may run another time."""
        cell, before = self.cells[key], self.shares.of(key)
        self._leave(key)
        if failure.kind == "out of memory" and self.shares.out_of_memory(key):
            text = f"{failure.text}; it had {before}, and will have {self.shares.of(key)}"
            self.watcher.retrying(cell, replace(failure, text=text))
            self.waiting.insert(0, key)
            return
        verdict = self.supervisor.failed(cell, failure)
        if verdict is Next.RETRY:
            self.waiting.insert(0, key)
        elif verdict is not Next.GO_ON:
            out = list(self.out) if verdict is Next.STOP else []
            left = [self.cells[key] for key in (*out, *self.waiting)]
            self.supervisor.end_early(left, verdict)
            self.waiting.clear()
            if out:
                self._end_all()

    def _leave(self, key: str) -> None:
        """The cell is no longer out."""
        del self.out[key]
        self.at.pop(key, None)
        with suppress(OSError):
            self.store.heartbeat_path(key).unlink(missing_ok=True)

    def _end_all(self) -> None:
        """Tell all tasks to stop, and wait for the checkpoints that they leave."""
        for ref in self.out.values():
            self.ray.cancel(ref)
        end = time.monotonic() + GRACE_SECONDS + 2 * POLL_SECONDS
        while self.out and time.monotonic() < end:
            refs = list(self.out.values())
            ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0.2)
            self._take_mail()
            for key in [key for key, ref in self.out.items() if ref in ready]:
                with suppress(self.ray.exceptions.RayError, ValueError, OSError):
                    self._received(self.cells[key], self.ray.get(self.out[key]))
                self._leave(key)
        for key, ref in list(self.out.items()):
            self.ray.cancel(ref, force=True)
            self._leave(key)

    def _take_mail(self) -> None:
        """Store what nodes without the results folder have sent about cells at work."""
        try:
            mail = self.ray.get(self.mailbox.take.remote(), timeout=ANSWER_SECONDS)
        except self.ray.exceptions.RayError:  # its node was lost: it starts elsewhere
            return
        for name, content in mail.items():
            key, _, what = name.partition("/")
            if key not in self.out:
                continue
            if what == "node":
                self.at[key] = content.decode()
            elif what == "heartbeat":
                with suppress(OSError):
                    write_text(self.store.heartbeat_path(key), content.decode(), synced=False)
            elif what == "checkpoint":
                with suppress(OSError, Unusable):  # the one before stays
                    keep_checkpoint(self.store.checkpoint_path(key), content)

    def _checkpoint(self, key: str) -> Any:
        """The cell's checkpoint so far, for a node that does not see it."""
        try:
            return self.ray.put(self.store.checkpoint_path(key).read_bytes())
        except OSError:
            return None

    def _warn_of_waiting(self, nodes: Sequence[Node]) -> None:
        """Warn once when no remaining node can take the cells that Ray holds."""
        held = [self.shares.of(key) for key in self.out if key not in self.at]
        stuck = [share for share in held if not any(share.fits(node) for node in nodes)]
        if stuck and not self.warned:
            text = f"warning: no node of the cluster can take {len(stuck)} cells; waiting for one"
            click.secho(text, fg="yellow", err=True)
        self.warned = bool(stuck)

    def _looked_at(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes with what they say of themselves; refuses those that would run other code."""

        def ask() -> str:  # travels by value, so a node without benchbench can say so
            try:
                from benchbench.launch.ray.node import about_node
            except ImportError as error:
                return f"lacks benchbench ({error})"
            return about_node()

        asked = {node: self.home.about(node, self.ray.remote(max_retries=0)(ask)) for node in nodes}
        answers = {node: task.remote() for node, task in asked.items()}
        looked_at = []
        for node, ref in answers.items():
            try:
                answer = self.ray.get(ref, timeout=ANSWER_SECONDS)
                about = json.loads(answer)
            except self.ray.exceptions.GetTimeoutError:
                raise UserError(f"the cluster's node {node.host} does not answer") from None
            except self.ray.exceptions.RayError:  # lost meanwhile
                continue
            except ValueError:
                raise UserError(
                    f"the cluster's node {node.host} {answer}; install the same version there"
                ) from None
            if about["versions"] != versions():
                raise UserError(
                    f"the cluster's node {about['host']} has {about['versions']}, and this machine "
                    f"{versions()}; install the same versions there"
                )
            looked_at.append(replace(node, host=about["host"], gpu_free_mb=tuple(about["free_mb"])))
        if not any(node.cpus or node.gpus for node in looked_at):
            raise UserError("the cluster has no node with a CPU to run cells on; add one")
        return looked_at
