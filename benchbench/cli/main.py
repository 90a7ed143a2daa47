"""The command line: one function a verb. It parses, calls and prints; the work is elsewhere.

Here are the verbs of the main path: plan, run, report. The others have modules of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from benchbench import __version__
from benchbench.cli.as_json import json_option, plan_json, show
from benchbench.cli.audit import audit
from benchbench.cli.compare import baseline, compare, history
from benchbench.cli.data import data
from benchbench.cli.keep import export, film
from benchbench.cli.maintain import clean, doctor, merge, pack, status
from benchbench.cli.options import (
    Asked,
    asks,
    eval_processes_option,
    results_option,
    stack_option,
)
from benchbench.cli.perf import bench, scaling, throughput
from benchbench.cli.report import Lang, judge, print_report
from benchbench.cli.suites import power, suites
from benchbench.cli.verbs import Verbs
from benchbench.core.errors import UserError
from benchbench.routing import LOSSES, REGISTRY
from benchbench.suite.load import load_suite, merged_text, suite_schema
from benchbench.suite.model import Suite


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Which loss should train the pixel encoder of an offline RL agent?

    A suite file names environments, seeds and routing variants; benchbench trains one shared agent
    on every combination, measures what each variant learns, and answers with a table and plots.

    \b
    benchbench suites                 the suites that are shipped, by name
    benchbench plan   quickstart      what would be run, and how long it takes
    benchbench run    quickstart      run what is missing, then report
    benchbench report quickstart      the report again
    benchbench audit  quickstart      where each loss's gradient goes

    \b
    Completion of verbs, options, suites and --only's values, in bash (zsh, fish alike):
    eval "$(_BENCHBENCH_COMPLETE=bash_source benchbench)"
    """


@main.command()
@asks
@stack_option
@eval_processes_option
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="How often to retry a failed cell without progress; one that diverged is not retried.",
)
@click.option(
    "--keep-going/--fail-fast",
    default=True,
    show_default=True,
    help="After a cell has failed for good: go on with the others, or stop.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="A killed cell loses at most this much work; 'inf' for no checkpoints.",
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Kill a cell that shows no activity for this long.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "debug", "slurm", "ray"]),
    default="local",
    show_default=True,
    help="local: processes on this machine. debug: in this process, one cell after the other, so "
    "that a breakpoint stops. slurm: jobs of a cluster that shares the results folder. ray: tasks "
    "of a Ray cluster, which need not share it.",
)
@click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --executor slurm: a YAML file of what a job asks for, such as partition: gpu.",
)
@click.option(
    "--address",
    metavar="auto|HOST:PORT",
    help="With --executor ray: the cluster. auto, the default, is RAY_ADDRESS or the one that this "
    "machine is a node of.",
)
@click.option(
    "--log",
    type=click.Choice(["tensorboard"]),
    help="Curves while cells train, in the results folder's tensorboard/: scores, probes and "
    "losses, brought up to date with every checkpoint of a cell.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; the same as 'plan'.")
def run(
    asked: Asked,
    stack: int,
    eval_processes: int | None,
    retries: int,
    keep_going: bool,
    checkpoint_every: float,
    silence: float,
    executor: str,
    cluster: Path | None,
    address: str | None,
    log: Literal["tensorboard"] | None,
    dry_run: bool,
) -> None:
    """Run the cells of SUITE that have no results yet, then write the report.

    The same command again goes on where the last one stopped: finished cells are kept, and an
    edited suite runs the cells that the edit has changed. Ctrl-C stops cleanly: cells at work leave
    a checkpoint, and go on from it the next time.

    Exit code: 0 all cells done, 1 a cell failed, 2 a mistake in the suite or the command, 130
    stopped by Ctrl-C, 143 by SIGTERM.
    """
    import benchbench
    from benchbench.core.processes import Interrupted

    if dry_run:
        if executor != "local":
            raise UserError(
                f"--dry-run: plans this machine's runs; leave --executor {executor} out"
            )
        _print_plan(asked)
        return
    try:
        done = benchbench.run(
            **asked.arguments(), executor=executor, stack=stack, eval_processes=eval_processes,
            cluster=cluster, address=address, retries=retries, fail_fast=not keep_going,
            checkpoint_every=checkpoint_every, silence=silence, log=log,
        )  # fmt: skip
    except Interrupted as stopped:
        click.echo(
            "\nStopped. Finished cells are kept; the same command again does what is missing.",
            err=True,
        )
        sys.exit(128 + stopped.signum)
    print_report(done.folder)
    for cell, failure, output in done.failures:
        click.secho(f"failed: {cell.label}: {failure} (log: {output})", fg="red", err=True)
    if done.failures:
        sys.exit(1)


@main.command()
@asks
@click.option("--show", is_flag=True, help="Print the suite with its base merged in, and stop.")
@json_option
def plan(asked: Asked, show: bool, as_json: bool) -> None:
    """Show what 'run' would do: the grid, what is done, the data, the devices, the time."""
    if show:
        click.echo(merged_text(asked.suite, asked.overrides), nl=False)
        return
    _print_plan(asked, as_json)


@main.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@results_option
@click.option(
    "--lang",
    type=click.Choice(["en", "zh", "both"]),
    default="en",
    show_default=True,
    help="Language of the pages: zh writes REPORT.zh.md and report.zh.html; both writes these and "
    "the English ones, each with a link to the other.",
)
@click.option(
    "--format",
    "paper",
    type=click.Choice(["page", "pdf"]),
    default="page",
    show_default=True,
    help="pdf: also every figure as PDF, tables/*.tex for LaTeX (booktabs), and figures/make.py, "
    "which draws a figure again from the tables, to be changed.",
)
@json_option
def report(suites: tuple[str, ...], results: Path, lang: Lang, paper: str, as_json: bool) -> None:
    """Write and print the report of SUITE: its file, or its name under the results folder.

    Without SUITE: of every suite that has results.
    """
    if suites:
        folders = [results / _suite_name(suite) for suite in suites]
    else:
        folders = sorted(path.parent for path in results.glob("*/suite.json"))
        if not folders:
            raise UserError(f"{results}: holds no results; make some with 'benchbench run SUITE'")
    for folder in folders:
        print_report(folder, lang, paper == "pdf", as_json)


@main.command()
def variants() -> None:
    """List the variants that a suite may name: who holds the encoder, what each loss does to it."""
    for routing in REGISTRY.values():
        holders = ", ".join(routing.encoder_in) or "none"
        flows = ", ".join(f"{loss} {routing.flow(loss)}" for loss in LOSSES)
        click.echo(f"{routing.name:<16}encoder in: {holders}; {flows}\n{'':<16}{routing.why}")


@main.command()
def schema() -> None:
    """Print the JSON schema of suite files, for editors."""
    click.echo(suite_schema(), nl=False)


VERBS = (suites, power, status, data, audit, doctor, clean, merge, pack, judge, film, export,
         compare, throughput, bench, scaling, baseline, history)  # fmt: skip
for verb in VERBS:
    main.add_command(verb)


def _print_plan(asked: Asked, as_json: bool = False) -> None:
    import benchbench

    plan = benchbench.plan(**asked.arguments())
    if as_json:
        show(plan_json(plan))
        return
    for part in plan.parts():
        click.echo(part)
    _print_power(load_suite(asked.suite, asked.overrides), asked.results)


def _print_power(suite: Suite, results: Path) -> None:
    """What the suite's seeds can show, where anything is known of the spread."""
    from benchbench.analysis.pilot import plan_power, power_text, too_few_pairs

    if told := too_few_pairs(suite):
        click.echo(f"\npairs    {told}")
    try:
        found = plan_power(suite, results)
    except UserError:
        return
    click.echo(f"\n{power_text(found)}")


def _suite_name(suite: str) -> str:
    path = Path(suite)
    return load_suite(path).name if path.suffix in (".yaml", ".yml") else path.name
