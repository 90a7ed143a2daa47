"""Pairs an hour of a suite on this machine, and where the time of its cells goes.

One short cell of each kind is run as a run would run it: in processes of their own, as many at a
time as ``jobs``, on as many threads. It makes two blocks of :data:`BLOCK` updates; each thing that
costs time (an update, an evaluation, a sample of signals, ...) is read off the cell's own clock and
multiplied by how often it happens in the whole cell. Kinds of which cells have finished on this
machine are not measured again. :func:`forecast` then places the cells as a run does.

Episodes that end early are as long as the short cell's, whose policy has learnt nothing. The
reference encoder, made once for a data set and not for a cell, is left out.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from statistics import mean, median

from tqdm import tqdm

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.core.processes import compute_on
from benchbench.core.provenance import git_state, versions
from benchbench.core.text import number, plain_table
from benchbench.launch.estimate import Events
from benchbench.launch.resources import Slots, kind_of, playing_processes
from benchbench.launch.run import prepare_data
from benchbench.results.store import Store
from benchbench.results.tables import read_table
from benchbench.suite.grid import Cell, Grid

_PARTS = ("total", "train", "evaluate", "diagnose")
"""Of what a cell's row has the seconds."""


@dataclass(frozen=True)
class Parts:
    """Seconds of a cell, by what they are spent on."""

    updates: float
    evaluation: float
    diagnostics: float
    start: float
    """Its process, opening the data, building the agent, writing results."""

    @classmethod
    def combined(cls, how: Callable[[list[float]], float], several: Sequence[Parts]) -> Parts:
        """Several cells' parts as one, such as their sum or median."""
        return cls(*(how([getattr(one, f.name) for one in several]) for f in fields(cls)))

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Forecast:
    """What a grid takes on this machine."""

    seconds: float
    """From the first cell's start to the last one's end."""
    parts: Parts
    """Of all cells together."""
    waiting: float
    """Seconds for which a slot has nothing to run while others still do."""
    pairs: int
    cells: int

    @property
    def pairs_per_hour(self) -> float:
        """Pairs, each with all its variants, by the hour."""
        return 3600 * self.pairs / self.seconds


def forecast(cells: Sequence[Cell], parts: Mapping[str, Parts], jobs: int) -> Forecast:
    """Place the cells in ``jobs`` slots, the longest first; ``parts`` by :func:`kind`."""
    each = [parts[kind(cell)] for cell in cells]
    ends = [0.0] * jobs
    for length in sorted((one.total for one in each), reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    seconds = max(ends)
    return Forecast(
        seconds=seconds,
        parts=Parts.combined(sum, each),
        waiting=sum(seconds - end for end in ends),
        pairs=len({(cell.stratum, cell.seed) for cell in cells}),
        cells=len(cells),
    )


def kind(cell: Cell) -> str:
    """Cells of a kind take the same time: all their settings but the seed are the same."""
    return kind_of(cell.settings())


def finished_parts(
    store: Store, kinds: Iterable[str], device: Device, threads: int, process_seconds: float
) -> dict[str, Parts]:
    """The medians of finished cells of these kinds on this device with as many threads.

    ``process_seconds`` are what a process takes before its cell's own clock starts. Empty where
    the folder has no joined table.
    """
    try:
        rows = read_table(store.folder / "cells.parquet", "cells").to_pylist()
    except (OSError, UserError):
        return {}
    wanted, name, found = set(kinds), device.name(), dict[str, list[Parts]]()
    for row in rows:
        here = (row["device_name"], row["threads"], row["status"]) == (name, threads, "done")
        known = row["settings"] and None not in [row[f"{part}_seconds"] for part in _PARTS]
        if not here or not known or (its := kind_of(json.loads(row["settings"]))) not in wanted:
            continue
        spent = [row[f"{part}_seconds"] for part in _PARTS[1:]]
        start = row["total_seconds"] - sum(spent) + process_seconds
        found.setdefault(its, []).append(Parts(spent[0], spent[1], spent[2], start))
    return {its: Parts.combined(median, many) for its, many in found.items()}


BLOCK = 12
"""Updates between the short cell's evaluations."""

SIGNALS_EVERY = 5
"""Updates between its samples of signals; none falls on a watched update but the first."""

FORMAT = 1
"""Version of the JSON form."""

Spent = dict[str, float]
"""Seconds of a cell's clock, by part."""


@dataclass(frozen=True)
class Kind:
    """Cells that take the same time."""

    env: str
    variant: str
    cells: int
    source: str
    """Where its seconds come from."""
    parts: Parts


@dataclass(frozen=True)
class Pairs:
    """What was found."""

    suite: str
    device: str
    device_name: str
    jobs: int
    threads: int
    kinds: list[Kind]
    whole: Forecast


def pairs_per_hour(grid: Grid, store: Store, slots: Slots) -> Pairs:
    """Measure the grid's kinds of cells, or take them from the finished ones in ``store``."""
    device, cells = slots.devices[0], list(grid.wanted)
    by_kind: dict[str, list[Cell]] = {}
    for cell in cells:
        by_kind.setdefault(kind(cell), []).append(cell)
    process_seconds = _process_seconds(device)
    parts = finished_parts(store, by_kind, device, slots.threads, process_seconds)
    sources = dict.fromkeys(parts, "finished cells")
    missing = [name for name in by_kind if name not in parts]
    prepare_data([by_kind[name][0] for name in missing])
    for name in tqdm(missing, unit="kind", dynamic_ncols=True, disable=not missing):
        parts[name] = measured(by_kind[name][0], slots)
        sources[name] = "a short cell"
    return Pairs(
        suite=grid.suite.name,
        device=device.kind,
        device_name=device.name(),
        jobs=slots.jobs,
        threads=slots.threads,
        kinds=[
            Kind(some[0].env, some[0].variant, len(some), sources[name], parts[name])
            for name, some in by_kind.items()
        ],
        whole=forecast(cells, parts, slots.jobs),
    )


def shortened(cell: Cell) -> Cell:
    """The short cell of its kind."""
    return replace(
        cell,
        train=cell.train.model_copy(update={"updates": 2 * BLOCK}),
        evaluate=cell.evaluate.model_copy(update={"every": BLOCK}),
        diagnose=cell.diagnose.model_copy(
            update={"signals_every": SIGNALS_EVERY, "q_every": 1, "oracle_updates": 0}
        ),
    )


def measured(cell: Cell, slots: Slots) -> Parts:
    """The parts of a cell, from short ones in as many processes as ``slots`` has jobs.

    Raises :class:`UserError` where one of them ends with an error.
    """
    short = shortened(cell)
    context = _context()
    at_work = []
    for index in range(slots.jobs):
        here, there = context.Pipe(duplex=False)
        device = slots.devices[index % len(slots.devices)]
        begun = time.perf_counter()
        process = context.Process(target=_work, args=(there, short, device, slots.threads))
        process.start()
        there.close()
        at_work.append((process, here, begun))
    found = []
    for process, here, begun in at_work:
        try:
            clocks: list[Spent] = here.recv()
        except EOFError:
            for other, _, _ in at_work:
                other.kill()
            process.join()
            raise UserError(
                f"{cell.label}: a short cell ended with an error (exit code {process.exitcode}), "
                "which stands above; run the suite to see whether its cells do"
            ) from None
        process.join()
        wall = time.perf_counter() - begun
        found.append(whole_cell(cell, clocks, wall))
    return Parts.combined(median, found)


def whole_cell(cell: Cell, clocks: Sequence[Spent], wall: float) -> Parts:
    """A cell's parts from its short one: its clock at the start, after each update, at the end.

    ``wall`` is how long the short one's process lived.
    """
    steps = [{k: b[k] - a[k] for k in b} for a, b in pairwise(clocks)]
    *each, end = steps
    watched = (0, 1, BLOCK, BLOCK + 1)
    plain = [s["train"] for i, s in enumerate(each) if i not in watched]
    sampled = [s["diagnose"] for i, s in enumerate(each)
               if i % SIGNALS_EVERY == 0 and i not in watched]  # fmt: skip
    signal = median(sampled)
    block = each[0]["diagnose"] + each[1]["diagnose"] - signal
    with_roll_outs = each[BLOCK]["diagnose"] + each[BLOCK + 1]["diagnose"]
    roll_out = max(0.0, with_roll_outs - block)
    events = Events.of(cell)
    plays = mean((each[0]["evaluate"], each[BLOCK]["evaluate"], end["evaluate"]))
    return Parts(
        updates=median(plain) * (events.updates - 2 * events.blocks),
        evaluation=plays * events.evaluations,
        diagnostics=clocks[0]["diagnose"] + end["diagnose"] + events.blocks * block
        + max(0, events.roll_outs - 1) * roll_out + events.signals * signal,
        start=wall - sum(clocks[-1].values()),
    )  # fmt: skip


def json_text(found: Pairs) -> str:
    """All of it as JSON, for programs."""
    commit, dirty = git_state()
    fields = {
        "format": FORMAT,
        "pairs_per_hour": found.whole.pairs_per_hour,
        **asdict(found),
        "versions": json.loads(versions()),
        "git_commit": commit,
        "git_dirty": dirty,
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def table_text(found: Pairs) -> str:
    """A line a kind, one for the grid, and pairs an hour."""
    names = [field.name for field in fields(Parts)]
    rows = []
    for one in found.kinds:
        seconds = [number(getattr(one.parts, name)) for name in names]
        rows.append([f"{one.env}, {one.variant}", *seconds, number(one.parts.total), one.source])
    whole = found.whole
    spent = whole.parts.total + whole.waiting
    shares = [f"{getattr(whole.parts, name) / spent:.0%}" for name in names]
    rows.append(["share of all slots' time", *shares, "", f"{whole.waiting / spent:.0%} waiting"])
    return "\n".join([
        plain_table(("seconds of a cell", *names, "total", ""), rows),
        f"pairs an hour  {number(whole.pairs_per_hour)}: {whole.pairs} pairs, {whole.cells} cells "
        f"in about {whole.seconds / 60:.1f} min, {found.jobs} at a time",
        f"machine        {found.device_name}, {found.threads} threads a cell",
    ])  # fmt: skip


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchbench.launch.preload"])
    return context


def _process_seconds(device: Device) -> float:
    """What a process takes that does nothing, once the fork server is up."""
    for _ in range(2):
        process = _context().Process(target=device.claim)
        begun = time.perf_counter()
        process.start()
        process.join()
    return time.perf_counter() - begun


def _work(connection: Connection, cell: Cell, device: Device, threads: int) -> None:
    """In the new process: run the cell, and send its clock at each step."""
    device.claim()
    from benchbench.cell.train import CellRun

    compute_on(threads)
    clocks: list[Spent] = []
    run = CellRun(
        cell,
        device,
        on_update=lambda done: clocks.append(dict(run.clock.seconds)),
        processes=playing_processes(cell, threads),
    )
    clocks.append(dict(run.clock.seconds))
    run.to_the_end()
    clocks.append(dict(run.clock.seconds))
    connection.send(clocks)
