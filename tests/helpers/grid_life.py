"""A small grid's life in stages, each a command that a fault can meet."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import yaml
from helpers.crash import KILLED, TRACEBACK, Faults, Outcome, in_copy
from helpers.mujoco_files import record, write_d4rl
from helpers.reports import few_figures
from helpers.suites import TIMES, TINY

from benchbench.core.errors import UserError
from benchbench.data.store import open_folder
from benchbench.results.checkpoints import Unusable, read_checkpoint
from benchbench.results.tables import TABLES, read_results, read_table

COMMIT = ("0" * 40, False)

ROWS = 120
"""Of the file whose frames are drawn, a third at a time."""


def told() -> dict[str, object]:
    """A suite of two cells of five updates."""
    suite = copy.deepcopy(TINY)
    suite["envs"][0]["data"]["transitions"] = 900
    suite["variants"] = ["before", "after"]
    suite["train"] = {"updates": 5, "batch_size": 8, "n_step": 2}
    suite["evaluate"] = {"every": 5, "episodes": 1}
    suite["diagnose"] |= {"signals_every": 2, "probe_frames": 200}
    return suite


@dataclass(frozen=True)
class Stage:
    """A command, run in a folder that ``before`` stages have filled."""

    name: str
    call: tuple[str, ...]


RUN = ("run", "tiny.yaml", "--executor", "debug", "--device", "cpu", "--checkpoint-every", "0")
STAGES = (
    Stage("data", ("data", "prepare", "tiny.yaml")),
    Stage("run", RUN),
    Stage("report", ("report", "tiny")),
    Stage("merge", ("merge", "joined/tiny", "one/tiny", "two/tiny")),
    Stage("clean", ("clean", "tiny.yaml", "--yes")),
    Stage("baseline", ("baseline", "update", "results/tiny", "--baselines", "baselines")),
    Stage("draw", ("data", "prepare", "hopper.yaml")),
)


class Life:
    """The undisturbed stages, kept beside each other: ``before`` and ``after`` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "work"
        self.log = folder / "log"
        self.counts: dict[str, Outcome] = {}

    def live(self, names: tuple[str, ...]) -> None:
        """Run all stages once in peace, in order, and keep what was there before and after."""
        self.root.mkdir(parents=True)
        (self.root / "tiny.yaml").write_text(yaml.safe_dump(told(), sort_keys=False))
        for stage in STAGES:
            if stage.name == "run":  # one cell is there already, as most often
                self.command(("run", "tiny.yaml", "--only", "variant=before", *RUN[2:]))
            if stage.name == "report":
                self._parts()
            if stage.name == "clean":
                self._litter()
            if stage.name == "draw":
                self._recorded()
            shutil.copytree(self.root, self.folder / f"{stage.name}-before", symlinks=True)
            done = self.command(stage.call)
            if done.code:
                raise AssertionError(f"{stage.name}: {done.code}\n{done.text}")
            self.counts[stage.name] = done
            shutil.copytree(self.root, self.folder / f"{stage.name}-after", symlinks=True)
            if stage.name == names[-1]:
                return

    def command(self, call: tuple[str, ...], faults: Faults | None = None) -> Outcome:
        """Run a command in a copy of this process."""
        if call[0] == "run" and "--only" not in call:
            quiet = mock.patch("benchbench.cli.main.print_report")
        else:
            quiet = mock.patch.dict({})

        def main() -> None:
            from benchbench.cli.main import main as click_main
            from benchbench.report import discussion

            os.chdir(self.root)
            with (
                quiet,
                few_figures(),
                mock.patch.dict(os.environ, {"BENCHBENCH_DATA": str(self.root / "data")}),
                mock.patch.dict(os.environ, {"D4RL_DATASET_DIR": str(self.root / "d4rl")}),
                mock.patch("benchbench.envs.mujoco_draw.CHUNK", ROWS // 3),
                mock.patch("benchbench.envs.mujoco_draw._cores", return_value=1),
                mock.patch("benchbench.core.provenance.git_state", return_value=COMMIT),
                mock.patch("benchbench.cell.train.git_state", return_value=COMMIT, create=True),
                mock.patch("benchbench.launch.worker.MESSAGE_SECONDS", 1e9),
                mock.patch("benchbench.results.checkpoints.SHARE", float("inf")),
                mock.patch.object(
                    discussion, "describe", remembered(discussion.describe, self.folder)
                ),
                matplotlib.rc_context({"pdf.use14corefonts": True}),  # embeds none: half the time
            ):
                click_main(call, prog_name="benchbench")

        return in_copy(main, faults or Faults(self.root), self.log)

    def tried(self, stage: Stage, faults: Faults) -> list[str]:
        """What goes wrong when the stage meets the fault and is then run again; [] if nothing."""
        shutil.rmtree(self.root)
        shutil.copytree(self.folder / f"{stage.name}-before", self.root, symlinks=True)
        met = self.command(stage.call, faults)
        wrong = []
        if met.code == TRACEBACK or met.code < 0 or met.code not in (0, 1, 2, KILLED):
            wrong.append(f"ends with {met.code}: {_last(met.text)}")
        if met.code == 2 and "\nError: " not in f"\n{met.text}":  # a job may print after it
            wrong.append(f"code 2 and no sentence: {_last(met.text)}")
        wrong += [f"looks whole and is not: {what}" for what in half_made(self.root)]
        again = self.command(stage.call)
        if again.code:
            wrong.append(f"again: {again.code}: {_last(again.text)}")
        wrong += differences(self.folder / f"{stage.name}-after", self.root)
        return wrong

    def _parts(self) -> None:
        """The run's cells in two folders, as of two machines."""
        for name, other in (("one", 0), ("two", 1)):
            shutil.copytree(self.root / "results", self.root / name)
            cells = sorted((self.root / name / "tiny" / "cells").iterdir())
            shutil.rmtree(cells[other])

    def _recorded(self) -> None:
        """A file of D4RL's, whose frames are drawn here."""
        suite = told() | {"name": "hopper", "envs": [{"id": "hopper-medium-v2"}]}
        (self.root / "hopper.yaml").write_text(yaml.safe_dump(suite))
        write_d4rl(self.root / "d4rl" / "hopper_medium-v2.hdf5", record("hopper", ROWS)[0])

    def _litter(self) -> None:
        """What killed processes leave, and a cell that left the suite."""
        folder = self.root / "results" / "tiny"
        one = next((folder / "cells").iterdir())
        shutil.copytree(one, folder / "cells" / "0123456789abcdef")
        shutil.copytree(one, folder / "cells" / ".draft-x")
        for room in ("logs", "failed", "checkpoints"):
            (folder / room).mkdir(exist_ok=True)
            (folder / room / "0123456789abcdef.log").write_text("x")


def remembered(work: Callable[[Any], Any], folder: Path) -> Callable[[Any], Any]:
    """A third of a report's time, and the same for the same results: once is enough."""
    kept = folder / f"{work.__name__}.pickle"

    def found(given: Any) -> Any:
        if not kept.exists():
            kept.write_bytes(pickle.dumps(work(given)))
        return pickle.loads(kept.read_bytes())

    return found


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _own(path: Path) -> bool:
    """Whether a file counts: not a draft, a lock, or what nothing reads."""
    return not any(
        (part.startswith(".") and part != ".verified") or ".aside-" in part for part in path.parts
    )


def half_made(root: Path) -> list[str]:
    """Files and folders under their own names that are not whole."""
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not _own(name) or not path.is_file() or path.parent.name in ("logs", "failed"):
            continue
        try:
            if path.suffix == ".parquet" and path.stem in TABLES and "baselines" not in name.parts:
                read_table(path, path.stem)
            elif path.suffix == ".ckpt":
                read_checkpoint(path, "cpu")
            elif path.suffix == ".parquet":
                import pyarrow.parquet as pq

                pq.read_table(path)
            elif path.name == "card.json":
                open_folder(path.parent, verify=True)
            elif path.suffix == ".json" and path.parent.name != "running":
                import json

                json.loads(path.read_text())
            elif path.suffix in (".md", ".html", ".csv", ".svg", ".png", ".pdf"):
                ends = {".html": b"</html>", ".svg": b"</svg>", ".png": b"IEND", ".pdf": b"%%EOF"}
                content = path.read_bytes()
                if not content or ends.get(path.suffix, b"") not in content[-40:]:
                    raise ValueError("cut off")
                if path.suffix in (".md", ".csv") and not content.endswith(b"\n"):
                    raise ValueError("cut off")
        except (UserError, Unusable, OSError, ValueError) as error:
            found.append(f"{name}: {error}"[:300])
    for cell in root.glob("*/*/cells/[!.]*"):
        missing = [name for name in TABLES if not (cell / f"{name}.parquet").exists()]
        found += [f"{cell.relative_to(root)}: lacks {', '.join(missing)}"] if missing else []
    return found


_ASIDE = ("logs", "running", "failed", "checkpoints", "slurm", ".verified")


def differences(whole: Path, root: Path) -> list[str]:
    """In what the folder differs from the undisturbed one: names, bytes, tables."""
    mine, theirs = _files(whole), _files(root)
    found = [f"is missing: {name}" for name in sorted(mine - theirs)]
    found += [f"is left: {name}" for name in sorted(theirs - mine)]
    for name in sorted(mine & theirs):
        one, other = whole / name, root / name
        if one.read_bytes() != other.read_bytes() and not _of_times(Path(name)):
            found.append(f"has other bytes: {name}")
    for folder in sorted(path.parent for path in whole.glob("*/*/suite.json")):
        name = folder.relative_to(whole)
        try:
            if not (root / name / "suite.json").exists():
                continue
            a, b = read_results(folder), read_results(root / name)
        except UserError as error:
            found.append(f"{name}: {error.message}")
            continue
        for table in TABLES:
            left, right = (
                getattr(r, table).drop(columns=[c for c in TIMES if c in getattr(r, table)])
                for r in (a, b)
            )
            if not left.equals(right):
                found.append(f"{name}: another table '{table}'")
    return found


def _files(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file()
        and _own(path.relative_to(root))
        and not set(path.relative_to(root).parts) & set(_ASIDE)
        and path.suffix != ".sha256"  # a note beside a file of others, where that can be
    }


def _of_times(name: Path) -> bool:
    """Whether the file holds times, so that equal runs differ in it."""
    return name.name in ("cells.parquet", "described.csv", "described.parquet") or (
        name.suffix in (".md", ".html")
    )
