"""The suites that benchbench ships: found by name, from a wheel and from a checkout alike."""

from __future__ import annotations

from pathlib import Path

import yaml

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest

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
