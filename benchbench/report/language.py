"""The report's words in its two languages.

English is the key: ``words("{n} cells", n=3)``. Chinese comes from one table, in
``benchbench.report.chinese``; a phrase that is not in it is refused, so none stays half translated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from benchbench.analysis.brief import Said
from benchbench.report.chinese import MEASURES, NOTES, PHRASES
from benchbench.report.chinese_page import PAGE

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, ...] = ("en", "zh")
NAMES: dict[str, str] = {"en": "English", "zh": "中文"}
"""What each language calls itself."""


CHINESE = PHRASES | PAGE


class Words:
    """The words of one language."""

    def __init__(self, lang: Lang = "en") -> None:
        self.lang = lang

    def __call__(self, phrase: str, **values: object) -> str:
        """A phrase of the report, its ``{names}`` filled in.

        Raises ``KeyError`` where the language lacks the phrase.
        """
        return (phrase if self.lang == "en" else CHINESE[phrase]).format(**values)

    def measure(self, name: str, short: bool = False) -> str:
        """A measure's name as the frames have it; ``short`` is the part before the first comma."""
        if self.lang == "en":
            return name.partition(",")[0] if short else name
        return MEASURES[name].partition("，")[0] if short else MEASURES[name]

    def note(self, text: str) -> str:
        """A note or label of the frames: phrases that were filled in, with '; ' between them."""
        if self.lang == "en" or not text:
            return text
        return "；".join(self._filled(part) for part in text.split("; "))

    def said(self, words: Said) -> str:
        """The brief's word, in the report's language."""
        return words.en if self.lang == "en" else words.zh

    def listed(self, items: Sequence[str]) -> str:
        """'a', 'a and b', 'a, b and c'."""
        last = {"en": " and ", "zh": "和"}[self.lang]
        comma = {"en": ", ", "zh": "、"}[self.lang]
        text = last.join([comma.join(items[:-1]), items[-1]] if len(items) > 1 else items)
        return text if self.lang == "en" else re.sub(r"(?<=[!-~²])和|和(?=[!-~])", " 和 ", text)

    def clauses(self, items: Sequence[str]) -> str:
        """The same for clauses, between which Chinese has commas."""
        return self.listed(items) if self.lang == "en" else "，".join(items)

    def _filled(self, text: str) -> str:
        for measure, chinese in MEASURES.items():
            if text == measure.partition(",")[0]:
                return chinese.partition("，")[0]
        for phrase, chinese in NOTES.items():
            if match := re.fullmatch(_pattern(phrase), text):
                values = match.groupdict()
                known = {k: self._filled(v) if k in _NAMES else v for k, v in values.items()}
                return chinese.format(**known)
        raise KeyError(text)


_NAMES = ("measure", "needs")
_COUNTS = ("n", "all", "done", "planned")


def _pattern(phrase: str) -> str:
    """What a note looks like whose ``{names}`` are filled in, so that no other is taken for it."""

    def filled(name: re.Match[str]) -> str:
        return f"(?P<{name[1]}>{'[0-9]+' if name[1] in _COUNTS else '.+?'})"

    return re.sub(r"\\{(\w+)\\}", filled, re.escape(phrase))
