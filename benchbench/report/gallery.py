"""Which figures a report shows, from which frames, and what stands below each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchbench.analysis.chain import chain, correlations
from benchbench.analysis.curves import (
    bands,
    control_of,
    costs,
    flows,
    geometric_bands,
    improvements,
    profiles,
    runs,
)
from benchbench.analysis.pairing import Study
from benchbench.analysis.secondary_measures import paired_scores
from benchbench.analysis.verdicts import overview
from benchbench.report import charts, figures
from benchbench.report import gradient_flow_figure as loop
from benchbench.report.condition_section import CAPTION, TITLE, condition_figures
from benchbench.report.overview_figure import overview_figure
from benchbench.report.style import save

OVERVIEW = "overview"
"""Stem of the figure at the top of the page."""

AT_A_GLANCE = (
    "Each measured difference over the smallest effect of interest, delta, which was fixed "
    "beforehand; right is the claimed direction where there is one. Bold: the mean over the "
    "environments. Grey band: within delta of zero. Bars are intervals that hold together at 95 %; "
    "an arrow marks one that goes on. Linear around zero, logarithmic beyond. Inconclusive: the "
    "data allow both no effect and one of delta. Shown, size open: there is an effect, which may "
    "be below delta."
)


@dataclass(frozen=True)
class Shown:
    """A figure that was drawn: its file's stem, title and caption."""

    name: str
    title: str
    caption: str
    of: str = ""
    """The contrast, where there is one figure for each of several."""
    key: str = ""
    """That contrast's variants."""


@dataclass(frozen=True)
class Drawn:
    """The figures of a report, and the titles of those that had no data."""

    shown: tuple[Shown, ...]
    without_data: tuple[str, ...]

    def __iter__(self) -> Iterator[Shown]:
        return iter(self.shown)


def draw(study: Study, claims: pd.DataFrame, folder: Path, pdf: bool = False) -> Drawn:
    """Draw and save every figure that has data, as PNG and SVG; old ones are removed.

    The overview of ``claims`` is a PDF too; with ``pdf`` all are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown, kept = [], set()
    for entry, figure in made(study, claims):
        as_pdf = pdf or entry.name.startswith(OVERVIEW)
        save(figure, folder, entry.name, as_pdf)
        shown.append(entry)
        kept |= {f"{entry.name}.{suffix}" for suffix in ("png", "svg", *("pdf",) * as_pdf)}
    for old in folder.glob("[!.]*"):
        if old.suffix in (".png", ".svg", ".pdf") and old.name not in kept:
            old.unlink()
    titles = {entry.title for entry in shown}
    return Drawn(tuple(shown), tuple(e.title for e in GALLERY if e.title not in titles))


def made(study: Study, claims: pd.DataFrame) -> Iterator[tuple[Shown, Figure]]:
    """Every figure that has data, the overview of ``claims`` first; one at a time."""
    several = len(study.pairings) > 1
    for number, pairing in enumerate(study.pairings):
        contrast = pairing.contrast
        of, against = contrast.of, contrast.against
        frame = overview(claims[(claims["of"] == of) & (claims["against"] == against)])
        if frame["effect"].notna().any():
            name = f"{OVERVIEW}-{number + 1}" if number else OVERVIEW
            names = {row["claim"]: row["measure"].partition(",")[0] for _, row in frame.iterrows()}
            label = f"{of} − {against}, in units of δ"
            sides = ("← against the claim", "as claimed →") if contrast.expect else None
            entry = Shown(name, "All verdicts at a glance", AT_A_GLANCE,
                          contrast.name if several else "", f"{of} {against}")  # fmt: skip
            yield entry, overview_figure(frame, names, label, sides)
    for entry, make in GALLERY.items():
        figures_of = make(study)
        for number, (of, figure) in enumerate(figures_of):
            name = f"{entry.name}-{number + 1}" if number else entry.name
            yield replace(entry, name=name, of=of if len(figures_of) > 1 else ""), figure
    for number, (of, figure) in enumerate(condition_figures(study, claims)):
        name = f"conditions-{number + 1}" if number else "conditions"
        yield Shown(name, TITLE, CAPTION, of if several else ""), figure


Figures = list[tuple[str, Figure]]
"""A figure, or one for each contrast, with the contrast's name; empty where there are no data."""


def _one(figure: Figure | None) -> Figures:
    return [] if figure is None else [("", figure)]


def _flow(study: Study) -> Figures:
    results = study.results
    frame = flows(results)
    return [] if frame.empty else _one(loop.flow_figure(frame))


def _score(study: Study) -> Figures:
    results = study.results
    long = _runs(study, results.evaluations, ["score"])
    if long.empty:
        return []
    return _one(figures.score_figure(_in_order(study, bands(long)), long, _compared(study)))


def _q_error(study: Study) -> Figures:
    results = study.results
    own, behaviour = "q_error", "q_behaviour_error"
    rolled_out = results.evaluations.dropna(subset=[own]).groupby("env")["update"].nunique()
    curves = rolled_out.reindex(study.envs, fill_value=0)
    first = own if (curves > 1).all() else behaviour
    labels = {
        own: "RMS Q − own return (σ)",
        behaviour: "RMS Q − behaviour return (σ)",
        "td_error": "RMS TD error (σ)",
    }
    long, there = _measured(study, {name: labels[name] for name in (first, "td_error")})
    if not there:
        return []
    return _one(figures.q_error_figure(_in_order(study, bands(long)), there, _compared(study)))


def _probes(study: Study) -> Figures:
    results = study.results
    labels = {"state_r2": "state R²", "return_r2": "return-to-go R²", "action_r2": "action R²"}
    long, there = _measured(study, labels)
    if not there:
        return []
    baseline = runs(results.evaluations, ["time_return_r2"]).groupby("env")["value"].mean()
    references = baseline.reset_index().assign(measure="return_r2")
    curves = _in_order(study, bands(long))
    return _one(figures.probe_figure(curves, there, references, _compared(study)))


def _signals(study: Study) -> Figures:
    results = study.results
    long = _runs(study, results.training, list(figures.SIGNALS))
    both = long[long["variant"].isin(_compared(study))]
    chosen = long[long["variant"] == long["variant"].iloc[0]] if len(long) and both.empty else both
    if chosen.empty:
        return []
    return _one(figures.signal_figure(_in_order(study, geometric_bands(chosen))))


def _paired(study: Study) -> Figures:
    found: Figures = []
    for pairing in study.pairings:
        each, means = paired_scores(pairing)
        if not each.empty:
            name, delta = pairing.contrast.name, study.results.suite.deltas.score
            label = f"final score, {name} (points)"
            found.append((name, charts.paired_figure(_in_order(study, each), means, label, delta)))
    return found


def _chain(study: Study) -> Figures:
    found: Figures = []
    for pairing in study.pairings:
        pairs = _in_order(study, chain(pairing))
        if len(pairs):
            links = correlations(pairs)
            found.append((pairing.contrast.name, charts.chain_figure(pairs, links, CHAINED)))
    return found


CHAINED = {
    "state": "difference in state probe",
    "q": "ln ratio of Q's errors",
    "score": "difference in score (points)",
}


def _profile(study: Study) -> Figures:
    frame = profiles(study)
    return [] if frame.empty else _one(charts.profile_figure(frame))


def _improvement(study: Study) -> Figures:
    frame = improvements(study)
    return [] if frame.empty else _one(charts.improvement_figure(frame, control_of(study)))


def _cost(study: Study) -> Figures:
    results = study.results
    frame = costs(results)
    return [] if frame.empty else _one(charts.cost_figure(frame))


GALLERY: dict[Shown, Callable[[Study], Figures]] = {
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
        "Q against the returns of the policy that the axis names, its own where it was rolled out "
        "more than once (the behaviour's are not the measured policy's truth), and the TD error. "
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
        "a return probe that sees only the time index. Values below −1 say nothing and are left "
        "out.",
    ): _probes,
    Shown(
        "paired", "Paired differences of the final score",
        "A dot a pair; a diamond is a mean with its 95 % interval (unadjusted). Grey band: within "
        "delta of zero.",
    ): _paired,
    Shown(
        "chain", "From features to Q to score",
        "A dot a pair: its differences in the state probe, in the error of Q and in the final "
        "score against each other. ρ: Spearman's, of ranks within each environment and condition, "
        "p by permutation within them, unadjusted. A chain of causes would leave such "
        "correlations; they do not prove one.",
    ): _chain,
    Shown(
        "profile", "Performance profile",
        "Share of the finished cells, over all environments, whose final score is above τ.",
    ): _profile,
    Shown(
        "improvement", "Probability of improvement",
        "Chance that a run of the variant scores above one of the control, mean over environments, "
        "with its 95 % bootstrap interval.",
    ): _improvement,
    Shown(
        "cost", "Cost by variant",
        "Left: the median update. Right: a cell's wall time by what it went to.",
    ): _cost,
}  # fmt: skip
"""The report's figures, in its order, each with the function that makes it or finds no data."""


def _compared(study: Study) -> frozenset[str]:
    """The variants of all contrasts."""
    contrasts = study.results.suite.compared
    return frozenset(name for c in contrasts for name in (c.of, c.against))


def _measured(study: Study, labels: dict[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The evaluations' measures in long form, and the labels of those that have any value."""
    long = _runs(study, study.results.evaluations, list(labels))
    return long, {name: label for name, label in labels.items() if name in set(long["measure"])}


def _runs(study: Study, table: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Long form, in the suite's order of environments and variants."""
    return _in_order(study, runs(table, measures))


def _in_order(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    places = {
        "env": study.envs,
        "variant": [routing.name for routing in study.results.suite.routings],
    }
    return frame.sort_values(
        [name for name in ("env", "variant", "update") if name in frame],
        key=lambda column: (
            column.map(places[str(column.name)].index) if column.name in places else column
        ),
        kind="stable",
    )
