"""The report's verdicts: the brief's table, contrasts, environments, power, looks."""

from __future__ import annotations

import math

import pandas as pd

from benchbench.analysis.brief import ALL, BESIDE, ROWS, Said
from benchbench.analysis.claims import ALPHA
from benchbench.analysis.curves import pair_hours
from benchbench.analysis.pairing import Study
from benchbench.analysis.secondary_measures import NOISE_LIMIT, OF_THE_PAIR, evaluation_noise
from benchbench.analysis.verdicts import row_verdict, unseen_rate
from benchbench.core.inference import ENVIRONMENTS_IN_GENERAL
from benchbench.core.text import NONE, difference, mean_and_interval, number, percent
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
from benchbench.suite.model import Contrast

Q_ROW, SCORE_ROW = 4, 6
"""Rows of the brief: the prediction of Q, and the final performance."""


def of_contrast(claims: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    """The claims' rows of one contrast.

    Without the brief's expectations, what is neither tested nor measured is not spoken of.
    """
    mine = claims[(claims["of"] == contrast.of) & (claims["against"] == contrast.against)]
    if contrast.expect or "verdict" not in mine:
        return mine
    return mine[(mine["verdict"] != "not tested") | (mine["n_pairs"] > 0)]


def brief_table(claims: pd.DataFrame, words: Words) -> Table:
    """The brief's table, row for row in its order: its words first, below them what was found."""
    over = claims[claims["env"] == ALL]
    rows = []
    for aspect in ROWS:
        parts = over[over["row"] == aspect.row]
        if parts.empty and aspect in BESIDE:
            continue
        measures, sides, effects = [], [], []
        for _, part in parts.iterrows():
            measures.append(marked(words.measure(part["measure"])))
            *both, effect = values(part)
            sides.append(both)
            word = verdict_span(part["verdict"], part["label"], words)
            effects.append((Span(f"{effect} · {word.text}" if len(parts) > 1 else effect),))
        for _, part in beside(over, aspect.row).iterrows():
            name = words.measure(part["measure"])
            measures.append(marked(words("beside it: {measure}", measure=name)))
            *both, effect = values(part)
            sides.append(both)
            effects.append((Span(effect),))
        claimed = words("claimed: {word}", word=words.said(aspect.impact))
        if aspect in BESIDE:
            claimed = words("no claim of the brief's")
        rows.append((
            cell([(Span(words.said(aspect.name), "strong"),), *measures]),
            cell([_said(aspect.before, words), *((Span(before),) for before, _ in sides)]),
            cell([_said(aspect.after, words), *((Span(after),) for _, after in sides)]),
            cell([(Span(claimed, "em"),), *effects, verdict_line(*row_verdict(parts), words)]),
        ))  # fmt: skip
    names = ("aspect", "before", "after", "impact")
    label = words("The brief's table, measured")
    return Table(label, header(names, words), tuple(rows), fixed=True)


def contrast_table(claims: pd.DataFrame, contrast: Contrast, words: Words) -> Table:
    """A contrast without expectations: what each measure is on both sides, and the verdict."""
    over = claims[(claims["env"] == ALL) & (claims["row"] > 1)]
    rows = []
    for _, part in over.iterrows():
        against, of, effect = values(part)
        rows.append((
            cell(words.measure(part["measure"])), cell(against, part["against_mean"]),
            cell(of, part["of_mean"]), cell(effect, part["difference"]),
            cell(verdict_line(part["verdict"], part["label"], words)),
        ))  # fmt: skip
    names = (words("measure"), contrast.against, contrast.of, contrast.name, words("verdict"))
    return Table(contrast.name, names, tuple(rows))


def beside(claims: pd.DataFrame, row: int) -> pd.DataFrame:
    """What is always shown with a row: the score with the error of Q.

    The value of a policy that does nothing is easy to predict.
    """
    return claims[claims["row"] == SCORE_ROW] if row == Q_ROW else claims[:0]


def verdict_span(word: str, label: str, words: Words) -> Span:
    """A verdict with its label, in the report's language."""
    tail = words(" ({label})", label=words.note(label)) if label else ""
    return Span(words(word) + tail, "verdict", _kind(word, label))


def verdict_line(word: str, label: str, words: Words) -> Line:
    """The same with the label behind the verdict, for tables."""
    tail = words(" ({label})", label=words.note(label)) if label else ""
    return (Span(words(word), "verdict", _kind(word, label)), Span(tail))


def _kind(word: str, label: str) -> str:
    """The verdict's word; of what is shown, but not as claimed, another."""
    return "shown against" if word == "shown, size open" and "against" in label else word


def matrix(claims: pd.DataFrame, words: Words) -> list[Block]:
    """Each environment's own verdicts, measures down and environments across; do they differ?"""
    alone = claims[(claims["env"] != ALL) & (claims["row"] > 1)]
    if alone.empty:
        return []
    envs = list(dict.fromkeys(alone["env"]))
    over = claims[claims["env"] == ALL].set_index("claim")
    differ = over["p_f"].notna().any()  # conditions share their seeds: another test asks that
    rows = []
    for claim in dict.fromkeys(alone["claim"]):
        mine = alone[alone["claim"] == claim].set_index("env")
        cells = [cell(words.measure(mine["measure"].iloc[0]))]
        for env in envs:
            part = mine.loc[env]
            word = verdict_line(part["verdict"], part["label"], words)
            cells.append(cell([(Span(values(part)[2]),), word]))
        if differ:
            f, p = over.loc[claim, ["f", "p_f"]]
            known = math.isfinite(p)
            cells.append(cell(f"F {number(f)}, p {number(p)}" if known else NONE, p))
        rows.append(tuple(cells))
    said = words(
        "One family over {n} claims × environments: each environment is judged by itself, at "
        "{level}, so that all hold together at 95 %.",
        n=len(alone[alone["verdict"] != "not tested"]), level=percent(alone["level"].max(), 2),
    )  # fmt: skip
    names = (words("measure"), *envs)
    if differ:
        test = words("Whether the environments differ is Welch's F test of each measure, "
                     "unadjusted.")  # fmt: skip
        said = words("{first} {second}", first=said, second=test)
        names = (*names, words("do they differ?"))
    return [Paragraph(marked(said)), Table(words("Verdicts by environment"), names, tuple(rows))]


def how_to_read(
    claims: pd.DataFrame, contrast: Contrast, words: Words, planned: bool = False
) -> list[Block]:
    """What the intervals and verdicts mean; each part's delta, p and method; the notes.

    ``planned`` says that the looks were.
    """
    tested = claims[(claims["row"] > 1) & (claims["env"] == ALL)]
    rows = tuple(
        (cell(words.measure(part["measure"])),
         cell(words(part["claimed"]) if part["claimed"] else NONE),
         cell(_delta(part, words)), count(part["n_pairs"]), cell(words(part["interval"] or NONE)),
         num(part["p"]), num(part["p_holm"]))
        for _, part in tested.iterrows()
    )  # fmt: skip
    names = ("measure", "claimed", "delta", "pairs", "interval", "p", "p (adjusted)")
    by_note: dict[str, list[str]] = {}
    over = claims[claims["env"] == ALL]
    for _, part in over[over["note"] != ""].iterrows():
        by_note.setdefault(part["note"], []).append(words.measure(part["measure"], short=True))
    notes = [
        marked(words("{measures}: {note}.", measures=words.listed(each), note=words.note(note)))
        for note, each in by_note.items()
    ]
    notes += _not_enough(tested, words)
    if tested["n_pairs"].nunique() > 1 and planned:
        fewer = words("Fewer pairs than in another row: an earlier look had decided the claim, and "
                      "it stays as that look left it.")  # fmt: skip
        notes.append(marked(fewer))
    notes += _failures(tested, words)
    notes += _in_general(tested, words)
    family = tested[tested["verdict"] != "not tested"]
    explanation = words(
        "Intervals of each variant are 95 % intervals of its own mean; those of the difference "
        "{contrast} are taken at {level}, so that all of their family hold together at 95 %. "
        "Supported, opposite, higher, lower: the interval lies beyond delta, and the adjusted "
        "sign-flip p is at most 0.05. Negligible: it lies within ± delta. Shown, size open: it "
        "excludes zero, but not delta. Deltas are fixed in the suite.",
        contrast=contrast.name,
        level=percent((family if len(family) else tested)["level"].max(), 2),
    )  # fmt: skip
    if contrast.expect:
        first = words("First lines, and those marked as claimed, are the brief's own words; the "
                      "numbers below them were measured.")  # fmt: skip
        explanation = words("{first} {second}", first=first, second=explanation)
    table = Table(words("Delta and p of each part"), header(names, words), rows)
    return [Paragraph(marked(explanation)), table, *([Bullets(tuple(notes))] if notes else [])]


def _not_enough(tested: pd.DataFrame, words: Words) -> list[Line]:
    """Why a small p alone decides nothing."""
    held = tested[(tested["verdict"] == "inconclusive") & (tested["p_holm"] <= ALPHA)]
    return [
        marked(words("{measure}: inconclusive in spite of its adjusted p of {p}, because its "
                     "interval holds zero; a verdict needs both.",
                     measure=words.measure(part["measure"], short=True), p=number(part["p_holm"])))
        for _, part in held.iterrows()
        if part["lo"] <= 0 <= part["hi"]
    ]  # fmt: skip


def _failures(tested: pd.DataFrame, words: Words) -> list[Line]:
    """How rare a failure could be that none of the pairs has shown."""
    scores = tested[(tested["claim"] == "score") & (tested["n_pairs"] > 0)]
    return [
        marked(words("A failure that no pair of {n} shows may still occur in up to {rate} of "
                     "seeds (95 %).", n=n, rate=percent(unseen_rate(int(n)))))
        for n in scores["n_pairs"]
    ]  # fmt: skip


def _in_general(tested: pd.DataFrame, words: Words) -> list[Line]:
    known = tested[tested["general_lo"].notna()]
    return [
        marked(words("{measure}, over environments in general: {interval}.",
                     measure=words.measure(part["measure"], short=True),
                     interval=difference(part["difference"], part["general_lo"],
                                         part["general_hi"], part["unit"], part["scale"])))
        for _, part in known.iterrows()
    ] or ([] if tested.empty else [
        marked(words("Nothing is said of environments in general: that takes {n} environments.",
                     n=ENVIRONMENTS_IN_GENERAL))
    ])  # fmt: skip


def environments_section(claims: pd.DataFrame, contrast: Contrast, words: Words) -> list[Block]:
    """Both sides of every measure in each environment."""
    rows = []
    for _, part in claims[(claims["env"] != ALL) & (claims["row"] > 1)].iterrows():
        against, of, effect = values(part)
        rows.append((
            cell(words.measure(part["measure"])), env_cell(part["env"], words),
            count(part["n_pairs"]), cell(against, part["against_mean"]),
            cell(of, part["of_mean"]), cell(effect, part["difference"]),
            num(part["p_holm"]),
        ))  # fmt: skip
    names = (words("measure"), words("environment"), words("pairs"), contrast.against, contrast.of,
             contrast.name, words("p (adjusted)"))  # fmt: skip
    return [Table(words("By environment"), names, tuple(rows))] if rows else []


def power_section(claims: pd.DataFrame, study: Study, words: Words) -> list[Block]:
    """What these pairs can show, and what it would take to decide each claim."""
    known = claims[claims["spread"].notna() & (claims["verdict"] != "not tested")]
    if known.empty:
        said = words("Too few pairs have finished for their spread to be known.")
        return [Paragraph(marked(said))]
    hours, one = pair_hours(study), len(study.envs) == 1
    rows = []
    for _, part in known.iterrows():
        env = study.envs[0] if one else part["env"]
        pairs = part["pairs_for_delta"]
        took = pairs * hours.get((part["of"], part["against"], env), math.nan)
        rows.append((
            cell(words.measure(part["measure"])), env_cell(env, words), count(part["n_pairs"]),
            cell(_size(part["smallest"], part, words), part["smallest"]),
            cell(_delta(part, words)), cell(f"{pairs:,.0f}" if math.isfinite(pairs) else NONE,
                                            pairs), num(took),
        ))  # fmt: skip
    said = words(
        "From the spread of this suite's own pairs: the smallest effect that they show with 80 % "
        "power at the level of their family (–: too few pairs for any), the pairs of one "
        "environment that an effect of delta takes, and the hours that those would take at what "
        "these cells took, one after another. A family of fewer claims, named in the suite "
        "beforehand, takes fewer."
    )
    names = ("measure", "environment", "pairs", "smallest effect shown", "delta",
             "pairs for delta", "hours")  # fmt: skip
    table = Table(words("What would decide it"), header(names, words), tuple(rows))
    return [Paragraph(marked(said)), table, *_evaluation_noise(claims, study, words)]


def _evaluation_noise(claims: pd.DataFrame, study: Study, words: Words) -> list[Block]:
    """What part of the score's spread more evaluation episodes would take away."""
    lines = []
    for pairing in study.pairings:
        c = pairing.contrast
        if not ((claims["of"] == c.of) & (claims["against"] == c.against)).any():
            continue
        for _, row in evaluation_noise(study, pairing).iterrows():
            lines.append(marked(words(
                "Of the variance of the final score's differences on {env}, {share} is evaluation "
                "noise, at {n} fresh episodes a cell; it is meant to stay under {limit} "
                "(`evaluate.final_episodes`).",
                env=f"`{row['env']}`", share=percent(row["share"]), n=row["episodes"],
                limit=percent(NOISE_LIMIT),
            )))  # fmt: skip
    return [Bullets(tuple(lines))] if lines else []


def looks_section(looks: pd.DataFrame, words: Words) -> list[Block]:
    """Every look that was made."""
    if looks.empty:
        return []
    rows = tuple(
        (count(row["seeds"]), cell(percent(row["level"], 3)), count(row["decided"]),
         count(row["open"]))
        for _, row in looks.iterrows()
    )  # fmt: skip
    said = words(
        "Seeds are added until the claims are decided or the plan is used up. The looks and what "
        "error each may spend were fixed in the suite; intervals hold at all looks together, and a "
        "claim that a look has decided stays as that look left it."
    )
    names = header(("seeds", "level of an interval", "decided", "open"), words)
    return [Paragraph(marked(said)), Table(words("Looks"), names, rows)]


def values(part: pd.Series) -> list[str]:
    """Against, of and their difference, as text."""
    unit = part["unit"]
    sides = [
        mean_and_interval(part[f"{s}_mean"], part[f"{s}_lo"], part[f"{s}_hi"], unit)
        for s in ("against", "of")
    ]
    if part["scale"] == OF_THE_PAIR:
        return [*sides, mean_and_interval(part["difference"], part["lo"], part["hi"], unit)]
    return [*sides, difference(part["difference"], part["lo"], part["hi"], unit, part["scale"])]


def _said(words_of_it: Said, words: Words) -> Line:
    return (Span(words.said(words_of_it), "em"),)


def _delta(part: pd.Series, words: Words) -> str:
    return _size(part["delta"], part, words)


def _size(value: float, part: pd.Series, words: Words) -> str:
    """An effect's size: of an error the ratio that it falls to."""
    if not math.isfinite(value):
        return NONE
    if part["scale"] == "ln ratio":
        return difference(-value, math.nan, math.nan, "", "ln ratio")
    return f"{number(value, part['unit'])} {words(part['unit'])}"


def header(names: tuple[str, ...], words: Words) -> tuple[str, ...]:
    """A table's head in the report's language."""
    return tuple(words(name).replace("`", "") for name in names)


def env_cell(name: str, words: Words) -> Cell:
    """An environment's name, or 'all'."""
    return cell(words("all") if name == ALL else foreign(name))


def count(value: int) -> Cell:
    """A number of things."""
    return cell(str(int(value)), float(value))


def num(value: float, unit: str = "") -> Cell:
    """A number at its unit's precision."""
    return cell(number(value, unit), value)
