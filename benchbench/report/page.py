"""The report: the verdicts in two sentences, the brief's table with measured cells, the rest below.

:func:`write_report` reads a results folder and writes ``REPORT.md``, ``claims.csv``,
``claims.parquet`` and ``figures/`` into it. The same tables give the same bytes: nothing here looks
at the clock. What could not be measured is named, never left out in silence.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from benchbench.report.brief import AFTER, ASPECTS, BEFORE
from benchbench.report.claims import FAMILY, LEVEL, PAIRS_NEEDED, judge, learned, row_verdict
from benchbench.report.described import describe, final_scores
from benchbench.report.gallery import Drawn, draw
from benchbench.report.provenance import provenance, unfinished
from benchbench.report.text import (
    difference,
    listed,
    markdown_table,
    mean_and_interval,
    number,
    plain_table,
)
from benchbench.results import Results, read_results


def write_report(folder: Path) -> str:
    """Write the report of ``results/<suite>/`` into that folder; return its table as plain text.

    Raises :class:`benchbench.errors.UserError` where the folder holds no results.
    """
    results = read_results(folder)
    claims, learning = judge(results), learned(results)
    drawn = draw(results, folder / "figures")
    (folder / "REPORT.md").write_text(
        page(results, claims, learning, drawn), encoding="utf-8", newline="\n"
    )
    claims.to_csv(folder / "claims.csv", index=False, lineterminator="\n")
    claims.to_parquet(folder / "claims.parquet", index=False)
    return terminal(results, claims, learning)


def page(results: Results, claims: pd.DataFrame, learning: pd.DataFrame, drawn: Drawn) -> str:
    """The whole of REPORT.md."""
    suite = results.suite
    parts = [
        f"# {suite.name}",
        suite.description,
        verdict_sentences(claims, learning),
        "## The brief's table, measured",
        brief_table(claims),
        _how_to_read(claims),
        "## Did anything learn?",
        learning_table(learning),
        "## Figures",
        *(f"![{figure.title}](figures/{figure.name}.png)\n\n{figure.caption}" for figure in drawn),
        "## All variants",
        scores_table(results),
        "## Also reported",
        reported_table(describe(results)),
        "## What could not be done",
        unfinished(results, claims, drawn),
        "## What is measured in a simple form",
        SIMPLE_FORMS,
        "## Provenance",
        provenance(results),
        f"Make this report again with `benchbench report {suite.name}`.",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def terminal(results: Results, claims: pd.DataFrame, learning: pd.DataFrame) -> str:
    """The brief's table for a terminal, the verdict's sentences above it."""
    rows = []
    for aspect in ASPECTS:
        parts = claims[claims["row"] == aspect.row]
        for position, (_, part) in enumerate(parts.iterrows()):
            name = "" if position else f"{aspect.name_en} {aspect.name}"
            rows.append([name, part["measure"].partition(",")[0], *_cells(part), _word(part)])
    header = ["aspect 方面", "measure", "before 修改前", "after 修改后", "difference", "verdict"]
    sentences = verdict_sentences(claims, learning).replace("`", "")
    return f"{textwrap.fill(sentences, 100)}\n\n{plain_table(header, rows)}"


def verdict_sentences(claims: pd.DataFrame, learning: pd.DataFrame) -> str:
    """Two sentences: how the seven claims came out, and how much that says."""
    by_word: dict[str, list[str]] = {}
    for aspect in ASPECTS:
        word, label = row_verdict(claims[claims["row"] == aspect.row])
        name = aspect.name_en.replace("Q prediction", "prediction of Q")
        name = name[0].lower() + name[1:]
        shown = f"{name} ({label})" if label and word == "refuted" else name
        by_word.setdefault(word, []).append(shown)
    counts = [
        f"{len(by_word[word])} {'is' if len(by_word[word]) == 1 else 'are'} {word} "
        f"({listed(by_word[word])})"
        for word in ("supported", "refuted", "inconclusive", "not measured")
        if word in by_word
    ]
    first = f"Of the brief's seven claims, {listed(counts)}."
    counts_of_pairs = claims.loc[claims["row"] > 1, "n_pairs"]
    pairs = int(counts_of_pairs.max())
    if pairs == 0:
        return f"{first} There is no finished pair of `before` and `after`, so nothing is compared."
    upto = "up to " if counts_of_pairs.min() < pairs else ""
    shown_pairs = f"{upto}{pairs} {'pair' if pairs == 1 else 'pairs'} (environment, seed)"
    few = f", where {PAIRS_NEEDED} are needed for a verdict" if pairs < PAIRS_NEEDED else ""
    return f"{first} They rest on {shown_pairs}{few}; {_weight(learning)}."


def brief_table(claims: pd.DataFrame) -> str:
    """The brief's table, row for row in its order: its words in italics, below them what is."""
    rows = []
    for aspect in ASPECTS:
        parts = claims[claims["row"] == aspect.row]
        cells = [_cells(part) for _, part in parts.iterrows()]
        word, label = row_verdict(parts)
        effects = [
            f"{cell[2]}{' ' + _word(part) if len(parts) > 1 else ''}"
            for cell, (_, part) in zip(cells, parts.iterrows(), strict=True)
        ]
        rows.append(
            [
                "<br>".join([f"**{aspect.name}** {aspect.name_en}", *parts["measure"]]),
                "<br>".join([f"*{aspect.before}*", *(c[0] for c in cells)]),
                "<br>".join([f"*{aspect.after}*", *(c[1] for c in cells)]),
                "<br>".join(
                    [f"*{aspect.impact}*", *effects,
                     f"**{word}{f' ({label})' if label else ''}**"]
                ),
            ]
        )  # fmt: skip
    return markdown_table(["方面 aspect", "修改前 before", "修改后 after", "影响 impact"], rows)


def learning_table(learning: pd.DataFrame) -> str:
    """Untrained against final score, with the paired interval."""
    if learning.empty:
        return "No cell has finished, so there is nothing to say."
    rows = [
        [row["env"], f"`{row['variant']}`", str(row["n"]), number(row["untrained"], "points"),
         number(row["final"], "points"),
         mean_and_interval(row["difference"], row["lo"], row["hi"], "points", signed=True),
         row["learned"]]
        for _, row in learning.iterrows()
    ]  # fmt: skip
    header = ["environment", "variant", "cells", "untrained", "final", "gain", "clear of zero"]
    sentence = _weight(learning)
    sentence = sentence[0].upper() + sentence[1:]
    return f"{sentence}.\n\n{markdown_table(header, rows)}"


def scores_table(results: Results) -> str:
    """Final score of every variant in every environment."""
    rows = [
        [row["env"], f"`{row['variant']}`", str(row["n"]),
         mean_and_interval(row["mean"], row["lo"], row["hi"], "points"),
         number(row["iqm"], "points"), number(row["best"], "points")]
        for _, row in final_scores(results).iterrows()
    ]  # fmt: skip
    header = ["environment", "variant", "cells", "final score [95 %]", "IQM", "best evaluation"]
    return "Only `before` against `after` is tested; the rest is exploratory.\n\n" + markdown_table(
        header, rows
    )


def reported_table(described: pd.DataFrame) -> str:
    """The descriptive measures, with unadjusted 95 % intervals."""
    if described.empty:
        return "No pair has finished, so there is nothing to describe."
    rows = [
        [ASPECTS[row["row"] - 1].name_en, row["measure"], str(row["n_pairs"]), *_cells(row),
         row["note"]]
        for _, row in described.iterrows()
    ]  # fmt: skip
    header = ["aspect", "measure", "pairs", "before", "after", "after − before", "note"]
    return markdown_table(header, rows)


SIMPLE_FORMS = """\
- **Feature quality** is the state probe's R² itself, not its gain between a random encoder and an
  oracle; the untrained encoder's R² is reported beside it.
- **Q prediction** is the error against the *behaviour's* returns, on held-out transitions. The Q
  that is measured is the latent policy's, so the behaviour's returns are not its truth: a better
  policy rightly disagrees with them. The TD error beside it is consistency with itself, which a
  Q that is the same everywhere also has. Neither is the error against the policy's own returns.
- **Convergence speed** counts updates, not seconds.
- **Stability** is the interquartile range of the changes of the score between evaluations in the
  second half of training; what the spread between evaluation episodes explains is taken out
  (squares are subtracted, and the result is never below 0). Its delta is relative to the mean over
  both variants."""


def _how_to_read(claims: pd.DataFrame) -> str:
    by_note: dict[str, list[str]] = {}
    for _, part in claims[claims["note"] != ""].iterrows():
        by_note.setdefault(part["note"], []).append(part["measure"].partition(",")[0])
    notes = [f"- {listed(measures)}: {note}." for note, measures in by_note.items()]
    needs = "\n".join(
        f"| {part['measure']} | {part['claimed']} | {_delta(part)} | {part['n_pairs']} | "
        f"{number(part['p'])} | {number(part['p_holm'])} |"
        for _, part in claims[claims["row"] > 1].iterrows()
    )
    return (
        "Intervals of `before` and `after` are 95 % intervals of the variant's own mean; those of "
        f"the impact bound the paired difference after − before at {LEVEL:.2%}, so that all "
        f"{FAMILY} hold together at 95 %. A claim is supported when its interval lies beyond delta "
        "on the side it names and its sign-flip p, adjusted by Holm, is at most 0.05; refuted when "
        f"the interval lies short of delta; {PAIRS_NEEDED} pairs are needed for either.\n\n"
        "| measure | claimed of after | delta | pairs | p | p (Holm) |\n"
        f"| --- | --- | --- | --- | --- | --- |\n{needs}\n\n" + "\n".join(notes)
    )


def _delta(part: pd.Series) -> str:
    if part["scale"] == "ln ratio":
        return difference(-part["delta"], float("nan"), float("nan"), "", "ln ratio")
    return f"{number(part['delta'], part['unit'])} {part['unit']}"


def _cells(part: pd.Series) -> list[str]:
    """Before, after and their difference, as text."""
    unit = part["unit"]
    sides = [
        mean_and_interval(part[f"{s}_mean"], part[f"{s}_lo"], part[f"{s}_hi"], unit)
        for s in (BEFORE, AFTER)
    ]
    return [*sides, difference(part["difference"], part["lo"], part["hi"], unit, part["scale"])]


def _word(part: pd.Series) -> str:
    return f"{part['verdict']} ({part['label']})" if part["label"] else str(part["verdict"])


def _weight(learning: pd.DataFrame) -> str:
    """How much the comparison can say, given what was learned."""
    overall = learning[learning["env"] == "all"].set_index("variant")["learned"]
    words = overall[overall.index.isin([BEFORE, AFTER])]
    words = overall if words.empty else words
    names = [f"`{name}`" for name in words.index]
    clear = [f"`{name}`" for name, word in words.items() if word == "yes"]
    if (words == "unknown").all():
        return "whether anything was learned cannot be said from fewer than two cells a variant"
    if not clear:
        return (
            f"of {listed(names)}, none ended clear above its untrained score, so comparing them "
            "says little"
        )
    only = "" if len(clear) == len(names) else f"of {listed(names)}, only "
    return f"{only}{listed(clear)} ended clear above the untrained score"
