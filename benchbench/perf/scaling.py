"""How cost grows: a cell's with its batch, frames and data, a grid's with its seeds and jobs.

Measured, and shown as a figure and a table.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from tqdm import tqdm

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.core.files import replaced
from benchbench.core.provenance import git_state, versions
from benchbench.core.text import number, plain_table
from benchbench.data.catalogue import CARD, FILES
from benchbench.data.store import VERIFIED, columns_of, open_dataset, set_folder
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.run import prepare_data, run_suite
from benchbench.perf.process_cost import cost_of
from benchbench.report.layout import grid
from benchbench.report.style import style
from benchbench.results.store import Store
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData
from benchbench.suite.grid import Cell, Grid
from benchbench.suite.model import Suite

BATCHES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Batches, as shares of the cell's own."""

SIZES = (32, 48, 64, 84)
"""Heights and widths of frames, pixels."""

ROWS = (10_000, 100_000, 1_000_000)
"""Rows of data sets; the fewest also where something else grows."""

SEEDS, JOBS = (1, 2, 4), (1, 2)
"""Cells of a grid, and how many run at a time."""

GRID = {"updates": 100, "every": 100, "episodes": 1}
"""Each of its cells is as short as this, and has no oracle and no roll-outs."""


@dataclass(frozen=True)
class Growth:
    """One measurement: what grew and how far, and what it took; NaN where that was not asked."""

    along: str
    """batch, size, rows or seeds."""
    at: int
    jobs: int
    round: int
    start_s: float = float("nan")
    """From the request for a cell's process to the end of its first update."""
    update_ms: float = float("nan")
    cpu_ms: float = float("nan")
    """Processor time of an update, all threads together; what others do meanwhile is not in it."""
    memory_mb: float = float("nan")
    """The process's peak."""
    grid_s: float = float("nan")
    """A whole grid, from its start until all results were published."""


def scaling(suite: Suite, cell: Cell, device: Device, threads: int, rounds: int) -> pd.DataFrame:
    """Measure all of it at a cell's settings, in turns: a row a :class:`Growth`, and where it was.

    Makes the cell's data where it is not here, and stretches it for as long as that takes. Raises
    :class:`UserError` where a process dies.
    """
    prepare_data([cell])
    found = list(_processes(cell, device, threads, rounds)) + list(
        _grids(suite, cell, device, threads, rounds)
    )
    commit, dirty = git_state()
    return pd.DataFrame(found).assign(
        suite=suite.name, env=cell.env, variant=cell.variant, encoder=cell.agent.encoder,
        device=device.kind, device_name=device.name(), threads=threads, load=os.getloadavg()[0],
        versions=versions(), git_commit=commit, git_dirty=dirty,
    )  # fmt: skip


def write_table(found: pd.DataFrame, path: Path) -> None:
    """Publish the measurements as parquet."""
    with replaced(path) as file:
        found.to_parquet(file, index=False)


def _processes(cell: Cell, device: Device, threads: int, rounds: int) -> Iterator[Growth]:
    with ExitStack() as sets:
        points = list(_points(cell, sets))
        with tqdm(total=len(points) * rounds, unit="process", dynamic_ncols=True) as bar:
            for number in range(rounds):
                for along, at, grown in points if number % 2 else points[::-1]:
                    bar.set_description(f"round {number + 1}/{rounds}: {along} {at}")
                    cost = cost_of(grown, device, threads)
                    yield Growth(
                        along, at, 1, number, cost.start_seconds, 1000 * cost.update_seconds,
                        1000 * cost.cpu_seconds, cost.peak_memory_mb,
                    )  # fmt: skip
                    bar.update()


def _points(cell: Cell, sets: ExitStack) -> Iterator[tuple[str, int, Cell]]:
    """What grows, how far, and the cell that has grown so far."""
    own = cell.pixels.size
    for rows in ROWS:
        data = sets.enter_context(stretched(cell.data, rows, own))
        yield "rows", rows, replace(cell, data=data)
        if rows == ROWS[0]:
            cell = replace(cell, data=data)
    for share in BATCHES:
        batch = max(1, round(share * cell.train.batch_size))
        train = cell.train.model_copy(update={"batch_size": batch})
        yield "batch", batch, replace(cell, train=train)
    for size in sorted({*SIZES, own}) if cell.observation == "pixels" else ():
        data = cell.data
        if size != own:
            data = sets.enter_context(stretched(cell.data, ROWS[0], size))
        pixels = cell.pixels.model_copy(update={"size": size})
        yield "size", size, replace(cell, data=data, pixels=pixels)


def _grids(suite: Suite, cell: Cell, device: Device, threads: int, rounds: int) -> Iterator[Growth]:
    """Grids of short cells, run as 'benchbench run' runs them; jobs share the threads."""
    short = replace(
        cell,
        train=cell.train.model_copy(update={"updates": GRID["updates"]}),
        evaluate=cell.evaluate.model_copy(
            update={"every": GRID["every"], "episodes": GRID["episodes"]}
        ),
        diagnose=cell.diagnose.model_copy(update={"oracle_updates": 0, "q_pairs": 0}),
    )
    for turn in range(rounds):
        for jobs in JOBS if turn % 2 else JOBS[::-1]:
            for seeds in SEEDS:
                cells = tuple(replace(short, seed=seed) for seed in range(seeds))
                slots = Slots((device,), jobs, max(1, threads // jobs))
                with tempfile.TemporaryDirectory() as folder:
                    start = time.perf_counter()
                    grid, store = Grid(suite, cells, cells), Store(Path(folder), "grid")
                    failures = run_suite(grid, store, Local(slots))
                    seconds = time.perf_counter() - start
                for failed, failure, _ in failures:
                    raise UserError(f"{failed.label}: {failure}; see what 'benchbench run' says")
                yield Growth("seeds", seeds, jobs, turn, grid_s=seconds)


@contextmanager
def stretched(identity: DataIdentity, rows: int, size: int) -> Iterator[DataIdentity]:
    """A data set of any size, repeated from one that exists; it is removed after the block."""
    dataset = open_dataset(identity)
    source = FileData(path=f"{identity.env} over and over, {rows} rows")
    new = replace(identity, source=source, size=size, content="black")
    folder = set_folder(new)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        table, frames = (folder / name for name in FILES)
        again = np.arange(rows) % len(dataset)
        with h5py.File(table, "w") as file:
            for name, values in columns_of(set_folder(identity)).items():
                file.create_dataset(name, data=values[again], track_times=False)
        _take_no_room(frames, (rows, size, size, 3))
        files = {
            path.name: {"sha256": "", "bytes": path.stat().st_size} for path in folder.iterdir()
        }
        card = dataset.card | {"identity": new.settings(), "transitions": rows, "files": files}
        (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
        (folder / VERIFIED).touch()  # nobody checks its bytes
        yield new
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take_no_room(path: Path, shape: tuple[int, ...]) -> None:
    """An array of zeros whose bytes are a hole in the file."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)))


ALONG = {
    "batch": "batch (transitions)",
    "size": "frame (pixels a side)",
    "rows": "data set (frames)",
    "seeds": "seeds of a grid",
}
"""What grows, as an axis names it."""

TOLD = {
    "update_ms": "an update (ms)",
    "cpu_ms": "its CPU time (ms)",
    "memory_mb": "peak memory (MB)",
    "start_s": "start (s)",
    "grid_s": "a grid (s)",
}
"""What is measured, as an axis or a column names it."""

Line = tuple[str, str | tuple[float, tuple[float, ...]], str]
"""Colour, line, marker."""

LINES: dict[str, Line] = {
    "update_ms": ("#0072B2", "-", "s"),
    "cpu_ms": ("#E69F00", (0, (4, 1.5)), "o"),
    "memory_mb": ("#009E73", "-", "D"),
    "start_s": ("#882255", "-", "^"),
}
JOB_LINES: tuple[Line, ...] = (("#555555", "-", "v"), ("#D55E00", (0, (4, 1.5)), "P"))
PROPORTION: Line = ("#999999", ":", "")


def medians(found: pd.DataFrame) -> pd.DataFrame:
    """``along, jobs, at, measure`` and the ``median, min, max`` of its rounds."""
    by = ["along", "jobs", "at", "measure"]
    rounds = found.melt(by[:3], list(TOLD), "measure").dropna().groupby(by)["value"]
    return rounds.agg(median="median", min="min", max="max").reset_index()


def scaling_figure(found: pd.DataFrame) -> Figure:
    """A column for each that grows: time above, memory below; last a grid's time, and a start."""
    table = medians(found)
    with style():
        figure, axes = grid(2, 4, 1.55, names=[""] * 7)
        for above, below, along in zip(axes, axes[4:], ("batch", "size", "rows"), strict=False):
            _panel(above, table[table["along"] == along], ("update_ms", "cpu_ms"))
            _panel(below, table[table["along"] == along], ("memory_mb",))
            below.set_xlabel(ALONG[along])
        _panel(axes[7], table[table["along"] == "rows"], ("start_s",))
        axes[7].set_xlabel(ALONG["rows"])
        grids = table[table["along"] == "seeds"]
        jobs = dict(zip(dict.fromkeys(grids["jobs"]), JOB_LINES, strict=False))
        for count, look in jobs.items():
            _line(axes[3], grids[grids["jobs"] == count], look)
        _across(axes[3], grids)
        _up(axes[3], grids)
        axes[3].set_xlabel(ALONG["seeds"])
        for place, name in ((0, "update_ms"), (4, "memory_mb"), (3, "grid_s"), (7, "start_s")):
            axes[place].set_ylabel(TOLD[name])
        named = {TOLD[name]: LINES[name] for name in ("update_ms", "cpu_ms")}
        named |= {f"a grid, jobs: {count}": look for count, look in jobs.items()}
        handles = [
            Line2D([], [], color=color, ls=ls, marker=marker, ms=2.8, lw=1.1, label=name)
            for name, (color, ls, marker) in {**named, "in proportion": PROPORTION}.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, handlelength=3.2)
    return figure


def scaling_text(found: pd.DataFrame) -> str:
    """The medians as a table for the terminal."""
    table: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in medians(found).to_dict("records"):
        jobs = str(row["jobs"]) if row["along"] == "seeds" else ""
        line = table.setdefault((ALONG[row["along"]], f"{row['at']:,}", jobs), {})
        line[row["measure"]] = number(row["median"])
    rows = [(*of, *(line.get(name, "") for name in TOLD)) for of, line in table.items()]
    return plain_table(("along", "at", "jobs", *TOLD.values()), rows)


def _panel(ax: Axes, table: pd.DataFrame, names: tuple[str, ...]) -> None:
    """What ``names`` took against what grew, from ``medians`` along one thing."""
    if table.empty:
        ax.set_visible(False)
        return
    table = table[table["measure"].isin(names)]
    for name in names:
        _line(ax, table[table["measure"] == name], LINES[name])
    _across(ax, table)
    if names == ("memory_mb",):
        ax.set_ylim(0, 1.15 * float(table["max"].max()))
        return
    _up(ax, table)
    first = table[table["measure"] == names[0]]
    share = first["at"] / first["at"].max()
    area = share**2 if first["along"].iloc[0] == "size" else share  # an update sees an area
    color, ls, _ = PROPORTION
    ax.plot(first["at"], first["median"].iloc[-1] * area, ls=ls, color=color, lw=0.9, zorder=1)


def _line(ax: Axes, table: pd.DataFrame, look: Line) -> None:
    color, ls, marker = look
    spread = [table["median"] - table["min"], table["max"] - table["median"]]
    ax.errorbar(table["at"], table["median"], yerr=spread, color=color, ls=ls, marker=marker,
                ms=2.8, lw=1.1, elinewidth=0.6)  # fmt: skip


def _across(ax: Axes, table: pd.DataFrame) -> None:
    ax.set_xscale("log")
    at = sorted(set(table["at"]))
    ax.set_xticks(at, [f"$10^{len(str(n)) - 1}$" if n >= 10_000 else str(n) for n in at])
    ax.xaxis.set_minor_locator(NullLocator())


def _up(ax: Axes, table: pd.DataFrame) -> None:
    """Times, in proportion: a scale of 1, 2, 5, 10, … that holds what is in the table."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(float(table["min"].min()) / 1.6, float(table["max"].max()) * 1.6)
