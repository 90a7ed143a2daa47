"""``benchbench`` as people run it: a process, its output and its tables."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import yaml
from helpers.suites import TIMES, TINY

import benchbench
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

COMMON = ("tiny.yaml", "--device", "cpu", "--jobs", "2")


class Bench:
    """A folder with a suite in it, and benchbench run there as people run it."""

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
        return subprocess.Popen(
            [sys.executable, "-m", "benchbench", *arguments], cwd=self.folder, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def call(self, *arguments, code=0):
        process = self.start(*arguments)
        process.out, process.err = process.communicate(timeout=120)
        assert process.returncode == code, (process.out, process.err)
        assert "Traceback" not in process.out + process.err
        return process

    def run(self, *arguments, code=0):
        return self.call("run", *COMMON, *arguments, code=code)

    def tables(self):
        results = read_results(self.store.folder)
        frames = {name: getattr(results, name) for name in TABLES}
        return {n: f.drop(columns=[c for c in TIMES if c in f]) for n, f in frames.items()}

    def published(self):
        """When each published cell was written."""
        folder = self.store.folder / "cells"
        found = folder.iterdir() if folder.exists() else []
        return {p.name: p.stat().st_mtime_ns for p in found if not p.name.startswith(".")}
