"""The report: question and answer, overview, what is open, the brief's table; the rest folded.

:func:`write_report` reads a results folder and writes the page into it as Markdown and as one HTML
file, the tables ``claims``, ``described`` and ``pairs`` as CSV and parquet, ``looks.json`` and
``figures/``, and the discussion where the folder holds its template. The same tables give the same
bytes: nothing here looks at the clock. What could not be measured is named, never left out in
silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from benchbench.analysis.brief import ALL, ROWS
from benchbench.analysis.conditions import dependence, has_conditions
from benchbench.analysis.looks import look_table
from benchbench.analysis.pairing import Study, pair
from benchbench.analysis.secondary_measures import pairs
from benchbench.core.errors import UserError
from benchbench.core.files import from_json, replaced, write_text
from benchbench.core.text import plain_table, wrapped
from benchbench.report import lead
from benchbench.report import sections as sections_of
from benchbench.report import verdict_sections as verdicts
from benchbench.report.condition_section import TITLE, condition_section
from benchbench.report.discussion import Tables, write_discussion
from benchbench.report.document import (
    Block,
    Document,
    Heading,
    Paragraph,
    Picture,
    foreign,
    marked,
)
from benchbench.report.gallery import OVERVIEW, Drawn, Shown, draw
from benchbench.report.html import to_html
from benchbench.report.language import LANGS, Lang, Words
from benchbench.report.markdown import to_markdown
from benchbench.report.origins import (
    files_and_citation,
    of_other_code,
    other_agents,
    provenance,
    unfinished,
)
from benchbench.report.paper import write_paper
from benchbench.report.tasks import tasks_section
from benchbench.results.lock import one_report
from benchbench.results.tables import read_results, read_suite
from benchbench.suite.model import Contrast, SeedPlan


def write_report(folder: Path, lang: Lang | Literal["both"] = "en", paper: bool = False) -> str:
    """Write the report of ``results/<suite>/`` into that folder; return its table as plain text.

    ``lang`` 'zh' writes ``REPORT.zh.md`` and ``report.zh.html``, 'both' these and the English ones;
    the tables and figures are the same. Pages in the other language that are there are written
    again, so that none goes stale. ``paper`` adds what a paper takes, see
    :mod:`benchbench.report.paper`. Where another process writes the same report, this waits for it.
    Raises :class:`benchbench.core.errors.UserError` where the folder holds no results.
    """
    read_suite(folder)  # a folder that is none is named, and not made by the lock
    with one_report(folder):
        return _write(folder, lang, paper)


def _write(folder: Path, lang: Lang | Literal["both"], paper: bool) -> str:
    study = pair(read_results(folder))
    here = Tables(study)
    claims, learning, described = here.all_claims, here.all_learned, here.all_described
    looks, unplanned = look_table(study), note_look(folder, study)
    drawn = draw(study, claims, folder / "figures", paper)
    wanted = LANGS if lang == "both" else (lang,)
    pages = [each for each in LANGS if each in wanted or report_files(folder, each)[0].exists()]
    found = Found(study, claims, described, learning, looks, unplanned, drawn, folder)
    for each in pages:
        markdown, html = report_files(folder, each)
        words = Words(each)
        document = page(found, words, tuple((o, _ending(o)) for o in pages if o != each))
        write_text(markdown, to_markdown(document))
        write_text(html, to_html(document, folder, words))
    tables = {"claims": claims, "described": described, "pairs": pairs(study)}
    if has_conditions(study):
        tables["conditions"] = dependence(study)
    for name, frame in tables.items():
        write_text(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        with replaced(folder / f"{name}.parquet") as file:
            frame.to_parquet(file, index=False)
    if paper:
        write_paper(folder, study, claims)
    write_discussion(folder, here)
    return terminal(study, claims, learning, Words(wanted[0]))


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
    folder: Path


def report_files(folder: Path, lang: Lang = "en") -> tuple[Path, Path]:
    """The Markdown and the HTML file of a folder's report."""
    return folder / f"REPORT{_ending(lang)}.md", folder / f"report{_ending(lang)}.html"


def _ending(lang: Lang) -> str:
    return "" if lang == "en" else f".{lang}"


BRIEF = (
    "This table began the project (its brief): seven claims about what changes once the critic's "
    "gradient reaches the encoder. What is claimed stands in italics, what was measured below it."
)


def page(found: Found, words: Words, others: tuple[tuple[str, str], ...] = ()) -> Document:
    """The whole report: question, answer, overview, what is open, the table; the rest folded."""
    study, claims = found.study, found.claims
    results, suite = study.results, study.results.suite
    blocks: list[Block] = [Heading(suite.name, "top", level=1)]
    if suite.description.strip():
        blocks.append(Paragraph(foreign(suite.description)))
    blocks += other_agents(results, words)
    sections: list[Section] = []
    for number, pairing in enumerate(study.pairings):
        contrast, end = pairing.contrast, f"-{number + 1}" if number else ""
        which = f": {contrast.name}" if len(study.pairings) > 1 else ""
        mine = verdicts.of_contrast(claims, contrast)
        weight = sections_of.weight(found.learning, contrast, words)
        blocks.append(Paragraph(marked(lead.question(contrast, words, of_other_code(results)))))
        blocks.append(Paragraph(marked(lead.answer(mine, contrast, words)), lead=True))
        blocks.append(Paragraph(marked(lead.evidence(mine, contrast, words, weight))))
        sections += [
            replace(section, anchor=section.anchor + end, title=section.title + which)
            for section in _of_contrast(found, contrast, mine, words)
        ]
    if found.unplanned:
        told = words(
            "These claims were looked at before, with {seeds} seeds; seeds were added by hand "
            "afterwards. The error of that unplanned look is not accounted for.",
            seeds=words.listed([str(n) for n in found.unplanned]),
        )  # fmt: skip
        blocks.append(Paragraph(marked(told)))
    if not study.pairings:
        blocks.append(Paragraph(marked(words("No two variants are compared.")), lead=True))
    sections += _of_all(found, words)
    for section in [s for s in sections if not s.folded] + [s for s in sections if s.folded]:
        if section.blocks:
            blocks += [Heading(section.title, section.anchor, folded=section.folded),
                       *section.blocks]  # fmt: skip
    option = "" if words.lang == "en" else f" --lang {words.lang}"
    again = words("Make this report again with `{command}`.",
                  command=f"benchbench report {suite.name}{option}")  # fmt: skip
    blocks.append(Heading(words("Files, and how to cite"), "files"))
    blocks += [*files_and_citation(results, words), Paragraph(marked(again))]
    return Document(suite.name, words.lang, tuple(blocks), others)


@dataclass(frozen=True)
class Section:
    """A part of the page; without blocks it is left out."""

    anchor: str
    title: str
    blocks: list[Block]
    folded: bool = True


def _of_contrast(
    found: Found, contrast: Contrast, claims: pd.DataFrame, words: Words
) -> list[Section]:
    """What the page says of one contrast."""
    name = f"{contrast.of} {contrast.against}"
    overviews: list[Block] = [
        lead.forest(claims, contrast, _picture(shown, words), words)
        for shown in found.drawn
        if shown.name.startswith(OVERVIEW) and shown.key in ("", name)
    ]
    table: list[Block] = (
        [Paragraph(marked(words(BRIEF))), verdicts.brief_table(claims, words)]
        if contrast.expect
        else [verdicts.contrast_table(claims, contrast, words)]
    )
    title = "The brief's table, measured" if contrast.expect else "Verdicts"
    described = verdicts.of_contrast(found.described, contrast)
    return [
        Section("overview", words("All verdicts at a glance"), overviews, folded=False),
        Section("open", words("What would decide it"), lead.open_section(claims, words), False),
        Section("table", words(title), table, folded=False),
        Section("conditions", words(TITLE), condition_section(found.study, claims, contrast, words),
                folded=False),
        Section("reading", words("How to read it"),
                verdicts.how_to_read(claims, contrast, words, not found.looks.empty)),
        Section("verdicts", words("Verdicts by environment"), verdicts.matrix(claims, words)),
        Section("power", words("What these pairs can show"),
                verdicts.power_section(claims, found.study, words)),
        Section("environments", words("By environment"),
                verdicts.environments_section(claims, contrast, words)),
        Section("described", words("Also reported"),
                sections_of.described_section(described, contrast, words)),
    ]  # fmt: skip


def _of_all(found: Found, words: Words) -> list[Section]:
    """What the page says of all cells together."""
    study, results = found.study, found.study.results
    undone = unfinished(results, found.claims, found.drawn, words)
    figures = [_picture(s, words) for s in found.drawn if not s.name.startswith(OVERVIEW)]
    return [
        Section("undone", words("What could not be done"), undone, folded=False),
        Section("tasks", words("The tasks"), tasks_section(found.folder, results, words)),
        Section("looks", words("Looks"), verdicts.looks_section(found.looks, words)),
        Section("learned", words("Did anything learn?"),
                sections_of.learning_section(found.learning, study, words)),
        Section("figures", words("Figures"), [*figures]),
        Section("variants", words("All variants"), sections_of.variants_section(study, words)),
        Section("cost", words("Cost"), sections_of.cost_section(results, words)),
        Section("methods", words("How it is measured"),
                sections_of.methods_section(found.claims, results, words)),
        Section("provenance", words("Provenance"), provenance(results, words)),
    ]  # fmt: skip


def _picture(shown: Shown, words: Words) -> Picture:
    title = words(shown.title) + (f": {shown.of}" if shown.of else "")
    return Picture(shown.name, title, marked(words(shown.caption)))


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
        try:
            before = [int(n) for n in from_json(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError):
            raise UserError(
                f"{path}: cannot be read; put back the numbers of seeds that were looked at, such "
                "as [10], or delete it where there were none"
            ) from None
    if isinstance(suite.seeds, SeedPlan):
        return ()
    if len(planned) and planned["key"].isin(cells["key"]).all() and seeds not in before:
        write_text(path, json.dumps(sorted({*before, seeds})) + "\n")
    return tuple(n for n in sorted(before) if n < seeds)


def terminal(study: Study, claims: pd.DataFrame, learning: pd.DataFrame, words: Words) -> str:
    """Each contrast's table for a terminal, the verdicts' sentences above it."""
    texts = []
    for pairing in study.pairings:
        contrast = pairing.contrast
        mine = verdicts.of_contrast(claims, contrast)
        weight = sections_of.weight(learning, contrast, words)
        said = lead.joined([lead.answer(mine, contrast, words),
                            lead.evidence(mine, contrast, words, weight)], words)  # fmt: skip
        told = wrapped(said.replace("`", ""), 100)
        texts.append(f"{told}\n\n{_table(mine, contrast, words)}")
    return "\n".join(texts) or words("No two variants are compared.")


def _table(claims: pd.DataFrame, contrast: Contrast, words: Words) -> str:
    over = claims[claims["env"] == ALL]
    rows = []
    for aspect in ROWS:
        name = words.said(aspect.name)
        for _, part in over[over["row"] == aspect.row].iterrows():
            verdict = verdicts.verdict_span(part["verdict"], part["label"], words)
            measure = words.measure(part["measure"], short=True)
            rows.append([name, measure, *verdicts.values(part), verdict.text])
            name = ""
        beside = verdicts.beside(over, aspect.row if not name else 0)
        for _, part in beside.iterrows():
            measure = words("beside it: {measure}", measure=words.measure(part["measure"], True))
            rows.append(["", measure, *verdicts.values(part), ""])
    sides = [words("before"), words("after")]
    if not contrast.expect:
        sides = [contrast.against, contrast.of]
    names = [words("aspect"), words("measure"), *sides, words("difference"), words("verdict")]
    return plain_table(names, rows)
