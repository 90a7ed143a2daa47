"""Inputs that are damaged, hostile or odd, as users meet them: through the command line.

A kind makes an input from a number, and says which commands read it. Whatever the input: exit code
0 (it is read right, or it does not matter) or 2 with a sentence; no traceback, nothing written
outside of the folder, nothing left in the temporary one, bounded memory and time.
"""

from __future__ import annotations

import copy
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import yaml
from click.testing import CliRunner
from helpers.own_data import write_own
from helpers.suites import TINY

import benchbench
from benchbench.cli.main import main
from benchbench.gate.snapshot import load_snapshot, write_baseline
from benchbench.results.checkpoints import About, write_checkpoint

LONGEST = 4000
"""Characters of an error: a suite may have a line a mistake."""

SECONDS = 60
"""CPU seconds of one command at most; what is usual is less than one."""

MEGABYTES = 600
"""By which one command may raise the process's peak memory at most."""

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", " ", "x", "1e3", "010", "on", "no", "~", "..", "../../evil",
    "/evil", "a\nb",
    "\x00", "\u202e", "é" * 50, "中文", "x" * 300, "x" * 1000, "${HOME}", "$x^{", "<b>|*_`", "%s%n",
    "{}", "C:\\x", [], {}, [[]], [None], {"": 0}, {"a": {"b": [1]}}, [1, 1], ["before", "before"],
    list(range(500)), "2001-01-01", "10k", "0x10", "1:30", "all", "con", "-",
)  # fmt: skip


def _parents(value: Any) -> list[tuple[Any, Any]]:
    """Every place in nested dictionaries and lists: what holds it, and its key."""
    found, left = [], [value]
    while left:
        one = left.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)):
            found.append((one, key))
            if isinstance(one[key], (dict, list)):
                left.append(one[key])
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """One to three changes of a nested value: odd ones put in, parts taken out, moved, repeated."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = _parents(value)
        if not places:
            return rng.choice(ODD)
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(ODD))
            case 3:
                del holder[key]
            case 4:
                other, place = rng.choice(places)
                with suppress(KeyError, IndexError):
                    holder[key] = copy.deepcopy(other[place])
            case 5 if isinstance(holder, dict):
                holder[rng.choice(("x", "", "seed", "name", "é", "a.b", key + "s"))] = holder[key]
    return value


def odd_array(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array like the other, of another size, kind or content."""
    match rng.randrange(10):
        case 0:
            return values[: rng.randrange(len(values) + 1)]
        case 1:
            return values[:, None] if values.ndim else values
        case 2:
            return values.astype(rng.choice(["f8", "i1", "u8", "c16", "S3", "?", "f2"]))
        case 3:
            return np.full(values.shape, rng.choice([np.nan, np.inf, -1e300, 0.0]))
        case 4:
            return np.float32(1)
        case 5:
            return np.array(["x"] * max(1, len(values)))
        case 6:
            return values.reshape(len(values), -1).T
        case 7:
            return np.array([object()] * 3, object) if rng.random() < 0.3 else values[:0]
        case 8:
            return np.repeat(values, 2, 0)
        case _:
            return np.asfortranarray(values)


class World:
    """A folder with whole files of every kind, made once, and a command line in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.work = self.root / "work"
        self.kept = folder / "kept"
        self.temporary = folder / "temporary"
        for one in (self.work, self.kept, self.temporary, self.root / "home"):
            one.mkdir(parents=True)
        self.env = {"HOME": str(self.root / "home"), "BENCHBENCH_DATA": str(self.work / "data")}
        with self.inside():
            self._fill()
        shutil.copytree(self.work, self.kept, dirs_exist_ok=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Work in the folder, with its home, data and temporary files."""
        before = Path.cwd()
        os.chdir(self.work)
        try:
            with (
                mock.patch.dict(os.environ, self.env),
                mock.patch.object(tempfile, "tempdir", str(self.temporary)),
                # What they do has tests of its own, and takes long.
                mock.patch("benchbench.cli.report.print_report"),
                mock.patch("benchbench.launch.plan.estimate_seconds", return_value=1.0),
            ):
                yield
        finally:
            os.chdir(before)

    def _fill(self) -> None:
        told = copy.deepcopy(TINY) | {"variants": ["before", "after"]}
        told["envs"][0]["data"]["transitions"] = 900
        told["train"] = {"updates": 5, "batch_size": 8, "n_step": 2}
        told["evaluate"] = {"every": 5, "episodes": 1}
        Path("tiny.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
        benchbench.run("tiny.yaml", executor="debug", device="cpu")
        write_own(Path("mine.npz"), rows=120, episode=20)
        with np.load("mine.npz") as file, h5py.File("mine.hdf5", "w") as other:
            for key in file.files:
                other[key] = file[key]
        own = {"id": "mine", "data": {"source": "file", "path": "mine.npz"}}
        Path("own.yaml").write_text(yaml.safe_dump(told | {"name": "own", "envs": [own]}))
        Path("out").mkdir()
        self.call(("pack", "results/tiny", "--out", "tiny.zip"))
        write_baseline(load_snapshot(Path("results/tiny")), Path("baselines/tiny"))
        rows = [
            f"maze,{seed},{variant},{step},{seed + step}"
            for seed in range(3) for variant in ("a", "b") for step in (0, 5)
        ]  # fmt: skip
        Path("scores.csv").write_text("\n".join(["env,seed,variant,step,score", *rows]) + "\n")
        cell = sorted(Path("results/tiny/cells").iterdir())[0]
        cell.joinpath("policy.safetensors").replace("policy.safetensors")
        shutil.copy("policy.safetensors", cell)
        about = About(cell.name, 3, 1, "cpu", "{}", None, "", "")
        write_checkpoint(Path("one.ckpt"), about, {"x": [1]})

    def call(self, command: tuple[str, ...]) -> tuple[int, str]:
        """A command's exit code and all that it printed."""
        done = CliRunner().invoke(main, command)
        text = done.output
        if done.exception and not isinstance(done.exception, SystemExit):
            text += f"\nTraceback: {done.exception!r}"
        return done.exit_code, text

    def restore(self) -> None:
        """Put the folder back as it was."""
        shutil.rmtree(self.work)
        shutil.copytree(self.kept, self.work)

    def tried(self, kind: Kind, number: int) -> list[str]:
        """What goes wrong with a kind's input of that number; [] if nothing."""
        self.restore()
        rng = random.Random(f"{kind.name} {number}")
        wrong: list[str] = []
        with self.inside():
            commands = kind.make(rng)
            outside, there = self._outside(), _files(self.work)
            for command in commands:
                peak, start = _peak(), time.process_time()
                code, text = self.call(command)
                spent, grown = time.process_time() - start, _peak() - peak
                what = []
                if "Traceback" in text or "failed unexpectedly" in text:
                    what.append(f"traceback: {' '.join(text.split())[-700:]}")
                elif code not in (0, 2, *kind.codes):
                    what.append(f"code {code}: {text[-300:]}")
                elif code == 2 and "Error: " not in text:
                    what.append(f"no sentence: {text[-300:]}")
                elif code == 2 and len(text) > LONGEST:
                    what.append(f"{len(text)} characters: {text[:300]}")
                if spent > SECONDS:
                    what.append(f"{spent:.0f} s of CPU")
                if grown > MEGABYTES:
                    what.append(f"{grown:.0f} MB more memory")
                wrong += [f"{' '.join(command)[:200]}: {one}" for one in what]
            written = self._outside() - outside
            wrong += [f"written outside: {name}" for name in sorted(written)]
            wrong += [f"left behind: {name}" for name in sorted(_files(self.temporary))]
            new = {name.partition("/")[0] for name in _files(self.work) - there}
            wrong += [
                f"written beside: {name}" for name in sorted(new - {"results", "data", "out"})
            ]
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()
        return wrong

    def _outside(self) -> set[str]:
        """Files of the root but for the folder worked in; and what slips to the file system's."""
        found = {n for n in _files(self.root) if not n.startswith(("work/", "home/.cache/"))}
        slipped = (self.root.parent, Path("/"), Path("/tmp"))
        return found | {str(p) for place in slipped for p in place.glob("*evil*")}


def _files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Commands = list[tuple[str, ...]]


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind: ``make`` writes one into the current folder and says who reads it."""

    name: str
    make: Callable[[random.Random], Commands]
    codes: tuple[int, ...] = ()
    """Other exit codes than 0 and 2 that are right."""
