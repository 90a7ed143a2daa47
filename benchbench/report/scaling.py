"""How cost grows, as a figure and as a table: the measurements of ``benchbench scaling``."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchbench.report.layout import grid
from benchbench.report.look import style
from benchbench.report.text import number, plain_table

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
    """Median, least and largest of the rounds: ``along, jobs, at``, then ``(measure, …)``."""
    by = found.groupby(["along", "jobs", "at"])[list(TOLD)]
    return by.agg(["median", "min", "max"])


def scaling_figure(found: pd.DataFrame) -> Figure:
    """A column for each that grows: time above, memory below; last a grid's time, and a start."""
    table = medians(found)
    grids = table.loc["seeds"]
    jobs = list(dict.fromkeys(grids.index.get_level_values("jobs")))
    with style():
        figure, axes = grid(2, 4, 1.55, names=7)
        for above, below, along in zip(axes, axes[4:], ("batch", "size", "rows"), strict=False):
            _panel(above, table, along, ("update_ms", "cpu_ms"))
            _panel(below, table, along, ("memory_mb",))
            below.set_xlabel(ALONG[along])
        _panel(axes[7], table, "rows", ("start_s",))
        axes[7].set_xlabel(ALONG["rows"])
        for count, look in zip(jobs, JOB_LINES, strict=False):
            _line(axes[3], grids.loc[count]["grid_s"], look)
        _across(axes[3], grids.loc[jobs[0]])
        _up(axes[3], grids[["grid_s"]])
        axes[3].set_xlabel(ALONG["seeds"])
        for place, name in ((0, "update_ms"), (4, "memory_mb"), (3, "grid_s"), (7, "start_s")):
            axes[place].set_ylabel(TOLD[name])
        named = {TOLD[name]: LINES[name] for name in ("update_ms", "cpu_ms")}
        named |= {f"a grid, jobs: {n}": look for n, look in zip(jobs, JOB_LINES, strict=False)}
        handles = [
            Line2D([], [], color=color, ls=ls, marker=marker, ms=2.8, lw=1.1, label=name)
            for name, (color, ls, marker) in {**named, "in proportion": PROPORTION}.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, handlelength=3.2)
    return figure


def scaling_text(found: pd.DataFrame) -> str:
    """The medians as a table for the terminal."""
    rows = [
        (ALONG[along], f"{at:,}", str(jobs) if along == "seeds" else "",
         *(number(row[name, "median"]) for name in TOLD))
        for (along, jobs, at), row in medians(found).iterrows()
    ]  # fmt: skip
    return plain_table(("along", "at", "jobs", *TOLD.values()), rows)


def _panel(ax: Axes, table: pd.DataFrame, along: str, names: tuple[str, ...]) -> None:
    if along not in table.index:
        ax.set_visible(False)
        return
    mine = table.loc[along, 1]
    for name in names:
        _line(ax, mine[name], LINES[name])
    _across(ax, mine)
    if names == ("memory_mb",):
        ax.set_ylim(0, 1.15 * mine["memory_mb", "max"].max())
    else:
        _up(ax, mine[list(names)])
        steeper = 2 if along == "size" else 1  # an update sees an area
        last = mine[names[0], "median"].iloc[-1]
        proportional = [last * (at / mine.index[-1]) ** steeper for at in mine.index]
        ax.plot(mine.index, proportional, ls=":", color="#999999", lw=0.9, zorder=1)


def _line(ax: Axes, spread: pd.DataFrame, look: Line) -> None:
    color, ls, marker = look
    middle = spread["median"]
    ax.errorbar(spread.index, middle, yerr=[middle - spread["min"], spread["max"] - middle],
                color=color, ls=ls, marker=marker, ms=2.8, lw=1.1, elinewidth=0.6)  # fmt: skip


def _across(ax: Axes, table: pd.DataFrame) -> None:
    ax.set_xscale("log")
    at = list(table.index)
    ax.set_xticks(at, [f"$10^{len(str(n)) - 1}$" if n >= 10_000 else str(n) for n in at])
    ax.xaxis.set_minor_locator(NullLocator())


def _up(ax: Axes, table: pd.DataFrame) -> None:
    """Times, in proportion: a scale of 1, 2, 5, 10, … that holds what is in the table."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(table.min(axis=None) / 1.6, table.max(axis=None) * 1.6)
