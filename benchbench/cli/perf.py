"""The verbs that measure benchbench itself on this machine, or two versions side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.compare import gate_option, json_option, markdown_option, refuse_two_forms, show
from benchbench.cli.options import (
    check_folder,
    jobs_option,
    only_option,
    parse_only,
    results_option,
    set_option,
    suite_argument,
)
from benchbench.core.errors import UserError

if TYPE_CHECKING:
    from benchbench.cell.devices import Device


def _of_one_cell(rounds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a verb that measures one cell's settings on one device, ``rounds`` times."""
    options = (
        click.argument("suite", type=click.Path(path_type=Path), required=False),
        only_option,
        set_option,
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="auto, cpu, or one device, as in cuda:0.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="CPU threads; by default as many as processors.",
        ),
        click.option(
            "--rounds",
            type=click.IntRange(min=1),
            default=rounds,
            show_default=True,
            help="Repetitions of every measurement; 1 for a quick look, without a spread.",
        ),
    )
    return lambda verb: reduce(lambda told, option: option(told), reversed(options), verb)


@click.command()
@_of_one_cell(rounds=5)
@json_option
@click.option(
    "--pairs",
    is_flag=True,
    help="Measure pairs an hour of the whole suite instead, from a short cell of each kind.",
)
@jobs_option
@results_option
def bench(
    suite: Path | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    threads: int | None,
    rounds: int,
    as_json: bool,
    pairs: bool,
    jobs: int | None,
    results: Path,
) -> None:
    """Measure how fast benchbench is on this machine, at the settings of SUITE's first environment.

    Without SUITE: at quickstart's settings, in half a minute on a CPU. Measured are
    updates a second under every variant and with every encoder, their share of the device's peak,
    the sampler, the cameras, the evaluation, and a cell's start and memory. --only env=… and
    --only variant=… choose among them; any variant of 'benchbench variants' may be named.

    With --pairs: pairs an hour of SUITE as 'benchbench run' would run it here, and what its cells
    spend on updates, evaluation, diagnostics, start and waiting; from finished cells in --results
    where there are some of a kind, else from short ones.
    """
    if pairs:
        if threads is not None:
            raise UserError("--threads: with --pairs they follow from --jobs; leave it out")
        _pairs(suite, only, overrides, device, jobs, results, as_json)
        return
    if jobs is not None:
        raise UserError("--jobs: is for --pairs; add that, or leave it out")
    from benchbench.cell.devices import cpu_count
    from benchbench.perf.bench import DEFAULT, choose, json_text, table_text
    from benchbench.perf.bench import bench as measure
    from benchbench.suite.load import load_suite

    loaded = load_suite(suite or DEFAULT, overrides)
    one = _one_device(device)
    cell, routings = choose(loaded, parse_only(only))
    found = measure(loaded.name, cell, routings, one, threads or cpu_count(), rounds)
    click.echo(json_text(found) if as_json else table_text(found))


def _pairs(
    suite: Path | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    jobs: int | None,
    results: Path,
    as_json: bool,
) -> None:
    import benchbench
    from benchbench.perf.bench import DEFAULT
    from benchbench.perf.pairs import json_text, pairs_per_hour, table_text

    plan = benchbench.plan(
        suite or DEFAULT, only=parse_only(only), overrides=overrides, results=results,
        device=device, jobs=jobs,
    )  # fmt: skip
    found = pairs_per_hour(plan.grid, plan.store, plan.slots)
    click.echo(json_text(found) if as_json else table_text(found))


@click.command()
@_of_one_cell(rounds=3)
@results_option
def scaling(
    suite: Path | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    threads: int | None,
    rounds: int,
    results: Path,
) -> None:
    """Measure how cost grows from the settings of SUITE's first environment; quickstart's without.

    Time and memory of a cell against its batch, the size of its frames and the rows of its data
    set, and the time of a grid of short cells against its seeds and jobs; in some minutes. The
    large data sets are the cell's own, repeated; their frames are black and take no space, so disk
    reads are not included. Writes scaling.png and scaling.parquet into scaling/ of
    the results folder.
    """
    from benchbench.cell.devices import cpu_count
    from benchbench.perf.bench import DEFAULT, choose
    from benchbench.perf.scaling import scaling as measure
    from benchbench.perf.scaling import scaling_figure, scaling_text, write_table
    from benchbench.report.style import save
    from benchbench.suite.load import load_suite

    check_folder("--results", results)
    loaded = load_suite(suite or DEFAULT, overrides)
    one = _one_device(device)
    cell, _ = choose(loaded, parse_only(only))
    found = measure(loaded, cell, one, threads or cpu_count(), rounds)
    folder = results / "scaling"
    write_table(found, folder / "scaling.parquet")
    save(scaling_figure(found), folder, "scaling")
    click.echo(scaling_text(found))
    click.echo(f"results  {folder}/scaling.png, scaling.svg and scaling.parquet")


def _one_device(device: str) -> Device:
    from benchbench.cell.devices import choose_devices

    devices = choose_devices(device)
    if len(devices) > 1 and device != "auto":
        raise UserError(f"--device {device}: name one, such as cuda:0; times are of one device")
    return devices[0]


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
    """Time updates of SUITE's agents under two versions of benchbench, in alternation.

    OLD_ENV and NEW_ENV are virtual environments with a version each installed, such as old/.venv
    and .venv, or their Pythons. What is slower than 0.95 of the old speed, beyond doubt, is
    measured again; slower again, it is a regression.

    Exit code with --gate: 0 pass, 1 regression, 2 cannot compare; without it 0, or 2 for a
    mistake.
    """
    from benchbench.cell.devices import cpu_count
    from benchbench.gate.text import version_origin
    from benchbench.perf.throughput import SideBySide, gate_throughput
    from benchbench.suite.grid import expand, select
    from benchbench.suite.load import load_suite

    refuse_two_forms(markdown, as_json)
    loaded = load_suite(suite, overrides)
    one = _one_device(device)
    cells = select(expand(loaded), parse_only(only))
    works = list(dict.fromkeys((cell.stratum, cell.variant) for cell in cells))
    both = SideBySide(old, new, loaded, str(one), cpu_count())
    identities = both.identities()
    found = gate_throughput(identities, works, lambda wanted: both.measure(wanted, rounds))
    origins = [version_origin(identity) for identity in identities]
    show(found, f"{loaded.name}, throughput", origins, markdown, as_json)
    if gated:
        sys.exit(found[2].exit_code)
