"""What all settings have in common: frozen models, their types, and how a mistake is reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"should be a number, not {str(value).lower()}")
    return value


LARGEST = 2**63 - 1
"""The largest whole number: what an int64 column holds."""

Count = Annotated[int, Strict(), Field(ge=1, le=LARGEST)]
Index = Annotated[int, Strict(), Field(ge=0, le=LARGEST)]
Width = Annotated[int, Strict(), Field(ge=1, le=8192)]
"""Of a layer: two of the widest have weights of 256 MB between them."""
# Not strict: YAML reads 1e-4, without a dot, as text.
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]


PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
SMALL_NAME = r"^[a-z0-9][a-z0-9-]*$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$"

PATTERNS = {
    PLAIN_NAME: "letters, digits, '.', '_' and '-', with a letter or digit in front",
    LABEL: "letters, digits and '_.:/-', with a letter or digit in front",
    SMALL_NAME: "small letters, digits and '-', with a letter or digit in front",
}
"""What a pattern asks for, in words."""

LONGEST_NAME = 100
"""Characters: names become names of files, of which 255 bytes are the limit."""


class Settings(BaseModel):
    """A part of a suite: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after the first results."""

    def identity(self) -> dict[str, Any]:
        """All of it as plain JSON values, for a cell's key.

        Keys that came later are left out at their defaults, so that older cells keep their keys.
        """
        values, fields = self.model_dump(mode="json"), type(self).model_fields
        return {k: v for k, v in values.items() if k not in self.LATER or v != fields[k].default}

    def overridden_by(self, other: Self | None) -> Self:
        """These settings, with the keys that ``other`` states explicitly put in their place."""
        if other is None:
            return self
        stated = {name: getattr(other, name) for name in other.model_fields_set}
        return type(self).model_validate(self.model_dump(exclude_unset=True) | stated)


def suggest(word: str, choices: Iterable[str], listed: int = 40) -> str:
    """'; did you mean x?' or '; choose one of …', for the end of an error message.

    At most ``listed`` choices are named.
    """
    names = list(choices)
    of_small = {name.lower(): name for name in names} | {name: name for name in names}
    close = difflib.get_close_matches(word, of_small, n=1) or difflib.get_close_matches(
        word.lower(), of_small, n=1
    )
    if close:
        return f"; did you mean '{of_small[close[0]]}'?"
    return f"; choose one of {', '.join(names[:listed])}{', …' if len(names) > listed else ''}"


def refuse_repeats(items: Sequence[Any], what: str) -> None:
    """Raise ``ValueError`` naming the first duplicate item."""
    for position, item in enumerate(items):
        if item in items[:position]:
            raise ValueError(f"names the {what} {item!r} twice; cells must differ")
