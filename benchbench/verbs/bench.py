"""The verb that measures benchbench itself on the machine at hand."""

from __future__ import annotations

from pathlib import Path

import click

from benchbench.errors import UserError
from benchbench.verbs.options import only_option, parse_only, set_option
from benchbench.verbs.verdicts import json_option


@click.command()
@click.argument("suite", type=click.Path(path_type=Path), required=False)
@only_option
@set_option
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or one device, as in cuda:0."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; by default as many as processors."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Turns of every figure; 1 for a quick look, without a spread.",
)
@json_option
def bench(
    suite: Path | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    threads: int | None,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure how fast benchbench is on this machine, at the settings of SUITE's first environment.

    Without SUITE: at quickstart's settings, in about a minute on two CPU cores. Measured are
    updates a second under every variant and with every encoder, their share of the device's peak,
    the sampler, the cameras, the evaluation, and a cell's start and memory. --only env=… and
    --only variant=… choose among them; any variant of 'benchbench variants' may be named.
    """
    from benchbench.run.bench.choice import DEFAULT, choose
    from benchbench.run.bench.measure import bench as measure
    from benchbench.run.bench.measure import json_text, table_text
    from benchbench.run.devices import choose_devices, cpu_count
    from benchbench.suite_file import load_suite

    loaded = load_suite(suite or DEFAULT, overrides)
    devices = choose_devices(device)
    if len(devices) > 1 and device != "auto":
        raise UserError(f"--device {device}: name one, such as cuda:0; times are of one device")
    cell, routings = choose(loaded, parse_only(only))
    found = measure(loaded.name, cell, routings, devices[0], threads or cpu_count(), rounds)
    click.echo(json_text(found) if as_json else table_text(found))
