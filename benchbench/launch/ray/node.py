"""What Ray runs on a node: one cell, as it runs here, and how its results come back.

Where the node sees the driver's results folder, the cell writes into it. Where it does not, the
cell has a folder of its own on the node, and what it writes travels back as bytes: heartbeats
and checkpoints through the mailbox while it runs, tables and log when it has ended.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchbench.cell.devices import choose_devices, cuda_devices
from benchbench.core.errors import UserError
from benchbench.core.processes import Interrupted
from benchbench.core.provenance import versions
from benchbench.data.store import open_dataset, prepare
from benchbench.launch.executor import NullWatcher, RunOptions
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.worker import CellRunner
from benchbench.results.checkpoints import Unusable, keep_checkpoint
from benchbench.results.failures import Failure, of_error
from benchbench.results.store import Store
from benchbench.results.tables import TABLES
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

TOKEN = ".ray-token"
"""A file in the results folder; a node that reads the driver's token there sees the same folder."""

POST_SECONDS = 2.0
"""Seconds between heartbeats of a cell that does not see the driver's folder."""

SHARE = 0.05
"""Sending checkpoints takes at most this share of a cell's time, whatever their cadence."""

SENDING_SECONDS = 120.0
"""A checkpoint that has not been taken by then is given up; the next one may be."""


@dataclass(frozen=True)
class Order:
    """One cell to run, and what its node must provide."""

    cell: Cell
    store: Store
    """The driver's, as an absolute path."""
    token: str
    data_folder: Path
    data_sha256: str
    versions: str
    options: RunOptions
    device: Literal["cpu", "cuda"]
    threads: int
    run_one: CellRunner | None = None


@dataclass(frozen=True)
class Outcome:
    """How an order ended, and its results."""

    word: Literal["done", "failed", "stopped", "refused"]
    failure: Failure | None = None
    why: str = ""
    tables: Mapping[str, bytes] = field(default_factory=dict)
    """The cell's tables by file name, where it is done."""
    log: bytes = b""
    """The cell's log, where the driver does not see it."""


def about_node() -> str:
    """JSON of what the driver wants to know of a node before it sends cells there."""
    hidden = os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides GPUs from who asks for none
    try:
        free = [device.free_mb for device in cuda_devices()]
    finally:
        if hidden is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = hidden
    return json.dumps({"host": socket.gethostname(), "versions": versions(), "free_mb": free})


def carry_out(order: Order, checkpoint: bytes | None, mailbox: Any) -> Outcome:
    """Run the order's cell; returns its outcome and, where it is done, its tables.

    ``checkpoint`` is the cell's so far, for a node without the driver's folder.
    """
    mail = _Mail(mailbox, order.cell.key)
    mail.post("node", _node_id().encode())
    if order.versions != versions():
        why = f"{socket.gethostname()} has {versions()}, and this machine {order.versions}"
        return Outcome("refused", why=why)
    with _store(order, checkpoint) as (store, is_shared):
        reporter = _Reporter(order.cell.key, store, None if is_shared else mail)
        outcome = _run(order, store, reporter)
        reporter.tell_last()
        if outcome.word == "done":
            folder = store.cell_folder(order.cell.key)
            tables = {f"{n}.parquet": (folder / f"{n}.parquet").read_bytes() for n in TABLES}
            if (policy := store.policy_path(order.cell.key)).exists():
                tables[policy.name] = policy.read_bytes()
            outcome = replace(outcome, tables=tables)
        log = store.log_path(order.cell.key)
        if not is_shared and log.exists():
            outcome = replace(outcome, log=log.read_bytes())
        return outcome


def _run(order: Order, store: Store, reporter: _Reporter) -> Outcome:
    cell = order.cell
    try:
        if store.is_done(cell.key):
            return Outcome("done")
        _have_data(order)
        # By its index: that others are on the device is as it should be.
        devices = choose_devices("cpu" if order.device == "cpu" else "cuda:0")
        slots = Slots(tuple(devices), 1, order.threads, per_device=1)
        with _main_module_forgotten():
            Local(slots, order.run_one).run([cell], store, reporter, order.options)
    except Interrupted:
        return Outcome("stopped")
    except (UserError, OSError) as error:
        text = error.message if isinstance(error, UserError) else ""
        failure = Failure("raised", text) if text else of_error(error)
        return Outcome("failed", failure)
    return Outcome("failed", reporter.failure) if reporter.failure else Outcome("done")


def _have_data(order: Order) -> None:
    """Find or make the cell's data on this node; raises :class:`UserError` where it is another."""
    identity = order.cell.data
    if (order.data_folder / identity.folder / identity.key).is_dir():
        os.environ["BENCHBENCH_DATA"] = str(order.data_folder)
    folder = prepare(identity, lambda done, total: None)
    if open_dataset(identity).sha256 != order.data_sha256:
        raise UserError(
            f"{folder} on {socket.gethostname()}: has other bytes than the data set here; copy "
            "this machine's there, or share BENCHBENCH_DATA"
        )


@contextmanager
def _store(order: Order, checkpoint: bytes | None) -> Iterator[tuple[Store, bool]]:
    """The driver's results folder, or one for the cell alone; and whether it is the driver's."""
    try:
        is_shared = (order.store.folder / TOKEN).read_text(encoding="utf-8") == order.token
    except OSError:
        is_shared = False
    if is_shared:
        yield order.store, True
        return
    with tempfile.TemporaryDirectory(prefix="benchbench-") as folder:
        store = Store(Path(folder), order.store.folder.name)
        if checkpoint is not None:
            try:
                keep_checkpoint(store.checkpoint_path(order.cell.key), checkpoint)
            except Unusable as reason:
                log.warning("the checkpoint %s; the cell starts from scratch", reason)
        yield store, False


class _Mail:
    """Posts one cell's messages. A lost mailbox does not stop the cell."""

    def __init__(self, mailbox: Any, key: str) -> None:
        self._mailbox, self._key = mailbox, key

    def post(self, what: str, content: bytes, seconds: float = 0.0) -> None:
        """Post it; waits at most ``seconds`` until the mailbox has it."""
        import ray

        sent = self._mailbox.post.remote(f"{self._key}/{what}", content)
        if seconds:
            try:
                ray.get(sent, timeout=seconds)
            except ray.exceptions.RayError as error:
                log.warning("the %s was not sent: %s", what, type(error).__name__)


class _Reporter(NullWatcher):
    """Keeps the cell's failure and, with ``mail``, sends its heartbeat and checkpoints."""

    def __init__(self, key: str, store: Store, mail: _Mail | None) -> None:
        self.failure: Failure | None = None
        self._heartbeat, self._checkpoint = store.heartbeat_path(key), store.checkpoint_path(key)
        self._mail = mail
        self._next = {"heartbeat": 0.0, "checkpoint": 0.0}
        self._sent: int | None = None

    def updated(self, cell: Cell, updates: int) -> None:
        """The cell has done this many updates."""
        self._send("heartbeat", self._heartbeat, POST_SECONDS)
        self._send("checkpoint", self._checkpoint, 0.0)

    def failed(self, cell: Cell, failure: Failure, log: Path) -> None:
        """The cell has failed, which is for the driver to judge."""
        self.failure = failure

    def tell_last(self) -> None:
        """The cell has ended: send the checkpoint that it may have left."""
        self._next["checkpoint"] = 0.0
        self._send("checkpoint", self._checkpoint, 0.0)

    def _send(self, what: str, path: Path, pause: float) -> None:
        start = time.monotonic()
        if self._mail is None or start < self._next[what]:
            return
        try:
            if what == "checkpoint":
                written = path.stat().st_mtime_ns
                if written == self._sent:
                    return
                self._sent = written
            content = path.read_bytes()
        except OSError:  # there is none yet, or none any more
            return
        self._mail.post(what, content, SENDING_SECONDS if what == "checkpoint" else 0.0)
        end = time.monotonic()
        self._next[what] = end + max(pause, (end - start) / SHARE)


@contextmanager
def _main_module_forgotten() -> Iterator[None]:
    """Keep a cell's process from importing this worker's main module, which is Ray's."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
