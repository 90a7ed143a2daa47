"""The report's tables and what is said around them: one function a section, blocks out."""

from __future__ import annotations

import math

import pandas as pd

from benchbench.analysis.brief import AFTER, ASPECTS, BEFORE, Said
from benchbench.analysis.claims import FAMILY, LEVEL, PAIRS_NEEDED, row_verdict
from benchbench.analysis.curves import PARTS, costs, diagnosed_share, improvements
from benchbench.analysis.secondary_measures import OF_THE_PAIR, final_scores, similarities
from benchbench.core.text import difference, mean_and_interval, number
from benchbench.report.document import (
    Block,
    Bullets,
    Cell,
    Line,
    Paragraph,
    Span,
    Table,
    cell,
    foreign,
    marked,
)
from benchbench.report.language import Words
from benchbench.results.tables import Results

Q_ROW, SCORE_ROW = 4, 6
"""Rows of the brief: the prediction of Q, and the final performance."""

DIAGNOSTICS_LIMIT = 0.10
"""Share of a cell's wall time that the diagnostics are meant to stay under."""


def brief_table(claims: pd.DataFrame, words: Words) -> Table:
    """The brief's table, row for row in its order: its words first, below them what was found."""
    rows = []
    for aspect in ASPECTS:
        parts = claims[claims["row"] == aspect.row]
        measures, sides, effects = [], [], []
        for _, part in parts.iterrows():
            measures.append(marked(words.measure(part["measure"])))
            *both, effect = values(part)
            sides.append(both)
            word = verdict_span(part["verdict"], part["label"], words)
            effects.append((Span(f"{effect} "), word) if len(parts) > 1 else (Span(effect),))
        for _, part in beside(claims, aspect.row).iterrows():
            name = words.measure(part["measure"])
            measures.append(marked(words("beside it: {measure}", measure=name)))
            *both, effect = values(part)
            sides.append(both)
            effects.append((Span(effect),))
        claimed = words("claimed: {word}", word=words.said(aspect.impact))
        rows.append((
            cell([(Span(words.said(aspect.name), "strong"),), *measures]),
            cell([_said(aspect.before, words), *((Span(before),) for before, _ in sides)]),
            cell([_said(aspect.after, words), *((Span(after),) for _, after in sides)]),
            cell([(Span(claimed, "em"),), *effects, (verdict_span(*row_verdict(parts), words),)]),
        ))  # fmt: skip
    header = ("方面 aspect", "修改前 before", "修改后 after", "影响 impact")
    label = words("The brief's table, measured")
    return Table(label, _header(header, words), tuple(rows), fixed=True)


def beside(claims: pd.DataFrame, row: int) -> pd.DataFrame:
    """What is always shown with a row: the score with the error of Q.

    The value of a policy that does nothing is easy to predict.
    """
    return claims[claims["row"] == SCORE_ROW] if row == Q_ROW else claims[:0]


def verdict_span(word: str, label: str, words: Words) -> Span:
    """A verdict with its label, in the report's language."""
    tail = words(" ({label})", label=words.note(label)) if label else ""
    return Span(words(word) + tail, "verdict", word)


def how_to_read(claims: pd.DataFrame, words: Words) -> list[Block]:
    """What the intervals and verdicts mean; each part's delta and p; the notes."""
    tested = claims[claims["row"] > 1]
    rows = tuple(
        (cell(words.measure(part["measure"])), cell(words(part["claimed"])),
         cell(_delta(part, words)), _count(part["n_pairs"]), _number(part["p"]),
         _number(part["p_holm"]))
        for _, part in tested.iterrows()
    )  # fmt: skip
    header = ("measure", "claimed of after", "delta", "pairs", "p", "p (Holm)")
    by_note: dict[str, list[str]] = {}
    for _, part in claims[claims["note"] != ""].iterrows():
        by_note.setdefault(part["note"], []).append(words.measure(part["measure"], short=True))
    notes = tuple(
        marked(words("{measures}: {note}.", measures=words.listed(names), note=words.note(note)))
        for note, names in by_note.items()
    )
    explanation = words(
        "First lines, and those marked as claimed, are the brief's own words; the numbers below "
        "them were measured. Intervals of `before` and `after` are 95 % intervals of the variant's "
        "own mean; those of the impact bound the paired difference after − before at {level}, so "
        "that all {family} hold together at 95 %. A claim is supported when its interval lies "
        "beyond delta on the side it names and its sign-flip p, adjusted by Holm, is at most 0.05; "
        "refuted when the interval lies short of delta; {needed} pairs are needed for either.",
        level=f"{LEVEL:.2%}", family=FAMILY, needed=PAIRS_NEEDED,
    )  # fmt: skip
    table = Table(words("Delta and p of each part"), _header(header, words), rows)
    return [Paragraph(marked(explanation)), table, *([Bullets(notes)] if notes else [])]


def weight(learning: pd.DataFrame, words: Words) -> str:
    """How much the comparison can say, given what was learned; a clause."""
    overall = learning[learning["env"] == "all"].set_index("variant")["learned"]
    compared = overall[overall.index.isin([BEFORE, AFTER])]
    compared = overall if compared.empty else compared
    names = words.listed([f"`{name}`" for name in compared.index])
    clear = [f"`{name}`" for name, word in compared.items() if word == "yes"]
    if compared.empty:
        return words("no cell was scored, so whether its policy learned anything is not known")
    if (compared == "unknown").all():
        return words(
            "whether anything was learned cannot be said from fewer than two cells a variant"
        )
    if not clear:
        return words(
            "of {names}, none ended clear above its untrained score, so comparing them says little",
            names=names,
        )
    if len(clear) == len(compared):
        return words("{clear} ended clear above the untrained score", clear=words.listed(clear))
    return words(
        "of {names}, only {clear} ended clear above the untrained score",
        names=names, clear=words.listed(clear),
    )  # fmt: skip


def learning_section(learning: pd.DataFrame, words: Words) -> list[Block]:
    """Untrained against final score, with the paired interval."""
    if learning.empty:
        return [
            Paragraph(marked(words("No finished cell was scored, so there is nothing to say.")))
        ]
    one_env = learning["env"].nunique() == 2  # it, and 'all', which is the same
    shown = learning[learning["env"] != "all"] if one_env else learning
    rows = tuple(
        (_env(row["env"], words), _variant(row["variant"]), _count(row["n"]),
         _number(row["untrained"], "points"), _number(row["final"], "points"),
         _interval(row["difference"], row["lo"], row["hi"], "points", signed=True),
         cell(words(row["learned"])))
        for _, row in shown.iterrows()
    )  # fmt: skip
    header = ("environment", "variant", "cells", "untrained", "final", "gain", "clear of zero")
    clause = weight(learning, words)
    sentence = words("{clause}.", clause=clause[0].upper() + clause[1:])
    table = Table(words("Did anything learn?"), _header(header, words), rows)
    return [Paragraph(marked(sentence)), table]


def variants_section(results: Results, words: Words) -> list[Block]:
    """Final score of every variant, its chance of beating ``before``, likeness of features."""
    scores = [
        (_env(row["env"], words), _variant(row["variant"]), _count(row["n"]),
         _interval(row["mean"], row["lo"], row["hi"], "points"),
         _number(row["iqm"], "points"), _number(row["best"], "points"))
        for _, row in final_scores(results).iterrows()
    ]  # fmt: skip
    header = ("environment", "variant", "cells", "final score [95 %]", "IQM", "best evaluation")
    said = words("Only `before` against `after` is tested; the rest is exploratory.")
    blocks: list[Block] = [
        Paragraph(marked(said)),
        Table(words("All variants"), _header(header, words), tuple(scores)),
    ]
    chances = improvements(results)
    if len(chances) > 1:
        shown = [
            (_variant(row["variant"]), _count(row["n"]),
             _interval(row["mean"], row["lo"], row["hi"], "probability"))
            for _, row in chances.iterrows()
        ]  # fmt: skip
        names = _header(("variant", "cells", "probability of scoring above `before` [95 %]"), words)
        blocks.append(Table(words("Probability of improvement"), names, tuple(shown)))
    alike = similarities(results)
    if len(alike) > 1:
        likeness = [
            (_variant(row["variant"]), _variant(row["other"]), _count(row["n"]),
             _interval(row["mean"], row["lo"], row["hi"], "CKA"))
            for _, row in alike.iterrows()
        ]  # fmt: skip
        names = _header(("variant", "and", "pairs", "linear CKA of their features [95 %]"), words)
        blocks.append(Table(words("Likeness of features"), names, tuple(likeness)))
    return blocks


def environments_section(frame: pd.DataFrame, words: Words) -> list[Block]:
    """The judged measures in each environment alone."""
    rows = []
    for _, row in frame.iterrows():
        before, after, effect = values(row)
        rows.append((
            cell(words.measure(row["measure"])), _env(row["env"], words), _count(row["n_pairs"]),
            cell(before, row["before_mean"]), cell(after, row["after_mean"]),
            cell(effect, row["difference"]),
        ))  # fmt: skip
    header = ("measure", "environment", "pairs", "before", "after", "after − before")
    said = words(
        "Claims are judged over the pairs of all environments together, and environments may "
        "disagree. Here is each alone: described, never judged; 95 % intervals, each on its own."
    )
    table = Table(words("By environment"), _header(header, words), tuple(rows))
    return [Paragraph(marked(said)), table]


def described_section(described: pd.DataFrame, words: Words) -> list[Block]:
    """The descriptive measures, with unadjusted 95 % intervals."""
    if described.empty:
        return [Paragraph(marked(words("No pair has finished, so there is nothing to describe.")))]
    rows = []
    for _, row in described.iterrows():
        aspect = ASPECTS[row["row"] - 1].name
        before, after, effect = values(row)
        rows.append((
            cell(aspect.en if words.lang == "en" else aspect.zh),
            cell(words.measure(row["measure"])), _count(row["n_pairs"]),
            cell(before, row["before_mean"]), cell(after, row["after_mean"]),
            cell(effect, row["difference"]), cell(words.note(row["note"])),
        ))  # fmt: skip
    header = ("aspect", "measure", "pairs", "before", "after", "after − before", "note")
    return [
        Paragraph(marked(words("Described, never judged; 95 % intervals, each on its own."))),
        Table(words("Also reported"), _header(header, words), tuple(rows)),
    ]


def cost_section(results: Results, words: Words) -> list[Block]:
    """What updates and cells took, and the diagnostics' share."""
    frame = costs(results)
    if frame.empty:
        return [Paragraph(marked(words("No cell has finished, so nothing is known of its cost.")))]
    share = diagnosed_share(results)
    if math.isfinite(share):
        said = words(
            "The diagnostics took {share} of the cells' wall time; {limit} is what they are meant "
            "to stay under at the default cadence.",
            share=f"{share:.1%}", limit=f"{DIAGNOSTICS_LIMIT:.0%}",
        )  # fmt: skip
    else:
        said = words("What the diagnostics took was not recorded for every cell.")
    rows = tuple(
        (_variant(row["variant"]), _count(row["n"]), _number(row["update_ms"]),
         _number(row["cell_s"]), *(_share(row[f"{part}_s"], row["cell_s"]) for part in PARTS))
        for _, row in frame.iterrows()
    )  # fmt: skip
    header = ("variant", "cells", "an update, ms", "a cell, s", "of which training", "evaluation",
              "diagnostics")  # fmt: skip
    return [Paragraph(marked(said)), Table(words("Cost"), _header(header, words), rows)]


def methods_section(claims: pd.DataFrame, words: Words) -> list[Block]:
    """What the measures are and are not."""
    used = set(claims["measure"])
    items = [text for name, text in METHODS if name is None or name in used]
    return [Bullets(tuple(marked(words(text)) for text in items))]


GAIN = (
    "**Feature quality** is the state probe's gain: (R² − R² untrained) / (R² oracle − R² "
    "untrained), so 0 is the untrained encoder and 1 the same encoder trained on the simulator's "
    "state. Its delta is on that scale."
)
PLAIN_STATE = (
    "**Feature quality** is the state probe's R² itself, not its gain between an untrained encoder "
    "and an oracle, because not every pair has an oracle at least 0.1 R² above the untrained one."
)
OWN_Q = (
    "**Q prediction** is the error of Q against Monte-Carlo returns of each variant's own policy, "
    "from one set of held-out states and actions. The score stands beside it: the value of a "
    "policy that does nothing is easy to predict."
)
BEHAVIOUR_Q = (
    "**Q prediction** is the error against the **behaviour's** returns, on held-out transitions. "
    "The Q that is measured is the latent policy's, so the behaviour's returns are not its truth: "
    "a better policy rightly disagrees with them. It is not the error against the policy's own "
    "returns, which not every pair has."
)
METHODS: tuple[tuple[str | None, str], ...] = (
    ("state-probe gain from untrained (0) to oracle (1)", GAIN),
    ("R² of the state probe, last evaluation", PLAIN_STATE),
    ("RMS of Q − own policy's return, over σ_G, last roll-outs", OWN_Q),
    ("RMS of Q − behaviour return, over σ_G, last evaluation", BEHAVIOUR_Q),
    (None, "**The TD error** is consistency with itself, which a Q that is the same everywhere "
           "also has."),
    (None, "**Convergence speed** counts updates, not seconds."),
    (None, "**Stability** is the variance of the changes of the score between evaluations in "
           "the second half of training; what the spread between evaluation episodes explains is "
           "taken out, so it is 0 in the mean where a policy stands still, and a single cell's may "
           "lie below. Its delta is relative to the mean over both variants."),
)  # fmt: skip
"""What is said of the measures, each where it is used; without a name: always."""


def values(part: pd.Series) -> list[str]:
    """Before, after and their difference, as text."""
    unit = part["unit"]
    sides = [
        mean_and_interval(part[f"{s}_mean"], part[f"{s}_lo"], part[f"{s}_hi"], unit)
        for s in (BEFORE, AFTER)
    ]
    if part["scale"] == OF_THE_PAIR:
        return [*sides, mean_and_interval(part["difference"], part["lo"], part["hi"], unit)]
    return [*sides, difference(part["difference"], part["lo"], part["hi"], unit, part["scale"])]


def _said(words_of_it: Said, words: Words) -> Line:
    return (Span(words.said(words_of_it), "em"),)


def _delta(part: pd.Series, words: Words) -> str:
    if part["scale"] == "ln ratio":
        return difference(-part["delta"], float("nan"), float("nan"), "", "ln ratio")
    return f"{number(part['delta'], part['unit'])} {words(part['unit'])}"


def _header(names: tuple[str, ...], words: Words) -> tuple[str, ...]:
    return tuple(words(name).replace("`", "") for name in names)


def _env(name: str, words: Words) -> Cell:
    return cell(words("all") if name == "all" else foreign(name))


def _variant(name: str) -> Cell:
    return cell((Span(name, "code"),))


def _count(value: int) -> Cell:
    return cell(str(value), float(value))


def _number(value: float, unit: str = "") -> Cell:
    return cell(number(value, unit), value)


def _share(part: float, whole: float) -> Cell:
    share = part / whole if whole > 0 else float("nan")
    return cell(f"{share:.0%}" if math.isfinite(share) else number(share), share)


def _interval(mean: float, lo: float, hi: float, unit: str, signed: bool = False) -> Cell:
    return cell(mean_and_interval(mean, lo, hi, unit, signed), mean)
