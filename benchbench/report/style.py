"""How figures look: each variant's colour, line and marker, the rc settings, and saving.

A variant keeps its look in every figure of every suite. The colours are Okabe and Ito's and Paul
Tol's, for eyes that see few; lines and markers tell variants apart in grey. No global state is
touched: the settings hold within :func:`style` only, and figures are made without pyplot.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib import font_manager
from matplotlib.figure import Figure

from benchbench.core.files import save_figure
from benchbench.routing import REGISTRY


@dataclass(frozen=True)
class Look:
    """How a variant is drawn."""

    color: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


_LOOKS = (
    Look("#D55E00", (0, (4, 1.5)), "o"),
    Look("#0072B2", "-", "s"),
    Look("#E69F00", ":", "^"),
    Look("#009E73", "-.", "D"),
    Look("#CC79A7", (0, (6, 1, 1, 1, 1, 1)), "v"),
    Look("#555555", (0, (1, 2)), "X"),
    Look("#56B4E9", (0, (8, 2)), "P"),
    Look("#882255", (0, (3, 1, 1, 1)), "<"),
    Look("#999933", (0, (2, 1)), ">"),
    Look("#332288", (0, (10, 2, 2, 2)), "h"),
    Look("#AA7744", (0, (1, 1)), "*"),
    Look("#000000", (0, (5, 3)), "p"),
)
"""Twelve colours, lines and markers: the registry's variants take them in its order."""


def looks(variants: Sequence[str]) -> dict[str, Look]:
    """The look of each variant: fixed for the registry's, by name's order for a suite's own.

    A suite's own variants take the looks that none of the registry's beside them has. Beyond twelve
    the colours come again with other lines and markers, so that no two looks are the same.
    """
    fixed = dict(zip(REGISTRY, _endless(), strict=False))
    table = {name: fixed[name] for name in variants if name in fixed}
    colors = {look.color for look in table.values()}
    used, own = set(table.values()), sorted(set(variants) - set(fixed))
    free = [look for look in _LOOKS if look.color not in colors]
    later = (look for look in _endless() if look not in used and look not in free)
    table |= zip(own, itertools.chain(free, later), strict=False)
    return {name: table[name] for name in variants}


def _endless() -> Iterator[Look]:
    for i in itertools.count():
        other = _LOOKS[(i + 5 * (i // len(_LOOKS))) % len(_LOOKS)]
        yield Look(_LOOKS[i % len(_LOOKS)].color, other.line, other.marker)


WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
              "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC",
              "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS")  # fmt: skip
"""Fonts that have Chinese characters, on the systems where they are usual."""


@cache
def _wide_fonts() -> tuple[str, ...]:
    """Those of them that are here: matplotlib warns of each that is not."""
    here = set(font_manager.get_font_names())
    return tuple(name for name in WIDE_FONTS if name in here)


@cache
def drawable_characters() -> frozenset[int]:
    """The characters that figures can show here."""
    paths = (font_manager.findfont(name) for name in ("DejaVu Sans", *_wide_fonts()))
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


def style() -> AbstractContextManager[None]:
    """The rc settings under which figures are made and saved, undone afterwards."""
    settings = sns.axes_style("ticks") | {
        "font.family": ["sans-serif", *_wide_fonts()], "font.size": 7,
        "axes.titlesize": 7, "axes.labelsize": 7,
        "xtick.labelsize": 6, "ytick.labelsize": 6, "legend.fontsize": 6, "axes.linewidth": 0.6,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
        "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.linewidth": 0.4, "grid.color": "#e6e6e6", "legend.frameon": False,
        "svg.hashsalt": "benchbench", "hatch.linewidth": 0.6,
    }  # fmt: skip
    return mpl.rc_context(settings)


def save(figure: Figure, folder: Path, name: str, pdf: bool = False) -> None:
    """Write ``name.png`` at 200 dots an inch and ``name.svg``; the same figure, the same bytes.

    ``pdf`` writes ``name.pdf`` too, its text as text.
    """
    with style():
        save_figure(figure, folder / f"{name}.png", dpi=200, metadata={"Software": None})
        figure.set_layout_engine("none")  # keep the layout; computing it again is slow
        save_figure(figure, folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        if pdf:
            with mpl.rc_context({"pdf.fonttype": 42}):
                about = {"CreationDate": None, "Creator": None, "Producer": None}
                save_figure(figure, folder / f"{name}.pdf", metadata=about)
