"""The report's figures from Python, to be changed: what ``figures/make.py`` calls."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from benchbench.analysis.claims import judge
from benchbench.analysis.pairing import pair
from benchbench.report.gallery import made
from benchbench.results.tables import Results


def figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Every figure that the report of these results shows, by its file's stem."""
    study = pair(results)
    for entry, figure in made(study, judge(study)):
        yield entry.name, figure
