"""A suite's results exported to an experiment tracker: one run a cell.

Everything is read from the tables, so that no training depends on a tracker; each is an extra.
Curves keep their updates as steps: ``evaluation/score``, ``training/critic_loss`` and so on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbench.core.errors import UserError

if TYPE_CHECKING:  # the command line reads the trackers' names; importing pandas takes a second
    import pandas as pd
    from mlflow.tracking import MlflowClient
    from torch.utils.tensorboard import SummaryWriter

    from benchbench.results.tables import Results

CURVES = {"evaluations": "evaluation", "training": "training"}
"""The tables that make curves, and what their measures' names begin with."""

_HEAD = ("key", "env", "seed", "variant", "update")
_SUMMARY = ("untrained_score", "final_score", "best_score", "total_seconds", "update_ms",
            "peak_memory_mb", "oracle_state_r2")  # fmt: skip
PROJECT = "benchbench"


@dataclass(frozen=True)
class CellRun:
    """A cell as a tracker takes it: name, settings, curves and summary."""

    name: str
    config: dict[str, str | int]
    curves: dict[int, dict[str, float]]
    """By update: the measures' values."""
    summary: dict[str, float]


def cell_runs(results: Results) -> Iterator[CellRun]:
    """The finished cells."""
    done = results.cells[results.cells["status"] == "done"]
    for _, cell in done.iterrows():
        curves: dict[int, dict[str, float]] = {}
        for name in CURVES:
            table: pd.DataFrame = getattr(results, name)
            for row in table[table["key"] == cell["key"]].to_dict("records"):
                told = {str(measure): value for measure, value in row.items()}
                curves.setdefault(int(row["update"]), {}).update(scalars(name, told))
        config = {name: cell[name] for name in ("key", "env", "variant", "data_key", "data_sha256",
                                                "git_commit", "settings")
                  if isinstance(cell[name], str)}  # fmt: skip
        summary = {name: float(cell[name]) for name in _SUMMARY if cell[name] == cell[name]}
        yield CellRun(
            f"{cell['env']} seed {cell['seed']} {cell['variant']}",
            {"suite": results.suite.name, "seed": int(cell["seed"]), **config},
            dict(sorted(curves.items())), summary,
        )  # fmt: skip


def scalars(table: str, row: Mapping[str, object]) -> dict[str, float]:
    """The measured numbers of a table's row, by the names that trackers show."""
    return {
        f"{CURVES[table]}/{measure}": float(value)
        for measure, value in row.items()
        if measure not in _HEAD and isinstance(value, (int, float)) and value == value
    }


def event_file(out: Path, name: str) -> SummaryWriter:
    """A writer of TensorBoard's file of a cell, which replaces an earlier one; close it."""
    from torch.utils.tensorboard import SummaryWriter

    place = out / name.replace("/", "_")
    for old in place.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(place), purge_step=0)  # for a TensorBoard that has read the old one


def _read(folder: Path) -> Results:
    from benchbench.results.tables import read_results

    return read_results(folder)


def to_tensorboard(folder: Path, out: Path) -> str:
    """Event files, a folder a cell."""
    results = _read(folder)
    need("tensorboard")
    for run in cell_runs(results):
        with event_file(out, run.name) as writer:
            writer.add_text("config", f"```\n{json.dumps(run.config, indent=1)}\n```")
            for update, values in run.curves.items():
                for name, value in values.items():
                    writer.add_scalar(name, value, update)
            for name, value in run.summary.items():
                writer.add_scalar(f"summary/{name}", value, 0)
    return f"{out}: look with: tensorboard --logdir {out}"


def to_wandb(folder: Path, out: Path) -> str:
    """Weights & Biases, offline unless ``WANDB_MODE`` says otherwise."""
    results = _read(folder)
    wandb = need("wandb")
    out.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    for one in cell_runs(results):
        run = wandb.init(
            project=PROJECT, group=results.suite.name, name=one.name, id=str(one.config["key"]),
            config=one.config, dir=str(out), mode=mode, reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        for update, values in one.curves.items():
            run.log(values, step=update)
        run.summary.update(one.summary)
        run.finish()
    return f"{out}/wandb: send with: wandb sync {out}/wandb/offline-run-*"


def _send(client: MlflowClient, results: Results) -> None:
    """The results' cells as runs of an experiment of MLflow's."""
    from mlflow.entities import Metric

    name = f"{PROJECT} {results.suite.name}"
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    for one in cell_runs(results):
        tags = {"mlflow.runName": one.name, "settings": str(one.config["settings"])}
        run = client.create_run(experiment, tags=tags).info.run_id
        for key, value in one.config.items():
            if key != "settings":  # longer than a parameter may be
                client.log_param(run, key, value)
        points = [Metric(k, v, 0, update) for update, m in one.curves.items() for k, v in m.items()]
        points += [Metric(f"summary/{k}", v, 0, 0) for k, v in one.summary.items()]
        for start in range(0, len(points), 1000):
            client.log_batch(run, metrics=points[start : start + 1000])
        client.set_terminated(run)


def to_mlflow(folder: Path, out: Path) -> str:
    """MLflow: ``MLFLOW_TRACKING_URI``, or a local store in ``out``."""
    results = _read(folder)
    need("mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    out.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.resolve()}/mlflow.db"
    try:
        _send(MlflowClient(tracking_uri=uri), results)
    except MlflowException as error:
        told = str(error).partition(". ")[0]
        raise UserError(
            f"{uri}: MLflow cannot write there ({told}); set MLFLOW_TRACKING_URI, or for a local "
            "store install mlflow whole, not mlflow-skinny"
        ) from None
    return f"{uri}: look with: mlflow ui --backend-store-uri {uri}"


def to_trackio(folder: Path, out: Path) -> str:
    """Trackio, in ``TRACKIO_DIR`` or ``out``."""
    results = _read(folder)
    os.environ.setdefault("TRACKIO_DIR", str(out.resolve()))
    trackio = need("trackio")
    for one in cell_runs(results):
        config = {**one.config, **{f"summary/{k}": v for k, v in one.summary.items()}}
        trackio.init(project=f"{PROJECT}-{results.suite.name}", name=one.name, config=config,
                     embed=False)  # fmt: skip
        for update, values in one.curves.items():
            trackio.log(values, step=update)
        trackio.finish()
    where = os.environ["TRACKIO_DIR"]
    return f"{where}: look with: TRACKIO_DIR={where} trackio show"


TRACKERS: Mapping[str, Callable[[Path, Path], str]] = {
    "mlflow": to_mlflow,
    "tensorboard": to_tensorboard,
    "trackio": to_trackio,
    "wandb": to_wandb,
}
"""By the tracker's name: takes a results folder and where to write; returns what to do next."""


def need(package: str, option: str = "") -> Any:
    """The tracker's package; raises :class:`UserError` where it is not installed."""
    from importlib import import_module

    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise UserError(
            f"{option or f'--to {package}'}: needs the package {package}; install it with: "
            f"pip install 'benchbench[{package}]'"
        ) from None
