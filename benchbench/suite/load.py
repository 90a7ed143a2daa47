"""Reading a suite file: each mistake is a line with the file, line, key and cure."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from benchbench.core.errors import UserError
from benchbench.core.settings import LARGEST, PATTERNS, SMALL_NAME, suggest
from benchbench.core.yaml_text import Loc, parse_yaml
from benchbench.suite.file import BASE_SCHEMA, SuiteFile, read_with_base
from benchbench.suite.model import Suite

SHOWN = 10
"""The most mistakes of a suite that are told at once."""


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite: ``path`` is its file, or the name of one that benchbench ships.

    ``overrides`` are ``key=value`` strings such as ``train.updates=500`` or
    ``envs.0.pixels.size=48``; the value is read as YAML and the result is checked as a whole.

    Raises :class:`UserError` with a line for each mistake: the file, its line where there is one,
    the key and the cure.
    """
    file, raw = _merged(path, overrides)
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(file, error, raw, overrides)) from None


def merged_text(path: Path, overrides: Sequence[str] = ()) -> str:
    """A suite's file as YAML, with its base and the overrides in it.

    Raises :class:`UserError` as :func:`load_suite` does.
    """
    load_suite(path, overrides)
    _, raw = _merged(path, overrides)
    return str(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100))


def _merged(path: Path, overrides: Sequence[str]) -> tuple[SuiteFile, dict[str, Any]]:
    """A suite's file, and what it holds once its base and the overrides are in it."""
    file = read_with_base(path)
    raw = copy.deepcopy(file.raw)
    for override in overrides:
        _apply_override(raw, override)
    return file, raw


def stored_suite(stored: object, path: Path) -> Suite:
    """A suite that benchbench has written into a results file.

    Raises :class:`UserError` where it makes no sense to this version: a newer one wrote it.
    """
    try:
        return Suite.model_validate(stored)
    except ValidationError as error:
        loc, message = _mistakes(error, stored)[0]
        raise UserError(
            f"{path}: was written by another version of benchbench, and this one cannot read it "
            f"({'.'.join(map(str, loc))}: {message.split(';')[0]}); update benchbench, or run the "
            "suite again with this version into another --results folder"
        ) from None


def first_mistake(error: ValidationError, raw: object) -> str:
    """'key: what is wrong and what to do', of a suite that no file holds."""
    loc, message = _mistakes(error, raw)[0]
    return f"{'.'.join(map(str, loc))}: {message}"


def suite_schema() -> str:
    """The JSON schema of suite files, for editors."""
    schema = Suite.model_json_schema()
    schema["properties"] = {"base": BASE_SCHEMA} | schema["properties"]
    schema["required"] = ["name"]  # a base may have the others
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *parents, last = key.split(".")
    if not equals or not all((*parents, last)):
        raise UserError(f"--set {override}: write it as key=value, such as train.updates=500")
    if key == "base":
        raise UserError(f"--set {override}: a base is read before any --set; name it in a file")
    value, _ = parse_yaml(text, f"--set {override}", numbered=False)
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, AttributeError, TypeError):
        raise UserError(
            f"--set {override}: the suite has no place '{key}'; lists take a number, "
            "as in envs.0.pixels.size=48"
        ) from None


def _explain(
    file: SuiteFile, error: ValidationError, raw: dict[str, Any], overrides: Sequence[str]
) -> str:
    """Every mistake on a line of its own, in the file's order: file, line, key, what to do."""
    override = "".join(f" with --set {_shortened(each)}" for each in overrides)
    found = []
    for loc, message in _mistakes(error, raw):
        path, number = file.place(loc)
        key = ".".join(str(part) for part in loc) + ": " if loc else ""
        place = f"{path}:{number}" if number else str(path)
        found.append(((path != file.path, number), f"{place}{override}: {key}{message}"))
    lines = [text for _, text in sorted(found, key=lambda one: one[0])]
    more = [f"and {len(lines) - SHOWN:,} more like these"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


def _mistakes(error: ValidationError, raw: Any) -> list[tuple[Loc, str]]:
    """Each mistake's place in the file and its message.

    Pydantic lists what every member of a union says of a value. Of one place the most telling
    message is kept; a place goes where a mistake lies deeper in it, and a missing key where a
    misspelling of it is reported.
    """
    best: dict[Loc, Any] = {}
    messages: dict[Loc, str] = {}
    for one in sorted(error.errors(), key=_rank):
        loc, message = _message(one, raw)
        if loc not in best:
            best[loc], messages[loc] = one, message
    misspelt = {
        (*loc[:-1], name)
        for loc, message in messages.items()
        if best[loc]["type"] == "extra_forbidden"
        for name in _SUGGESTED.findall(message)
    }
    return [
        (loc, message)
        for loc, message in messages.items()
        if not any(other[: len(loc)] == loc and len(other) > len(loc) for other in best)
        and not (best[loc]["type"] == "missing" and loc in misspelt)
    ]


def _message(error: Any, raw: Any) -> tuple[Loc, str]:
    """Where one of pydantic's errors lies in the file, and what is wrong and what to do."""
    kind, loc = error["type"], _in_file(error["loc"], raw)
    message = error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        loc = (*loc, error["loc"][-1])
    if kind == "value_error":  # of a whole mapping; it names the key that is wrong in front
        named, colon, rest = message.partition(": ")
        parts = [int(part) if part.isdecimal() else part for part in named.split(".")]
        inner = _in_file((*error["loc"], *parts), raw)
        if colon and ".".join(str(part) for part in inner[len(loc) :]) == named:
            loc, message = inner, rest
    message = message[0].lower() + message[1:]
    if kind == "extra_forbidden":
        message = f"is not a key here{suggest(str(error['loc'][-1]), _keys_beside(error['loc']))}"
    elif kind == "missing":
        message = "is missing; add it"
    elif kind == "union_tag_invalid":
        wrong, choices = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "")
        message = f"'{wrong}' is not a source{suggest(wrong, choices.split(', '))}"
    elif kind in ("model_type", "dict_type"):
        cure = _cure(error) or f"; its keys are {', '.join(_keys_beside((*error['loc'], '')))}"
        message = f"should hold keys and values, not {_shown(error['input'])}{cure}"
    elif kind == "too_short":
        message = "is empty; give at least one"
    elif kind == "tuple_type":
        message = f"should be a list, not {_shown(error['input'])}{_cure(error)}"
    elif kind == "less_than_equal" and error["ctx"]["le"] == LARGEST:
        message = (
            f"{_shown(error['input'])} does not fit into 64 bits; write a smaller one, such as "
            f"{int(error['input']) % 2**31}"
        )
    elif kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in PATTERNS:
        message = f"should be {PATTERNS[error['ctx']['pattern']]}, not {_shown(error['input'])}"
        message += _cure(error)
    elif kind != "value_error":
        message = f"{message}, not {_shown(error['input'])}{_cure(error)}"
    return loc, message


def _shown(value: object) -> str:
    return _shortened(repr(value))


def _shown_in_yaml(value: object) -> str:
    return _shortened(yaml.safe_dump(value, default_flow_style=True, width=1000).strip())


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _cure(error: Any) -> str:
    """How to write what was meant, for the end of a message; empty where that is not clear."""
    kind, value = error["type"], error["input"]
    if kind == "string_pattern_mismatch":
        letters = unicodedata.normalize("NFKD", value.strip()).encode("ascii", "ignore").decode()
        plain = "-".join(re.findall(r"[A-Za-z0-9_.]+", letters))
        if error["ctx"]["pattern"] == SMALL_NAME:
            plain = re.sub(r"[_.]", "-", plain.lower())
        return f"; write {plain.lstrip('-_.')}" if plain.lstrip("-_.") else ""
    if value is None and kind != "string_type":
        return ": it is empty, or YAML's null; write a value, or take the key out"
    if kind in ("string_type", "model_type") and not isinstance(value, (str, dict, list)):
        if isinstance(value, bool):
            words = "yes, on and true" if value else "no, off and false"
            return f": YAML reads {words} as {str(value).lower()}; put it in quotes if it is text"
        if value is None:
            return ": it is empty, or YAML's null; write it, in quotes if it is text"
        what = "a date" if isinstance(value, date) else "a number"
        return f": YAML reads it as {what}; put it in quotes if it is text"
    if kind == "tuple_type" and isinstance(value, (str, int, float)):
        return f"; write [{value}]"
    if kind == "tuple_type" and isinstance(value, dict):
        empty = all(one is None for one in value.values())
        return f"; write {_shown_in_yaml(list(value) if empty else [value])}"
    if kind == "string_type" and isinstance(value, list) and len(value) == 1:
        return f"; write {_shortened(str(value[0]))}"
    if kind == "bool_type":
        meant = {"true": "true", "yes": "true", "on": "true", "1": "true", "false": "false",
                 "no": "false", "off": "false", "0": "false"}.get(str(value).lower())  # fmt: skip
        return f"; write {meant}, without quotes" if meant else "; write true or false"
    if kind.startswith(("int_", "float_")):
        if isinstance(value, (list, tuple)) and value and all(one == value[0] for one in value):
            value = value[0]
            return f"; write {value}" if isinstance(value, (int, float)) else ""
        whole = kind.startswith("int_")
        meant = _number_meant(value, whole=whole) if isinstance(value, (str, float)) else ""
        return (
            meant or f"; write a{' whole' if whole else ''} number, such as {5 if whole else 0.5}"
        )
    return ""


def _number_meant(value: str | float, *, whole: bool) -> str:
    """'; write 1000' for '1e3', '1k', 1000.0, '1,000' and '1000' in quotes; else nothing."""
    text = str(value).strip()
    if square := re.fullmatch(r"(\d+) ?[x×] ?\1", text):
        text = square[1]
    if scaled := re.fullmatch(r"([-+]?\d+(?:\.\d+)?) ?([kKmM%])", text):
        power = {"k": 3, "m": 6, "%": -2}[scaled[2].lower()]
        exact = Decimal(scaled[1]).scaleb(power)
        text = str(int(exact)) if exact == int(exact) else f"{exact.normalize():f}"
    if re.fullmatch(r"[-+]?\d{1,3}([, _']\d{3})+", text):
        text = re.sub(r"[, _']", "", text)
    elif not whole:
        text = text.replace(",", ".")
    try:
        number = float(text)
    except ValueError:
        return ""
    if not math.isfinite(number) or (whole and number != int(number)):
        return ""
    meant = str(int(number)) if whole and abs(number) < 2**53 else text
    quoted = ", without quotes" if isinstance(value, str) and meant == text == value else ""
    return f"; write {meant}{quoted}"


def _rank(error: Any) -> tuple[bool, bool, int]:
    """Telling errors first: not what a union's other members say, a misspelt key, the deepest."""
    no_plan = error["type"] == "model_type" and "SeedPlan" in str(error["loc"][-1:])
    noise = error["type"] in _NOISE or no_plan
    return noise, error["type"] != "extra_forbidden", -len(error["loc"])


_SUGGESTED = re.compile(r"did you mean '([^']+)'")

_NOISE = {"string_type", "tuple_type", "int_type", "too_short"}


def _in_file(loc: Sequence[str | int], raw: Any) -> Loc:
    """An error's place in the file: without the names of unions' members, with dotted keys."""
    found: list[str | int] = []
    start = 0
    while start < len(loc):
        for end in range(len(loc), start, -1):
            part = loc[start] if end == start + 1 else ".".join(map(str, loc[start:end]))
            try:
                raw = raw[part]
            except (KeyError, IndexError, TypeError):
                continue
            found.append(part)
            start = end - 1
            break
        else:  # a mistake in the first part of a dotted key
            dotted = [key for key in raw if str(key).startswith(f"{loc[start]}.")] if isinstance(
                raw, dict) else []  # fmt: skip
            if dotted:
                return (*found, dotted[0])
        start += 1
    return tuple(found)


def _keys_beside(loc: Sequence[str | int]) -> list[str]:
    """The keys that would have been right where ``loc``'s last part stands.

    ``loc`` is pydantic's: where a union has tags, the tag stands behind the key.
    """
    if len(loc) == 1:
        return ["base", *Suite.model_fields]
    models: list[type[BaseModel]] = [Suite]
    for before, part in itertools.pairwise((None, *loc[:-1])):
        tagged = [m for m in models if _tag(m) == part]
        if isinstance(part, int) or tagged or before == "conditions":  # whose keys are names
            models = tagged or models
            continue
        fields = models[0].model_fields
        found = list(_models_in(fields[part].annotation)) if part in fields else []
        if not found:
            break
        models = found
    return list(models[0].model_fields)


def _tag(model: type[BaseModel]) -> object:
    field = model.model_fields.get("source")
    return None if field is None else field.default


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
