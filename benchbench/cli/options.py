"""Arguments and options that several verbs share, and how a shell completes them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from benchbench.core.errors import UserError


def _suites(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion: the suites that are shipped, and files."""
    from benchbench.suite.file import shipped_suites

    names = [*shipped_suites(), *map(str, Path().glob(f"{begun}*.yaml"))]
    return [name for name in names if name.startswith(begun)]


def _cells(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion: values of ``--only``, from the suite that the line names so far."""
    from benchbench.suite.grid import NAMED, expand
    from benchbench.suite.load import load_suite

    name, equals, _ = begun.partition("=")
    if not equals:
        return [f"{n}=" for n in NAMED if n.startswith(begun)]
    named = context.params.get("suite") or next(iter(context.args), "")
    try:
        cells = expand(load_suite(Path(str(named))))
    except (UserError, OSError):
        return []
    told = NAMED.get(name, lambda cell: ("",))
    values = dict.fromkeys(f"{name}={told(cell)[0]}" for cell in cells)
    return [value for value in values if value.startswith(begun)]


suite_argument = click.argument("suite", type=click.Path(path_type=Path), shell_complete=_suites)
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder that holds a folder for each suite's results.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override any key of the suite, such as train.updates=500 or envs.0.pixels.size=48.",
)
suite_state_argument = click.argument("suite", metavar="SUITE", shell_complete=_suites)
only_option = click.option(
    "--only",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=_cells,
    help="Run a part of the grid: env=…, condition=…, variant=… or seed=…; repeat it to name "
    "several.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, or cuda:0,2; auto takes every CUDA device, or the CPU.",
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Cells at a time in all; by default as many as CPUs.",
)
per_device_option = click.option(
    "--jobs-per-device",
    default="auto",
    show_default=True,
    metavar="N|auto",
    callback=lambda context, option, value: _count_or_auto(option.opts[0], value),
    help="Cells at a time on a device; auto fills 90 % of its free memory, "
    "by the peaks of finished cells.",
)
stack_option = click.option(
    "--stack",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train up to N cells that differ in their seeds only as one program, which fills a GPU; "
    "each is the cell that it is alone, up to rounding.",
)

eval_processes_option = click.option(
    "--eval-processes",
    default="auto",
    show_default=True,
    metavar="N|auto",
    callback=lambda context, option, value: _count_or_auto(option.opts[0], value),
    help="Processes that play a cell's episodes side by side, its own among them; auto is as many "
    "as CPUs are left to each cell. Scores do not depend on it.",
)


@dataclass(frozen=True)
class Asked:
    """The arguments that 'run' and 'plan' share: the suite, the part of its grid, where it runs."""

    suite: Path
    only: tuple[str, ...]
    overrides: tuple[str, ...]
    results: Path
    device: str
    jobs: int | None
    jobs_per_device: int | None

    def arguments(self) -> dict[str, Any]:
        """As :func:`benchbench.run` and :func:`benchbench.plan` take them."""
        return {**vars(self), "only": parse_only(self.only)}


def asks(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`Asked` to a verb, which gets one as its first argument."""

    @functools.wraps(verb)
    def called(**given: Any) -> None:
        names = [field.name for field in dataclasses.fields(Asked)]
        verb(Asked(**{name: given.pop(name) for name in names}), **given)

    for option in reversed((suite_argument, only_option, set_option, device_option, jobs_option,
                            per_device_option, results_option)):  # fmt: skip
        called = option(called)
    return called


FIGURES = (".png", ".svg", ".pdf")


def check_output(option: str, path: Path | None, endings: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises :class:`UserError` where its name ends in none of ``endings`` (of any case), its folder
    does not exist or takes no files, or a folder has its name. None is no file.
    """
    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        raise UserError(f"{option} {path}: name a file that ends in {', '.join(endings)}")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{option} {path}: {path.parent} cannot be written; name another folder")


def check_folder(option: str, path: Path | None) -> None:
    """Refuse a folder that could not be made or written, before the work that is to fill it.

    Raises :class:`UserError`. None is no folder.
    """
    if path is None:
        return
    there = next((one for one in (path, *path.parents) if one.exists()), Path())
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"{option} {path}: {there} cannot be written; name another folder")


def parse_only(only: tuple[str, ...]) -> dict[str, set[str]]:
    """What ``--only`` asks for: the wanted values by name."""
    wanted: dict[str, set[str]] = {}
    for item in only:
        name, equals, value = item.partition("=")
        if not equals or not value:
            raise UserError(f"--only {item}: write it as NAME=VALUE, such as variant=after")
        wanted.setdefault(name, set()).add(value)
    return wanted


def _count_or_auto(option: str, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) == 0:
        raise UserError(f"{option} {value}: choose auto, or a count such as 4")
    return int(value)


_PLAIN = "elif [[ $type == 'plain' ]]; then"


@add_completion_class
class Bash(BashComplete):
    """Completion in bash, which splits words at '=': values such as ``variant=after``.

    The parts are joined to one word again, and what follows the '=' is offered.
    """

    source_template = BashComplete.source_template.replace(
        _PLAIN, f"{_PLAIN}\n            [[ $value == *= ]] && compopt -o nospace;"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one at the cursor, and that one."""
        args, begun = super().get_completion_args()
        line = "\0".join([*args, begun]).replace("\0=\0", "=").replace("\0=", "=")
        *words, last = line.split("\0")
        return words, last

    def format_completion(self, item: CompletionItem) -> str:
        """What bash puts in the place of the word at the cursor."""
        return f"{item.type},{item.value.partition('=')[2] or item.value}"
