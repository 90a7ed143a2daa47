"""Reading a suite file: each mistake is one sentence with the file, line, key and cure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest
from benchbench.suite.model import Suite
from benchbench.suite.shipped import find_suite


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite: ``path`` is its file, or the name of one that benchbench ships.

    ``overrides`` are ``key=value`` strings such as ``train.updates=500`` or
    ``envs.0.pixels.size=48``; the value is read as YAML and the result is checked as a whole.

    Raises :class:`UserError` naming the file, the line where there is one, the key and the cure.
    """
    path = find_suite(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check the path, or name a suite that "
            "'benchbench suites' lists"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; is it a suite file?") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(root, path))
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{where}: is not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {str(error).splitlines()[0]}") from None
    except ValueError as error:
        raise UserError(f"{path}: a value cannot be read ({error}); quote it") from None
    except RecursionError:
        raise UserError(f"{path}: an alias refers to itself; write it out") from None
    if not isinstance(raw, dict):
        raise UserError(
            f"{path}: is empty or not a mapping; 'benchbench suites copy quickstart' writes a "
            "suite to edit"
        )
    for override in overrides:
        _apply_override(raw, override)
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(path, error, raw, lines, overrides)) from None


def suite_schema() -> str:
    """The JSON schema of suite files, for editors."""
    return json.dumps(Suite.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


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


def _lines(
    node: yaml.Node | None, path: Path, at: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Every key's place and line; a key that is no text or a duplicate is refused."""
    if node is None:
        return
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag not in _KEY_TAGS:
                raise UserError(f"{path}:{line}: a key is not plain text; quote it or take it out")
            if key.value in seen:
                raise UserError(f"{path}:{line}: duplicate key '{key.value}'; keep one")
            seen.add(key.value)
            yield from _lines(value, path, (*at, key.value))
            yield (*at, key.value), line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, path, (*at, index))


_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


def _explain(
    path: Path,
    error: ValidationError,
    raw: dict[str, Any],
    lines: dict[tuple[str | int, ...], int],
    overrides: Sequence[str],
) -> str:
    """One sentence for the most telling error: file, line, key, what is wrong, what to do."""
    first = min(error.errors(), key=_rank)
    kind, loc = first["type"], _in_file(first["loc"], raw)
    message = first["msg"].removeprefix("Value error, ")
    if kind == "missing":
        loc = (*loc, first["loc"][-1])
    if kind == "value_error":  # of a whole mapping; it names the key that is wrong in front
        named, colon, rest = message.partition(": ")
        parts = [int(part) if part.isdecimal() else part for part in named.split(".")]
        inner = _in_file((*first["loc"], *parts), raw)
        if colon and len(inner) == len(loc) + named.count(".") + 1:
            loc, message = inner, rest
    known = next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in lines), ())
    line = f":{lines[known]}" if known else ""
    key = ".".join(str(p) for p in loc) + ": " if loc else ""
    message = message[0].lower() + message[1:]
    if kind == "extra_forbidden":
        message = f"is not a key here{suggest(str(loc[-1]), _keys_beside(first['loc']))}"
    elif kind == "missing":
        message = "is missing; add it"
    elif kind == "union_tag_invalid":
        wrong, choices = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "")
        message = f"'{wrong}' is not a source{suggest(wrong, choices.split(', '))}"
    elif kind == "model_type":
        message = f"should hold keys and values, not {first['input']!r}"
    elif kind == "too_short":
        message = "is empty; give at least one"
    elif kind == "tuple_type":
        message = f"should be a list, not {first['input']!r}"
    elif kind != "value_error":
        message = f"{message}, not {first['input']!r}"
    source = f"{path}{line}" + (f" with --set {' --set '.join(overrides)}" if overrides else "")
    return f"{source}: {key}{message}"


def _rank(error: Any) -> tuple[bool, bool, int]:
    """Telling errors first: not what a union's other members say, a misspelt key, the deepest."""
    no_plan = error["type"] == "model_type" and "SeedPlan" in str(error["loc"][-1])
    noise = error["type"] in _NOISE or no_plan
    return noise, error["type"] != "extra_forbidden", -len(error["loc"])


_NOISE = {"string_type", "tuple_type", "int_type", "too_short"}


def _in_file(loc: Sequence[str | int], raw: Any) -> tuple[str | int, ...]:
    """An error's place without the names of unions' members, which the file does not have."""
    found: list[str | int] = []
    for part in loc:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            continue
        found.append(part)
    return tuple(found)


def _keys_beside(loc: Sequence[str | int]) -> list[str]:
    """The keys that would have been right where ``loc``'s last part stands.

    ``loc`` is pydantic's: where a union has tags, the tag stands behind the key.
    """
    models: list[type[BaseModel]] = [Suite]
    for part in loc[:-1]:
        tagged = [m for m in models if _tag(m) == part]
        if isinstance(part, int) or tagged:
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
