"""How cost grows, as a figure and as a table: the measurements of ``benchbench scaling``."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchbench.core.text import number, plain_table
from benchbench.report.layout import grid
from benchbench.report.style import style

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
