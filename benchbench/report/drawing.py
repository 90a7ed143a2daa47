"""The report's figures from Python, to be changed: what ``figures/make.py`` calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchbench.analysis.claims import judge
from benchbench.analysis.pairing import pair
from benchbench.report.gallery import made
from benchbench.report.style import style as house_style
from benchbench.results.tables import Results


def figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Every figure that the report of these results shows, by its file's stem."""
    study = pair(results)
    for entry, figure in made(study, judge(study)):
        yield entry.name, figure


@contextmanager
def style(settings: Mapping[str, Any]) -> Iterator[None]:
    """The report's rc settings and, over them, your own; undone afterwards."""
    with house_style(), mpl.rc_context(dict(settings)):
        yield
