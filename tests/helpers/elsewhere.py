"""What the tests of the executors share: ``benchbench run`` as people run it on a cluster."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import yaml
from helpers.suites import TIMES, TINY
from helpers.waiting import HANGS

import benchbench
from benchbench.results.heartbeat import read_heartbeat
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite


def long_suite(updates=600, variants=("after",)):
    told = copy.deepcopy(TINY)
    told["variants"] = list(variants)
    told["train"] |= {"updates": updates}
    told["evaluate"] |= {"every": updates}
    return told


def results(store):
    """The joined tables without what depends on when and how fast a cell ran."""
    frames = {name: getattr(read_results(store.folder), name) for name in TABLES}
    return {n: f.drop(columns=[c for c in TIMES if c in f]) for n, f in frames.items()}


def end(process, code=0):
    """What a process has said when it has ended, with that exit code and no traceback."""
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in out + err
    return out + err


class Heard:
    """A watcher that keeps what it hears."""

    def __init__(self):
        self.said = []

    def updated(self, cell, updates):
        self.said.append(("updated", cell.key, updates))

    def finished(self, cell, score, seconds):
        self.said.append(("finished", cell.key, None))

    def retrying(self, cell, failure):
        self.said.append(("retrying", cell.key, failure))

    def failed(self, cell, failure, log):
        self.said.append(("failed", cell.key, failure))

    def ended_early(self, cells, reason):
        self.said.append(("ended", [cell.key for cell in cells], reason))

    def of(self, word):
        return [key for said, key, _ in self.said if said == word]


class Bench:
    """benchbench run in a folder, on a cluster that ``env`` or ``options`` name."""

    def __init__(self, folder, data, told, env, options):
        folder.mkdir(exist_ok=True)
        self.folder, self.told, self.options = folder, told, options
        (folder / "tiny.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
        self.env = os.environ | env | {
            "BENCHBENCH_DATA": str(data),
            "PYTHONPATH": str(Path(benchbench.__file__).parents[1]),
        }  # fmt: skip
        self.store = Store(folder / "results", "tiny")
        self.cells = expand(Suite.model_validate(told))

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "benchbench", "run", "tiny.yaml", *self.options, *arguments],
            cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def ask(self, *command):
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=True
        )

    def at_work(self, updates=1):
        """A cell that has taken so many updates elsewhere."""
        for cell in self.cells:
            heartbeat = read_heartbeat(self.store.heartbeat_path(cell.key))
            if heartbeat and heartbeat.alive and heartbeat.updates >= updates:
                return cell
        return None
