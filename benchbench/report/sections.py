"""The report's tables and what is said around them: one function a section, blocks out."""

from __future__ import annotations

import math

import pandas as pd

from benchbench.analysis.brief import ROWS
from benchbench.analysis.curves import PARTS, control_of, costs, diagnosed_share, improvements
from benchbench.analysis.pairing import Study
from benchbench.analysis.secondary_measures import final_scores, similarities
from benchbench.core.text import mean_and_interval, number, percent
from benchbench.report.document import (
    Block,
    Bullets,
    Cell,
    Paragraph,
    Span,
    Table,
    cell,
    foreign,
    marked,
)
from benchbench.report.language import Words
from benchbench.report.verdict_sections import values
from benchbench.results.tables import Results
from benchbench.suite.model import Contrast

DIAGNOSTICS_LIMIT = 0.10
"""Share of a cell's wall time that the diagnostics are meant to stay under."""


def weight(learning: pd.DataFrame, contrast: Contrast, words: Words) -> str:
    """How much the comparison can say, given what was learned; a clause."""
    overall = learning[learning["env"] == "all"].set_index("variant")["learned"]
    compared = overall[overall.index.isin([contrast.of, contrast.against])]
    compared = overall if compared.empty else compared
    names = words.listed([f"`{name}`" for name in compared.index])
    clear = [f"`{name}`" for name, word in compared.items() if word == "yes"]
    if compared.empty:
        return words("no cell has an untrained score, so whether anything was learned is not known")
    if (compared == "unknown").all():
        return words(
            "whether anything was learned cannot be said from fewer than two cells a variant"
        )
    if not clear:
        return words(
            "of {names}, none ended clearly above its untrained score, so comparing them says "
            "little",
            names=names,
        )
    if len(clear) == len(compared):
        return words("{clear} ended clearly above the untrained score", clear=words.listed(clear))
    return words(
        "of {names}, only {clear} ended clearly above the untrained score",
        names=names, clear=words.listed(clear),
    )  # fmt: skip


def learning_section(learning: pd.DataFrame, study: Study, words: Words) -> list[Block]:
    """Untrained against final score, with the paired interval."""
    if learning.empty:
        return [
            Paragraph(
                marked(
                    words("No finished cell has an untrained score, so there is nothing to say.")
                )
            )
        ]
    one_env = learning["env"].nunique() == 2  # it, and 'all', which is the same
    shown = learning[learning["env"] != "all"] if one_env else learning
    rows = tuple(
        (_env(row["env"], words), _variant(row["variant"]), _count(row["n"]),
         _number(row["untrained"], "points"), _number(row["final"], "points"),
         _interval(row["difference"], row["lo"], row["hi"], "points", signed=True),
         _share(row["failed"], 1.0), cell(words(row["learned"])))
        for _, row in shown.iterrows()
    )  # fmt: skip
    header = (
        "environment",
        "variant",
        "cells",
        "untrained",
        "final",
        "gain",
        "failed seeds",
        "clear of zero",
    )
    sentence = words(
        "A seed has failed where it ends less than delta ({delta} points) above its untrained "
        "score.",
        delta=number(study.results.suite.deltas.score, "points"),
    )  # fmt: skip
    table = Table(words("Did anything learn?"), _header(header, words), rows)
    return [Paragraph(marked(sentence)), table]


def variants_section(study: Study, words: Words) -> list[Block]:
    """Final score of every variant, its chance of beating the control, likeness of features."""
    results = study.results
    scores = [
        (_env(row["env"], words), _variant(row["variant"]), _count(row["n"]),
         _interval(row["mean"], row["lo"], row["hi"], "points"),
         _number(row["iqm"], "points"), _number(row["best"], "points"),
         _share(row["failed"], 1.0))
        for _, row in final_scores(study).iterrows()
    ]  # fmt: skip
    header = (
        "environment",
        "variant",
        "cells",
        "final score [95 %]",
        "IQM",
        "best evaluation",
        "failed seeds",
    )
    tested = [f"`{c.of}` − `{c.against}`" for c in results.suite.compared]
    said = (
        words("Only {names} is tested; the rest is exploratory.", names=words.listed(tested))
        if tested
        else words("Nothing is tested; all of it is exploratory.")
    )
    blocks: list[Block] = [
        Paragraph(marked(said)),
        Table(words("All variants"), _header(header, words), tuple(scores)),
    ]
    chances = improvements(study)
    if len(chances) > 1:
        shown = [
            (_variant(row["variant"]), _count(row["n"]),
             _interval(row["mean"], row["lo"], row["hi"], "probability"))
            for _, row in chances.iterrows()
        ]  # fmt: skip
        above = words("probability of scoring above `{control}` [95 %]", control=control_of(study))
        head = (words("variant"), words("cells"), above.replace("`", ""))
        blocks.append(Table(words("Probability of improvement"), head, tuple(shown)))
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


def described_section(described: pd.DataFrame, contrast: Contrast, words: Words) -> list[Block]:
    """The descriptive measures, with unadjusted 95 % intervals."""
    if described.empty:
        return [Paragraph(marked(words("No pair has finished, so there is nothing to describe.")))]
    rows = []
    for _, row in described.iterrows():
        aspect = ROWS[row["row"] - 1].name
        against, of, effect = values(row)
        measure = [marked(words.measure(row["measure"]))]
        if row["note"]:
            measure.append((Span(words.note(row["note"]), "em"),))
        rows.append((
            cell(aspect.en if words.lang == "en" else aspect.zh),
            cell(measure), _count(row["n_pairs"]), cell(against, row["against_mean"]),
            cell(of, row["of_mean"]), cell(effect, row["difference"]),
        ))  # fmt: skip
    names = (words("aspect"), words("measure"), words("pairs"), contrast.against, contrast.of,
             contrast.name)  # fmt: skip
    return [
        Paragraph(marked(words("Described, never judged; 95 % intervals, each on its own."))),
        Table(words("Also reported"), names, tuple(rows)),
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
            share=percent(share, 1), limit=percent(DIAGNOSTICS_LIMIT),
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


def methods_section(claims: pd.DataFrame, results: Results, words: Words) -> list[Block]:
    """What the measures are and are not."""
    used = set(claims["measure"])
    items = [text for name, text in METHODS if name is None or name in used]
    sets = results.cells.dropna(subset="data_sha256").groupby("env")["data_sha256"].nunique()
    seeds = results.cells.groupby("env")["seed"].nunique()
    if len(sets) and (sets < seeds.reindex(sets.index)).any():
        items.append(ONE_DATA_SET)
    elif len(sets) and (sets > 1).all():
        items.append(A_DATA_SET_EACH)
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
ONE_DATA_SET = (
    "**Data sets** are not drawn anew with each seed here, so the intervals are over training "
    "seeds, not over data sets."
)
A_DATA_SET_EACH = (
    "**Data sets** are drawn anew with each seed, so the intervals are over training seeds and "
    "data sets together."
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
           "lie below."),
)  # fmt: skip
"""What is said of the measures, each where it is used; without a name: always."""


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
    return cell(percent(share), share)


def _interval(mean: float, lo: float, hi: float, unit: str, signed: bool = False) -> Cell:
    return cell(mean_and_interval(mean, lo, hi, unit, signed), mean)
