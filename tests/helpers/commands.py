"""``benchbench`` by its command line: in a process as people run it, or in this one."""

import contextlib
import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import yaml
from click.testing import CliRunner
from helpers.reports import few_figures
from helpers.suites import TIMES, TINY
from helpers.waiting import HANGS

import benchbench
from benchbench.cli.main import main
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

COMMON = ("tiny.yaml", "--device", "cpu")


class Bench:
    """A folder with a suite in it, and benchbench's command line there.

    A process takes seconds to import torch, so only what is about processes uses :meth:`start`.
    """

    def __init__(self, folder, data):
        self.folder, self.told = folder, copy.deepcopy(TINY)
        self.env = os.environ | {
            "BENCHBENCH_DATA": str(data),
            "PYTHONPATH": str(Path(benchbench.__file__).parent.parent),
        }
        self.write()

    def write(self):
        text = yaml.safe_dump(self.told, sort_keys=False)
        (self.folder / "tiny.yaml").write_text(text)

    @property
    def cells(self):
        return expand(Suite.model_validate(self.told))

    @property
    def store(self):
        return Store(self.folder / "results", "tiny")

    def start(self, *arguments):
        """The process of a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "benchbench", *arguments], cwd=self.folder, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def end(self, process, code=0):
        """Wait for a process that :meth:`start` has begun; its output."""
        out, err = process.communicate(timeout=HANGS)
        assert process.returncode == code, (out, err)
        assert "Traceback" not in out + err
        return SimpleNamespace(out=out, err=err)

    def call(self, *arguments, code=0):
        """A command in this process."""
        with contextlib.chdir(self.folder), mock.patch.dict(os.environ, self.env), few_figures():
            done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, (done.output, done.exception)
        assert "Traceback" not in done.output
        return SimpleNamespace(out=done.stdout, err=done.stderr)

    def run(self, *arguments, code=0):
        """Run the suite in this process, its cells too."""
        return self.call("run", *COMMON, "--executor", "debug", *arguments, code=code)

    def tables(self):
        results = read_results(self.store.folder)
        frames = {name: getattr(results, name) for name in TABLES}
        return {n: f.drop(columns=[c for c in TIMES if c in f]) for n, f in frames.items()}

    def published(self):
        """When each published cell was written."""
        folder = self.store.folder / "cells"
        found = folder.iterdir() if folder.exists() else []
        return {p.name: p.stat().st_mtime_ns for p in found if not p.name.startswith(".")}
