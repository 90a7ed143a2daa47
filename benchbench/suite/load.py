"""Reading a suite file: each mistake is a line with the file, line, key and cure."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest
from benchbench.suite.file import BASE_SCHEMA, Loc, SuiteFile, read_with_base
from benchbench.suite.model import Suite


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
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = yaml.safe_load(text)
        else:
            node[last] = yaml.safe_load(text)
    except (ValueError, IndexError, AttributeError, TypeError):
        raise UserError(
            f"--set {override}: the suite has no place '{key}'; lists take a number, "
            "as in envs.0.pixels.size=48"
        ) from None
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML") from None


def _explain(
    file: SuiteFile, error: ValidationError, raw: dict[str, Any], overrides: Sequence[str]
) -> str:
    """Every mistake on a line of its own, in the file's order: file, line, key, what to do."""
    override = f" with --set {' --set '.join(overrides)}" if overrides else ""
    found = []
    for loc, message in _mistakes(error, raw):
        path, number = file.place(loc)
        key = ".".join(str(part) for part in loc) + ": " if loc else ""
        place = f"{path}:{number}" if number else str(path)
        found.append(((path != file.path, number), f"{place}{override}: {key}{message}"))
    return "\n".join(text for _, text in sorted(found, key=lambda one: one[0]))


def _mistakes(error: ValidationError, raw: dict[str, Any]) -> list[tuple[Loc, str]]:
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


def _message(error: Any, raw: dict[str, Any]) -> tuple[Loc, str]:
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
    elif kind == "model_type":
        message = f"should hold keys and values, not {error['input']!r}"
    elif kind == "too_short":
        message = "is empty; give at least one"
    elif kind == "tuple_type":
        message = f"should be a list, not {error['input']!r}"
    elif kind != "value_error":
        message = f"{message}, not {error['input']!r}"
    return loc, message


def _rank(error: Any) -> tuple[bool, bool, int]:
    """Telling errors first: not what a union's other members say, a misspelt key, the deepest."""
    no_plan = error["type"] == "model_type" and "SeedPlan" in str(error["loc"][-1])
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
