"""Which figures a report shows, from which frames, and what stands below each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchbench.analysis.brief import AFTER, BEFORE
from benchbench.analysis.curves import (
    bands,
    costs,
    flows,
    geometric_bands,
    improvements,
    profiles,
    runs,
)
from benchbench.analysis.pairing import Pairing
from benchbench.analysis.secondary_measures import paired_scores
from benchbench.report import charts, figures
from benchbench.report import gradient_flow_figure as loop
from benchbench.report.style import save
from benchbench.results.tables import Results


@dataclass(frozen=True)
class Shown:
    """A figure that was drawn: its file's stem, title and caption."""

    name: str
    title: str
    caption: str


@dataclass(frozen=True)
class Drawn:
    """The figures of a report, and the titles of those that had no data."""

    shown: tuple[Shown, ...]
    without_data: tuple[str, ...]

    def __iter__(self) -> Iterator[Shown]:
        return iter(self.shown)


def draw(pairing: Pairing, folder: Path) -> Drawn:
    """Draw and save every figure that has data, as PNG and SVG; old ones are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    shown, without_data = [], []
    for entry, make in GALLERY.items():
        for suffix in ("png", "svg"):
            (folder / f"{entry.name}.{suffix}").unlink(missing_ok=True)
        figure = make(pairing)
        if figure is None:
            without_data.append(entry.title)
            continue
        save(figure, folder, entry.name)
        shown.append(entry)
    return Drawn(tuple(shown), tuple(without_data))


def _flow(pairing: Pairing) -> Figure | None:
    results = pairing.results
    frame = flows(results)
    return None if frame.empty else loop.flow_figure(frame)


def _score(pairing: Pairing) -> Figure | None:
    results = pairing.results
    long = _runs(results, results.evaluations, ["score"])
    return None if long.empty else figures.score_figure(_in_order(results, bands(long)), long)


def _q_error(pairing: Pairing) -> Figure | None:
    results = pairing.results
    own, behaviour = "q_error", "q_behaviour_error"
    rolled_out = results.evaluations.groupby("env")[own].count()
    first = own if rolled_out.all() else behaviour
    labels = {
        own: "RMS Q − own return (σ)",
        behaviour: "RMS Q − behaviour return (σ)",
        "td_error": "RMS TD error (σ)",
    }
    long, there = _measured(results, {name: labels[name] for name in (first, "td_error")})
    return figures.q_error_figure(_in_order(results, bands(long)), there) if there else None


def _probes(pairing: Pairing) -> Figure | None:
    results = pairing.results
    labels = {"state_r2": "state R²", "return_r2": "return-to-go R²", "action_r2": "action R²"}
    long, there = _measured(results, labels)
    if not there:
        return None
    baseline = results.evaluations.groupby("env")["time_return_r2"].mean().dropna()
    references = baseline.rename("value").reset_index().assign(measure="return_r2")
    return figures.probe_figure(_in_order(results, bands(long)), there, references)


def _signals(pairing: Pairing) -> Figure | None:
    results = pairing.results
    long = _runs(results, results.training, list(figures.SIGNALS))
    both = long[long["variant"].isin([BEFORE, AFTER])]
    chosen = long[long["variant"] == long["variant"].iloc[0]] if len(long) and both.empty else both
    return (
        None if chosen.empty else figures.signal_figure(_in_order(results, geometric_bands(chosen)))
    )


def _paired(pairing: Pairing) -> Figure | None:
    results = pairing.results
    pairs, means = paired_scores(pairing)
    if pairs.empty:
        return None
    pairs = _in_order(results, pairs)
    delta = results.suite.deltas.score
    return charts.paired_figure(pairs, means, "final score, after − before (points)", delta)


def _profile(pairing: Pairing) -> Figure | None:
    results = pairing.results
    frame = profiles(results)
    return None if frame.empty else charts.profile_figure(frame)


def _improvement(pairing: Pairing) -> Figure | None:
    results = pairing.results
    frame = improvements(results)
    return None if frame.empty else charts.improvement_figure(frame)


def _cost(pairing: Pairing) -> Figure | None:
    results = pairing.results
    frame = costs(results)
    return None if frame.empty else charts.cost_figure(frame)


GALLERY: dict[Shown, Callable[[Pairing], Figure | None]] = {
    Shown(
        "gradient-flow", "Gradient flow",
        "The brief's loop as it ran: what became of each loss's gradient, from the ledger of "
        "watched steps. Solid: applied by an optimizer. Dashed: computed, then dropped by a "
        "`zero_grad`. No arrow: not computed. A box is filled where the module was stepped by it.",
    ): _flow,
    Shown(
        "score", "Score over training",
        "Mean over seeds with its 95 % t interval; thin lines are seeds. Update 0 is untrained.",
    ): _score,
    Shown(
        "q-error", "Q error over training",
        "Q against the returns of the policy that the axis names, its own where they were rolled "
        "out (the behaviour's returns are not the measured policy's truth), and the TD error. "
        "Held-out rows, over the spread of the data's returns; 95 % bands.",
    ): _q_error,
    Shown(
        "signals", "Signal strength on the encoder",
        "Norms of both losses' gradients on the encoder, whether applied or not: geometric means "
        "over seeds, 95 % bands. Shaded: the ranges that the brief claims (0.01 to 0.1 for the "
        "critic's, 0.001 to 0.01 for the VAE's).",
    ): _signals,
    Shown(
        "probes", "Probes over training",
        "R² of ridge probes from frozen features, split by episode; 95 % bands over seeds. Dotted: "
        "a return probe that sees only the time index.",
    ): _probes,
    Shown(
        "paired", "Paired differences of the final score",
        "A dot a pair; a diamond is a mean with its 95 % interval (unadjusted). Grey band: within "
        "delta of zero.",
    ): _paired,
    Shown(
        "profile", "Performance profile",
        "Share of the finished cells, over all environments, whose final score is above τ.",
    ): _profile,
    Shown(
        "improvement", "Probability of improvement",
        "Chance that a run of the variant scores above one of `before`, mean over environments, "
        "with its 95 % bootstrap interval.",
    ): _improvement,
    Shown(
        "cost", "Cost by variant",
        "Left: the median update. Right: a cell's wall time by what it went to.",
    ): _cost,
}  # fmt: skip
"""The report's figures, in its order, each with the function that makes it or finds no data."""


def _measured(results: Results, labels: dict[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The evaluations' measures in long form, and the labels of those that have any value."""
    long = _runs(results, results.evaluations, list(labels))
    return long, {name: label for name, label in labels.items() if name in set(long["measure"])}


def _runs(results: Results, table: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Long form, in the suite's order of environments and variants."""
    return _in_order(results, runs(table, measures))


def _in_order(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    places = {
        "env": [env.id for env in results.suite.envs],
        "variant": [routing.name for routing in results.suite.routings],
    }
    return frame.sort_values(
        [name for name in ("env", "variant", "update") if name in frame],
        key=lambda column: (
            column.map(places[str(column.name)].index) if column.name in places else column
        ),
        kind="stable",
    )
