"""The report: the verdicts in two sentences, the brief's table with measured cells, the rest below.

:func:`write_report` reads a results folder and writes the page into it as Markdown and as one HTML
file, the tables ``claims``, ``described`` and ``pairs`` as CSV and parquet, and ``figures/``. The
same tables give the same bytes: nothing here looks at the clock. What could not be measured is
named, never left out in silence.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchbench.analysis.brief import ASPECTS
from benchbench.analysis.claims import PAIRS_NEEDED, judge, learned, row_verdict
from benchbench.analysis.pairing import pair
from benchbench.analysis.secondary_measures import by_environment, describe, pairs
from benchbench.core.text import plain_table, wrapped
from benchbench.report import sections
from benchbench.report.document import (
    Block,
    Document,
    Heading,
    Paragraph,
    Picture,
    foreign,
    marked,
)
from benchbench.report.gallery import Drawn, draw
from benchbench.report.html import to_html
from benchbench.report.language import LANGS, Lang, Words
from benchbench.report.markdown import to_markdown
from benchbench.report.origins import other_agents, provenance, unfinished
from benchbench.results.tables import Results, read_results


def write_report(folder: Path, lang: Lang = "en") -> str:
    """Write the report of ``results/<suite>/`` into that folder; return its table as plain text.

    ``lang`` 'zh' writes ``REPORT.zh.md`` and ``report.zh.html`` beside the English ones; the tables
    and figures are the same. Pages in the other language that are there are written again, so that
    none goes stale. Raises :class:`benchbench.core.errors.UserError` where the folder holds no
    results.
    """
    results = read_results(folder)
    pairing = pair(results)
    claims, learning = judge(pairing), learned(results)
    environments, described = by_environment(pairing), describe(pairing)
    drawn = draw(pairing, folder / "figures")
    for each in LANGS:
        markdown, html = report_files(folder, each)
        if each == lang or markdown.exists():
            words = Words(each)
            document = page(results, claims, environments, described, learning, drawn, words)
            markdown.write_text(to_markdown(document), encoding="utf-8", newline="\n")
            whole = to_html(document, folder / "figures", words)
            html.write_text(whole, encoding="utf-8", newline="\n")
    tables = {
        "claims": claims,
        "environments": environments,
        "described": described,
        "pairs": pairs(pairing),
    }
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return terminal(claims, learning, Words(lang))


def report_files(folder: Path, lang: Lang = "en") -> tuple[Path, Path]:
    """The Markdown and the HTML file of a folder's report."""
    middle = "" if lang == "en" else f".{lang}"
    return folder / f"REPORT{middle}.md", folder / f"report{middle}.html"


def page(
    results: Results,
    claims: pd.DataFrame,
    environments: pd.DataFrame,
    described: pd.DataFrame,
    learning: pd.DataFrame,
    drawn: Drawn,
    words: Words,
) -> Document:
    """The whole report."""
    suite = results.suite
    pictures = [
        Picture(shown.name, words(shown.title), marked(words(shown.caption))) for shown in drawn
    ]
    titled: list[tuple[str, str, list[Block]]] = [
        ("table", "The brief's table, measured",
         [sections.brief_table(claims, words), *sections.how_to_read(claims, words)]),
        ("environments", "By environment", sections.environments_section(environments, words)),
        ("learned", "Did anything learn?", sections.learning_section(learning, words)),
        ("figures", "Figures", [*pictures]),
        ("variants", "All variants", sections.variants_section(results, words)),
        ("described", "Also reported", sections.described_section(described, words)),
        ("cost", "Cost", sections.cost_section(results, words)),
        ("undone", "What could not be done", unfinished(results, claims, drawn, words)),
        ("methods", "How it is measured", sections.methods_section(claims, words)),
        ("provenance", "Provenance", provenance(results, words)),
    ]  # fmt: skip
    blocks: list[Block] = [Heading(suite.name, "top", level=1)]
    if suite.description.strip():
        blocks.append(Paragraph(foreign(suite.description)))
    blocks += other_agents(results, words)
    blocks.append(Paragraph(marked(verdict_sentences(claims, learning, words)), lead=True))
    for anchor, title, inside in titled:
        if anchor == "environments" and environments.empty:
            continue
        blocks += [Heading(words(title), anchor), *inside]
    option = "" if words.lang == "en" else f" --lang {words.lang}"
    again = words("Make this report again with `{command}`.",
                  command=f"benchbench report {suite.name}{option}")  # fmt: skip
    blocks.append(Paragraph(marked(again)))
    return Document(suite.name, words.lang, tuple(blocks))


def terminal(claims: pd.DataFrame, learning: pd.DataFrame, words: Words) -> str:
    """The brief's table for a terminal, the verdict's sentences above it."""
    rows = []
    for aspect in ASPECTS:
        name = aspect.name.zh if words.lang == "zh" else f"{aspect.name.en} {aspect.name.zh}"
        for _, part in claims[claims["row"] == aspect.row].iterrows():
            verdict = sections.verdict_span(part["verdict"], part["label"], words)
            measure = words.measure(part["measure"], short=True)
            rows.append([name, measure, *sections.values(part), verdict.text])
            name = ""
        for _, part in sections.beside(claims, aspect.row).iterrows():
            measure = words("beside it: {measure}", measure=words.measure(part["measure"], True))
            rows.append(["", measure, *sections.values(part), ""])
    header = ["aspect 方面", "measure", "before 修改前", "after 修改后", "difference", "verdict"]
    sentences = verdict_sentences(claims, learning, words).replace("`", "")
    table = plain_table([words(name) for name in header], rows)
    return f"{wrapped(sentences, 100)}\n\n{table}"


def verdict_sentences(claims: pd.DataFrame, learning: pd.DataFrame, words: Words) -> str:
    """Two sentences: how the seven claims came out, and how much that says."""
    by_word: dict[str, list[str]] = {}
    for aspect in ASPECTS:
        word, label = row_verdict(claims[claims["row"] == aspect.row])
        name = aspect.name.zh
        if words.lang == "en":
            name = aspect.name.en.replace("Q prediction", "prediction of Q")
            name = name[0].lower() + name[1:]
        if label and word == "refuted":
            name += words(" ({label})", label=words.note(label))
        by_word.setdefault(word, []).append(name)
    counts = [
        words("{n} is {word} ({names})" if len(by_word[word]) == 1 else "{n} are {word} ({names})",
              n=len(by_word[word]), word=words(word), names=words.listed(by_word[word]))
        for word in ("supported", "refuted", "inconclusive", "not measured")
        if word in by_word
    ]  # fmt: skip
    first = words("Of the brief's seven claims, {counts}.", counts=words.clauses(counts))
    numbers = claims.loc[claims["row"] > 1, "n_pairs"]
    n = int(numbers.max())
    if n == 0:
        second = words("There is no finished pair of `before` and `after`, so nothing is compared.")
        return words("{first} {second}", first=first, second=second)
    several = "{n} pairs (environment, seed)" if numbers.min() == n else (
        "up to {n} pairs (environment, seed)"
    )  # fmt: skip
    rest = words("one pair (environment, seed)") if n == 1 else words(several, n=n)
    if n < PAIRS_NEEDED:
        rest += words(", where {needed} are needed for a verdict", needed=PAIRS_NEEDED)
    clause = sections.weight(learning, words)
    second = words("They rest on {pairs}; {weight}.", pairs=rest, weight=clause)
    return words("{first} {second}", first=first, second=second)
