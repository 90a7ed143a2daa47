"""Reading YAML that people write: values that YAML 1.1 reads otherwise than they look are refused.

PyYAML reads YAML 1.1, where ``010`` is eight and ``1:30`` ninety. Files from elsewhere are also
bounded: in bytes, and in what their aliases unfold to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchbench.core.errors import UserError

Loc = tuple[str | int, ...]
"""The place of a value in a file: keys, and numbers in lists."""

MOST_BYTES = 2**20
"""The largest YAML file that is read."""

MOST_VALUES = 50_000
"""The most values that a file may hold, aliases written out."""

_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}
_NUMBER_TAGS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_OCTAL = re.compile(r"[-+]?0[0-7_]+")


def read_yaml(path: Path, hint: str = "check the path") -> tuple[Any, dict[Loc, int]]:
    """A YAML file's value, and the line of every place in it.

    Raises :class:`UserError` with the file, the line and the cure; ``hint`` is the cure where the
    file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            read = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); {hint}") from None
    if len(read) > MOST_BYTES:
        raise UserError(f"{path}: is larger than 1 MB; is it a YAML file?")
    try:
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: is not UTF-8 text; if it is a YAML file, save it as UTF-8"
        ) from None
    return parse_yaml(text, str(path))


_CURES = {
    "'\\t' that cannot start": "put spaces in the tab's place",
    "mapping values are not allowed": "a space belongs behind each colon, also in the line before",
    "another document": "a file holds one suite; take out what follows '---'",
}
"""What to do about the parser's commonest complaints, by words of theirs."""


def parse_yaml(text: str, name: str, numbered: bool = True) -> tuple[Any, dict[Loc, int]]:
    """The value of a YAML text, and the line of every place in it.

    ``name`` begins the errors, with the line behind it where they are ``numbered``.
    """
    walk = _Walk(name, numbered)
    try:
        lines = dict(walk.places(yaml.compose(text, Loader=yaml.SafeLoader), ()))
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        where = walk.place(error.problem_mark) if error.problem_mark else name
        problem = " ".join(str(error.problem).split())
        cure = next((f"; {cure}" for words, cure in _CURES.items() if words in problem), "")
        raise UserError(f"{where}: is not valid YAML: {problem}{cure}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: is not valid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name}: a value cannot be read ({error}); quote it") from None
    except RecursionError:
        raise UserError(
            f"{name}: an alias refers to itself, or lists are nested too deeply; write it out"
        ) from None


class _Walk:
    """A way through a YAML file's nodes; refuses duplicate keys, keys that are no text, …"""

    def __init__(self, name: str, numbered: bool) -> None:
        self.name, self.numbered, self.count = name, numbered, 0

    def place(self, mark: yaml.Mark) -> str:
        """The file, and the line where it has some."""
        return f"{self.name}:{mark.line + 1}" if self.numbered else self.name

    def places(self, node: yaml.Node | None, at: Loc) -> Iterator[tuple[Loc, int]]:
        """Every key's place and line."""
        if node is None:
            return
        self.count += 1
        if self.count > MOST_VALUES:
            raise UserError(
                f"{self.name}: holds more than {MOST_VALUES:,} values, with its aliases written out"
            )
        yield at, node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                where = self.place(key.start_mark)
                if key.tag not in _KEY_TAGS:
                    raise UserError(f"{where}: a key is not plain text; quote it or take it out")
                if key.value in seen:
                    raise UserError(f"{where}: duplicate key '{key.value}'; keep one")
                seen.add(key.value)
                yield from self.places(value, (*at, key.value))
                yield (*at, key.value), key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from self.places(value, (*at, index))
        elif isinstance(node, yaml.ScalarNode) and node.tag in _NUMBER_TAGS:
            key = ".".join(map(str, at))
            _refuse_odd_number(node, f"{self.place(node.start_mark)}: {key}{': ' if key else ''}")


def _refuse_odd_number(node: yaml.ScalarNode, where: str) -> None:
    """Refuse octal and sexagesimal numbers, which hardly anyone means."""
    text = node.value
    octal = _OCTAL.fullmatch(text) and text.strip("+-0_")
    if not octal and ":" not in text:
        return
    meant = yaml.safe_load(text)
    if octal:
        plain = text.replace("_", "").replace("+", "")
        sign = "-" if plain.startswith("-") else ""
        raise UserError(
            f"{where}YAML reads {text} as {meant}, because a leading zero makes it octal; write "
            f"{sign}{plain.lstrip('-0')}, or quote it where it is text"
        )
    raise UserError(
        f"{where}YAML reads {text} as {meant:g}, because of the colon (base 60); write the number, "
        "or quote it where it is text"
    )
