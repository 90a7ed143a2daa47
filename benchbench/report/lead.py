"""The report's lead: the question, the answer, what it rests on, and what would decide the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchbench.analysis.brief import AFTER, ALL, ASPECTS, BEFORE, BESIDE, ROWS, Aspect
from benchbench.analysis.verdicts import ORDER, overview, row_verdict, still_open
from benchbench.core.text import NONE, number
from benchbench.report.document import (
    Block,
    Bullets,
    Forest,
    ForestLine,
    Paragraph,
    Picture,
    marked,
    named,
)
from benchbench.report.language import Words
from benchbench.report.overview_figure import APART, TICKS, place
from benchbench.report.verdict_sections import values, verdict_line, verdict_span
from benchbench.suite.model import Contrast


def question(contrast: Contrast, words: Words, other_code: bool = False) -> str:
    """What the contrast asks, for those who see the project for the first time.

    Of ``other_code`` scores alone are known.
    """
    if other_code:
        return words(
            "Does `{of}` score otherwise than `{against}`?",
            of=contrast.of, against=contrast.against,
        )  # fmt: skip
    if contrast.expect and (contrast.of, contrast.against) == (AFTER, BEFORE):
        return words(
            "Which loss should train the image encoder that the networks of an offline RL agent "
            "share: the critic's, as in `after`, or the action VAE's, as in `before`, where the "
            "critic's gradient is wiped before it is used?"
        )
    return words(
        "What changes where the image encoder of an offline RL agent is trained as in `{of}` "
        "rather than as in `{against}`?",
        of=contrast.of, against=contrast.against,
    )  # fmt: skip


def answer(claims: pd.DataFrame, contrast: Contrast, words: Words) -> str:
    """How a contrast's claims came out over all environments, in a sentence."""
    over = claims[claims["env"] == ALL]
    several = sorted(set(claims["env"]) - {ALL})
    n = len(several)
    aspects = ASPECTS if contrast.expect else ROWS
    filled = {"of": contrast.of, "against": contrast.against, "n": n,
              "counts": words.clauses(_counted(over, words, aspects))}  # fmt: skip
    if not contrast.expect:
        aspects_of = over["row"].nunique()
        one, many = (
            "`{of}` against `{against}` in one aspect: {counts}.",
            "`{of}` against `{against}` in {aspects} aspects: {counts}.",
        )
        return words(one if aspects_of == 1 else many, aspects=aspects_of, **filled)
    if _one_under_conditions(several):
        said = words(
            "Of seven claims for `{of}`, over the mean of these {n} conditions, {counts}.", **filled
        )
    elif n:
        said = words(
            "Of seven claims for `{of}`, over the mean of these {n} environments, {counts}.",
            **filled,
        )
    else:
        said = words("Of seven claims for `{of}`, {counts}.", **filled)
    if (over["row"] > len(ASPECTS)).any():
        counts = words.clauses(_counted(over, words, BESIDE))
        said = joined([said, words("Beside them, {counts}.", counts=counts)], words)
    return said


def evidence(claims: pd.DataFrame, contrast: Contrast, words: Words, weight: str) -> str:
    """What each environment alone decides, what all of it rests on, and how much that says."""
    over = claims[claims["env"] == ALL]
    several = sorted(set(claims["env"]) - {ALL})
    sentences = []
    if several:
        found = _by_environment(claims, words)
        by = "By condition" if _one_under_conditions(several) else "By environment"
        sentences.append(
            words(f"{by}, {{found}}.", found="；".join(found) if words.lang == "zh"
                  else "; ".join(found)) if found
            else words("No environment alone decides a claim.")
        )  # fmt: skip
    numbers = over.loc[over["row"] > 1, "n_pairs"]
    n = int(numbers.max()) if len(numbers) else 0
    if n == 0:
        sentences.append(
            words("There is no finished pair of `{against}` and `{of}`, so nothing is compared.",
                  against=contrast.against, of=contrast.of)
        )  # fmt: skip
        return joined(sentences, words)
    several_pairs = "{n} pairs (environment, seed)" if numbers.min() == n else (
        "up to {n} pairs (environment, seed)"
    )  # fmt: skip
    rest = words("one pair (environment, seed)") if n == 1 else words(several_pairs, n=n)
    sentences.append(words("The verdicts rest on {pairs}; {weight}.", pairs=rest, weight=weight))
    return joined(sentences, words)


def _one_under_conditions(envs: list[str]) -> bool:
    """Whether the strata are one environment under several conditions."""
    return len(envs) > 1 and all("@" in e for e in envs) and len({_id(e) for e in envs}) == 1


def _id(env: str) -> str:
    return env.rpartition("@")[0]


def joined(sentences: list[str], words: Words) -> str:
    """Sentences as a paragraph."""
    text = sentences[0]
    for sentence in sentences[1:]:
        text = words("{first} {second}", first=text, second=sentence)
    return text


def _counted(over: pd.DataFrame, words: Words, aspects: Sequence[Aspect]) -> list[str]:
    by_word: dict[str, dict[str, list[str]]] = {}
    for aspect in aspects:
        parts = over[over["row"] == aspect.row]
        if parts.empty:
            continue
        word, label = row_verdict(parts)
        name = aspect.name.zh
        if words.lang == "en":
            name = aspect.name.en.replace("Q prediction", "prediction of Q")
            name = name[0].lower() + name[1:]
        label = label if word == "shown, size open" else ""
        by_word.setdefault(word, {}).setdefault(label, []).append(name)
    one, many = "{n} is {word} ({names})", "{n} are {word} ({names})"
    found = []
    for word in reversed(ORDER):
        if word in by_word:
            n = sum(map(len, by_word[word].values()))
            found.append(words(one if n == 1 else many, n=n, word=words(word),
                               names=_labelled(by_word[word], words)))  # fmt: skip
    return found


def _labelled(names: dict[str, list[str]], words: Words) -> str:
    """'a and b, both as claimed'; where the labels differ, 'a as claimed, b against the claim'."""
    groups = []
    for label, mine in names.items():
        told = words.note(label)
        if "; " in label:  # of a row's parts
            told = words.clauses([words("partly {label}", label=words.note(part))
                                  for part in label.split("; ")])  # fmt: skip
        phrase = "{names}, {label}" if len(mine) == 1 else (
            "{names}, both {label}" if len(mine) == 2 else "{names}, all {label}"
        )  # fmt: skip
        phrase = "{names} {label}" if len(names) > 1 else phrase
        listed = words.listed(mine)
        groups.append(words(phrase, names=listed, label=told) if label else listed)
    return ("，" if words.lang == "zh" else ", ").join(groups)


NAMED = 3
"""Up to so many environments of a verdict are named; more are counted."""


def _by_environment(claims: pd.DataFrame, words: Words) -> list[str]:
    """What the environments' own verdicts decide: each measure once, those alike together."""
    mine = claims[(claims["env"] != ALL) & (claims["row"] > 1)]
    envs = list(dict.fromkeys(mine["env"]))
    one = _one_under_conditions(envs)
    quiet = ("inconclusive", "not measured", "not tested")
    alike: dict[tuple[str, ...], list[str]] = {}
    for claim in dict.fromkeys(mine["claim"]):
        of_claim = mine[(mine["claim"] == claim) & ~mine["verdict"].isin(quiet)]
        where: dict[str, list[str]] = {}
        for _, part in of_claim.iterrows():
            verdict = verdict_span(part["verdict"], part["label"], words).text
            name = part["env"].rpartition("@")[2] if one else part["env"]
            where.setdefault(verdict, []).append(named(name))
        if where:
            told = tuple(_on(verdict, names, len(envs), words) for verdict, names in where.items())
            measure = words.measure(of_claim["measure"].iloc[0], short=True)
            alike.setdefault(told, []).append(measure)
    comma = "，" if words.lang == "zh" else ", "
    return [
        words("{measures}: {verdicts}", measures=words.listed(measures), verdicts=comma.join(told))
        for told, measures in alike.items()
    ]


def _on(verdict: str, names: list[str], n: int, words: Words) -> str:
    """A verdict and where it holds."""
    if len(names) == n > 1:
        return words("{verdict} on both" if n == 2 else "{verdict} on all {n}",
                     verdict=verdict, n=n)  # fmt: skip
    if len(names) > NAMED:
        return words("{verdict} on {m} of {n}", verdict=verdict, m=len(names), n=n)
    return words("{verdict} on {envs}", verdict=verdict, envs=words.listed(names))


def forest(claims: pd.DataFrame, contrast: Contrast, picture: Picture, words: Words) -> Forest:
    """The overview's picture, and its lines for the page."""
    texts = {(part["claim"], part["env"]): values(part)[2] for _, part in claims.iterrows()}
    lines, frame = [], overview(claims)
    alone = frame[(frame["env"] != ALL) & frame["effect"].notna()]
    many = frame["env"].nunique() > APART + 1
    for _, row in frame.iterrows():
        whole = row["env"] == ALL
        if many and not whole:
            continue
        dots = alone.loc[alone["claim"] == row["claim"], "effect"] if many else ()
        known = row["effect"] == row["effect"]
        bounded = known and row["lo"] == row["lo"] and row["hi"] == row["hi"]
        lines.append(ForestLine(
            words.measure(row["measure"], short=True) if whole else row["env"], whole,
            place(row["effect"]) if known else None,
            (place(row["lo"]), place(row["hi"])) if bounded else None,
            texts.get((row["claim"], row["env"]), NONE),
            verdict_line(row["verdict"], row["label"], words)[0],
            tuple(place(effect) for effect in dots),
        ))  # fmt: skip
    ticks = [*(-t for t in reversed(TICKS[::2])), 0, *TICKS[::2]]  # all would not fit on a phone
    named = tuple((place(t), f"{t:+d}δ".replace("-", "−") if t else "0") for t in ticks)
    sides = (words("← against the claim"), words("as claimed →")) if contrast.expect else None
    return Forest(picture, tuple(lines), (place(-1), place(1)), named, sides)


def open_section(claims: pd.DataFrame, words: Words) -> list[Block]:
    """What each undecided claim takes, in a line each."""
    found = still_open(claims)
    if found.empty:
        return []
    said = words(
        "At the spread seen so far, an effect of delta would be shown with 80 % power by this many "
        "pairs (seeds) in one environment:"
    )
    items = []
    for _, row in found.iterrows():
        measure = words.measure(row["measure"], short=True)
        if row["env_least"] == row["env_most"]:
            text = words("**{measure}**: {least} ({env}); {there} so far", measure=measure,
                         least=_pairs(row["least"]), env=named(row['env_least']),
                         there=row["there"])  # fmt: skip
        else:
            text = words("**{measure}**: from {least} ({env}) to {most} ({other}); {there} so "
                         "far", measure=measure, least=_pairs(row["least"]),
                         env=named(row['env_least']), most=_pairs(row["most"]),
                         other=named(row['env_most']), there=row["there"])  # fmt: skip
        items.append(marked(text))
    return [Paragraph(marked(said)), Bullets(tuple(items))]


def _pairs(value: float) -> str:
    return f"{value:,.0f}" if value < 1e9 else number(value)
