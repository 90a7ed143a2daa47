"""The report: each contrast's verdicts in sentences, by environment and over all; more below.

:func:`write_report` reads a results folder and writes the page into it as Markdown and as one HTML
file, the tables ``claims``, ``described`` and ``pairs`` as CSV and parquet, ``looks.json`` and
``figures/``, and the discussion where the folder holds its template. The same tables give the same
bytes: nothing here looks at the clock. What could not be measured is named, never left out in
silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchbench.analysis.brief import ALL, ASPECTS
from benchbench.analysis.claims import judge, learned
from benchbench.analysis.conditions import dependence, has_conditions
from benchbench.analysis.looks import look_table
from benchbench.analysis.pairing import Study, pair
from benchbench.analysis.secondary_measures import describe, pairs
from benchbench.core.text import plain_table, wrapped
from benchbench.report import sections
from benchbench.report import verdict_sections as verdicts
from benchbench.report.condition_section import TITLE, condition_section
from benchbench.report.discussion import write_discussion
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
from benchbench.results.tables import read_results
from benchbench.suite.model import Contrast, SeedPlan


def write_report(folder: Path, lang: Lang = "en") -> str:
    """Write the report of ``results/<suite>/`` into that folder; return its table as plain text.

    ``lang`` 'zh' writes ``REPORT.zh.md`` and ``report.zh.html`` beside the English ones; the tables
    and figures are the same. Pages in the other language that are there are written again, so that
    none goes stale. Raises :class:`benchbench.core.errors.UserError` where the folder holds no
    results.
    """
    results = read_results(folder)
    study = pair(results)
    results = study.results
    claims, learning, described = judge(study), learned(study), describe(study)
    looks, unplanned = look_table(study), note_look(folder, study)
    drawn = draw(study, folder / "figures")
    for each in LANGS:
        markdown, html = report_files(folder, each)
        if each == lang or markdown.exists():
            words = Words(each)
            found = Found(study, claims, described, learning, looks, unplanned, drawn)
            document = page(found, words)
            markdown.write_text(to_markdown(document), encoding="utf-8", newline="\n")
            whole = to_html(document, folder / "figures", words)
            html.write_text(whole, encoding="utf-8", newline="\n")
    tables = {"claims": claims, "described": described, "pairs": pairs(study)}
    if has_conditions(study):
        tables["conditions"] = dependence(study)
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    write_discussion(folder)
    return terminal(study, claims, learning, Words(lang))


@dataclass(frozen=True)
class Found:
    """All that a page is made of."""

    study: Study
    claims: pd.DataFrame
    described: pd.DataFrame
    learning: pd.DataFrame
    looks: pd.DataFrame
    unplanned: tuple[int, ...]
    drawn: Drawn


def report_files(folder: Path, lang: Lang = "en") -> tuple[Path, Path]:
    """The Markdown and the HTML file of a folder's report."""
    middle = "" if lang == "en" else f".{lang}"
    return folder / f"REPORT{middle}.md", folder / f"report{middle}.html"


def page(found: Found, words: Words) -> Document:
    """The whole report."""
    study, claims, learning = found.study, found.claims, found.learning
    results, suite = study.results, study.results.suite
    blocks: list[Block] = [Heading(suite.name, "top", level=1)]
    if suite.description.strip():
        blocks.append(Paragraph(foreign(suite.description)))
    blocks += other_agents(results, words)
    several = len(study.pairings) > 1
    titled: list[tuple[str, str, list[Block]]] = []
    for number, pairing in enumerate(study.pairings):
        contrast = pairing.contrast
        mine = verdicts.of_contrast(claims, contrast)
        sentences = verdicts.verdict_sentences(
            mine, contrast, words, sections.weight(learning, contrast, words)
        )
        blocks.append(Paragraph(marked(sentences), lead=True))
        which = f": {contrast.name}" if several else ""
        end = f"-{number + 1}" if number else ""
        table = (
            verdicts.brief_table(mine, words)
            if contrast.expect
            else verdicts.contrast_table(mine, contrast, words)
        )
        title = "The brief's table, measured" if contrast.expect else "Verdicts"
        titled += [
            (f"verdicts{end}", words("Verdicts by environment") + which,
             verdicts.matrix(mine, words)),
            (f"conditions{end}", words(TITLE) + which, condition_section(study, contrast, words)),
            (f"table{end}", words(title) + which,
             [table, *verdicts.how_to_read(mine, contrast, words)]),
            (f"power{end}", words("What would decide it") + which,
             verdicts.power_section(mine, study, words)),
            (f"environments{end}", words("By environment") + which,
             verdicts.environments_section(mine, contrast, words)),
        ]  # fmt: skip
    if found.unplanned:
        told = words(
            "These claims were looked at before, with {seeds} seeds; seeds were added by hand "
            "afterwards. The error of that unplanned look is not accounted for.",
            seeds=words.listed([str(n) for n in found.unplanned]),
        )  # fmt: skip
        blocks.append(Paragraph(marked(told)))
    if not study.pairings:
        blocks.append(Paragraph(marked(words("No two variants are compared.")), lead=True))
    pictures = [
        Picture(shown.name, words(shown.title) + (f": {shown.of}" if shown.of else ""),
                marked(words(shown.caption)))
        for shown in found.drawn
    ]  # fmt: skip
    titled += [
        ("looks", words("Looks"), verdicts.looks_section(found.looks, words)),
        ("learned", words("Did anything learn?"),
         sections.learning_section(learning, study, words)),
        ("figures", words("Figures"), [*pictures]),
        ("variants", words("All variants"), sections.variants_section(study, words)),
    ]  # fmt: skip
    for number, pairing in enumerate(study.pairings):
        contrast = pairing.contrast
        which, end = (f": {contrast.name}" if several else ""), f"-{number + 1}" if number else ""
        mine = verdicts.of_contrast(found.described, contrast)
        titled.append((f"described{end}", words("Also reported") + which,
                       sections.described_section(mine, contrast, words)))  # fmt: skip
    titled += [
        ("cost", words("Cost"), sections.cost_section(results, words)),
        ("undone", words("What could not be done"),
         unfinished(results, claims, found.drawn, words)),
        ("methods", words("How it is measured"),
         sections.methods_section(claims, results, words)),
        ("provenance", words("Provenance"), provenance(results, words)),
    ]  # fmt: skip
    for anchor, title, inside in titled:
        if inside:
            blocks += [Heading(title, anchor), *inside]
    option = "" if words.lang == "en" else f" --lang {words.lang}"
    again = words("Make this report again with `{command}`.",
                  command=f"benchbench report {suite.name}{option}")  # fmt: skip
    blocks.append(Paragraph(marked(again)))
    return Document(suite.name, words.lang, tuple(blocks))


def note_look(folder: Path, study: Study) -> tuple[int, ...]:
    """Remember that the suite is looked at, and return the unplanned looks before this one.

    A look counts where every planned cell has ended; its number of seeds stands in ``looks.json``.
    With seeds that were planned as a plain count or list, one with fewer seeds was unplanned.
    """
    suite, cells = study.results.suite, study.results.cells
    planned, seeds = study.results.plan, len(suite.seed_list)
    path = folder / "looks.json"
    before: list[int] = []
    if path.exists():
        before = [int(n) for n in json.loads(path.read_text(encoding="utf-8"))]
    if isinstance(suite.seeds, SeedPlan):
        return ()
    if len(planned) and planned["key"].isin(cells["key"]).all() and seeds not in before:
        path.write_text(json.dumps(sorted({*before, seeds})) + "\n", encoding="utf-8")
    return tuple(n for n in sorted(before) if n < seeds)


def terminal(study: Study, claims: pd.DataFrame, learning: pd.DataFrame, words: Words) -> str:
    """Each contrast's table for a terminal, the verdicts' sentences above it."""
    texts = []
    for pairing in study.pairings:
        contrast = pairing.contrast
        mine = verdicts.of_contrast(claims, contrast)
        weight = sections.weight(learning, contrast, words)
        sentences = verdicts.verdict_sentences(mine, contrast, words, weight).replace("`", "")
        texts.append(f"{wrapped(sentences, 100)}\n\n{_table(mine, contrast, words)}")
    return "\n".join(texts) or words("No two variants are compared.")


def _table(claims: pd.DataFrame, contrast: Contrast, words: Words) -> str:
    over = claims[claims["env"] == ALL]
    rows = []
    for aspect in ASPECTS:
        name = aspect.name.zh if words.lang == "zh" else f"{aspect.name.en} {aspect.name.zh}"
        for _, part in over[over["row"] == aspect.row].iterrows():
            verdict = verdicts.verdict_span(part["verdict"], part["label"], words)
            measure = words.measure(part["measure"], short=True)
            rows.append([name, measure, *verdicts.values(part), verdict.text])
            name = ""
        for _, part in verdicts.beside(over, aspect.row).iterrows():
            measure = words("beside it: {measure}", measure=words.measure(part["measure"], True))
            rows.append(["", measure, *verdicts.values(part), ""])
    sides = [words("before 修改前"), words("after 修改后")]
    if not contrast.expect:
        sides = [contrast.against, contrast.of]
    names = [words("aspect 方面"), words("measure"), *sides, words("difference"), words("verdict")]
    return plain_table(names, rows)
