"""A suite's file: found by path or shipped name, its YAML, every key's line, and its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest
from benchbench.core.yaml_text import Loc, read_yaml

SCHEMA = "suite.schema.json"
"""The schema file that the suites' first line names, beside them."""

_DEFAULT = "quickstart"


def shipped_folder() -> Path:
    """The folder of the shipped suites: in the installed package, else the checkout's ``suites``.

    Raises :class:`UserError` where there is neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "shipped_suites", package.parent / "suites"):
        if (folder / f"{_DEFAULT}.yaml").is_file():
            return folder
    raise UserError(
        f"{package}: has no suites beside it; install benchbench again, or give a suite's path"
    )


def shipped_suites() -> dict[str, Path]:
    """The shipped suites' files by name, the quickstart first."""
    files = sorted(shipped_folder().glob("*.yaml"), key=lambda p: (p.stem != _DEFAULT, p.stem))
    return {path.stem: path for path in files}


def describe(path: Path) -> str:
    """The description of a shipped suite, in a line."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return " ".join(str(raw.get("description", "")).split())


def find_suite(named: Path) -> Path:
    """The file of a suite that is named by a path or by a shipped suite's name.

    A file of that path comes first. Raises :class:`UserError` where a plain name is neither.
    """
    if named.is_file() or len(named.parts) != 1 or named.suffix in (".yaml", ".yml"):
        return named
    shipped = shipped_suites()
    if named.name not in shipped:
        raise UserError(
            f"{named}: is neither a file nor a suite that benchbench ships"
            f"{suggest(named.name, shipped)}; 'benchbench suites' lists them"
        )
    return shipped[named.name]


def is_suite(target: str) -> bool:
    """Whether a word on the command line names a suite: a YAML file's path or a shipped name."""
    return Path(target).suffix in (".yaml", ".yml") or target in shipped_suites()


BASE_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "description": "the suite that this one builds on: the name of one that benchbench ships, or a "
    "path, from this file's folder. What this file states overrides it: mappings are merged, "
    "lists and values replaced",
}
"""For editors: the one key of a file that is no part of the suite."""


@dataclass(frozen=True)
class SuiteFile:
    """What a file holds, its base merged into it, and the file and line of every key."""

    path: Path
    raw: dict[str, Any]
    places: Mapping[Loc, tuple[Path, int]]

    def place(self, loc: Loc) -> tuple[Path, int]:
        """The file and line of a key, or of the nearest key around it; line 0 where none is."""
        known = (loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in self.places)
        return next((self.places[at] for at in known), (self.path, 0))


def read_with_base(path: Path, above: tuple[Path, ...] = ()) -> SuiteFile:
    """A suite's file, found by path or shipped name, merged into its base and that one's base.

    ``above`` are the files that build on it. Raises :class:`UserError` where one cannot be read or
    builds on itself.
    """
    path = find_suite(path)
    mine = _read(path)
    if "base" not in mine.raw:
        return mine
    base, (_, line) = mine.raw["base"], mine.places["base",]
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}:{line}: base: should be a suite's name or path, not {base!r}")
    if "name" not in mine.raw:
        raise UserError(
            f"{path}: name: is missing; add it, as results lie under a suite's own name"
        )
    named = Path(base)
    beside = path.parent / named
    files = (*above, path)
    is_path = len(named.parts) > 1 or named.suffix in (".yaml", ".yml") or beside.is_file()
    try:
        found = beside if is_path else find_suite(named)
    except UserError as error:
        raise UserError(f"{path}:{line}: base: {error.message}") from None
    if found.resolve() in [file.resolve() for file in files]:
        chain = " builds on ".join(file.name for file in (*files, found))
        raise UserError(f"{path}:{line}: base: builds on itself ({chain}); break the circle")
    if not found.is_file():
        raise UserError(f"{path}:{line}: base: {found} is not a file; check the path")
    under = read_with_base(found, files)
    raw = {key: value for key, value in mine.raw.items() if key != "base"}
    return SuiteFile(path, *_over(under, SuiteFile(path, raw, mine.places)))


def _over(under: SuiteFile, over: SuiteFile) -> tuple[dict[str, Any], dict[Loc, tuple[Path, int]]]:
    """Settings and places of both: mappings merged, all else replaced by ``over``'s."""
    places = dict(under.places)

    def merge(low: dict[str, Any], high: dict[str, Any], at: Loc) -> dict[str, Any]:
        merged = dict(low)
        for key, value in high.items():
            here = (*at, key)
            if isinstance(value, dict) and isinstance(low.get(key), dict):
                merged[key] = merge(low[key], value, here)
                continue
            merged[key] = value
            for place in [p for p in places if p[: len(here)] == here]:
                del places[place]
        return merged

    raw = merge(under.raw, over.raw, ())
    return raw, places | dict(over.places)


def _read(path: Path) -> SuiteFile:
    raw, lines = read_yaml(path, "check the path, or name a suite that 'benchbench suites' lists")
    if not isinstance(raw, dict):
        raise UserError(
            f"{path}: is empty or not a mapping; 'benchbench suites copy quickstart' writes a "
            "suite to edit"
        )
    return SuiteFile(path, raw, {at: (path, line) for at, line in lines.items()})
