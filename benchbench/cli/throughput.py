"""The verb that times two versions of benchbench side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchbench.cli.comparison import (
    gate_option,
    json_option,
    markdown_option,
    refuse_two_forms,
    show,
)
from benchbench.cli.options import only_option, parse_only, set_option, suite_argument
from benchbench.core.errors import UserError


@click.command()
@suite_argument
@click.argument("old", metavar="OLD_ENV", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW_ENV", type=click.Path(path_type=Path))
@only_option
@set_option
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or one device, as in cuda:0."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=6),
    default=12,
    show_default=True,
    help="Fresh pairs of processes; more of them see smaller differences.",
)
@gate_option
@markdown_option
@json_option
def throughput(
    suite: Path,
    old: Path,
    new: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    rounds: int,
    gated: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Time updates of SUITE's agents under two versions of benchbench, turn and turn about.

    OLD_ENV and NEW_ENV are virtual environments with a version each installed, such as old/.venv
    and .venv, or their Pythons. What is slower than 0.95 of the old speed, beyond doubt, is
    measured again; slower again, it is a regression.

    Exit code with --gate: 0 pass, 1 regression, 2 cannot compare; without it 0, or 2 for a
    mistake.
    """
    from benchbench.cell.devices import choose_devices, cpu_count
    from benchbench.gate.text import version_origin
    from benchbench.perf.side_by_side import SideBySide
    from benchbench.perf.throughput import gate_throughput
    from benchbench.suite.grid import expand, select
    from benchbench.suite.load import load_suite

    refuse_two_forms(markdown, as_json)
    loaded = load_suite(suite, overrides)
    devices = choose_devices(device)
    if len(devices) > 1 and device != "auto":
        raise UserError(f"--device {device}: name one, such as cuda:0; times are of one device")
    cells = select(expand(loaded), parse_only(only))
    works = list(dict.fromkeys((cell.stratum, cell.variant) for cell in cells))
    both = SideBySide(old, new, loaded, str(devices[0]), cpu_count())
    identities = both.identities()
    found = gate_throughput(identities, works, lambda wanted: both.measure(wanted, rounds))
    origins = [version_origin(identity) for identity in identities]
    show(found, f"{loaded.name}, throughput", origins, markdown, as_json)
    if gated:
        sys.exit(found[2].exit_code)
