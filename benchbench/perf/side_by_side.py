"""Two versions of benchbench timed side by side: each in processes of its own, in alternation.

A **round** is a fresh process of each. For every cell both build its agent and warm up; then they
take turns, A B B A B A A B …, at blocks of the same number of updates, one waiting while the other
works. So what the machine does meanwhile (clocks, heat, neighbours) affects both alike, and what a
process keeps for life (its memory's layout) counts as noise, since each round has new processes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchbench.core.errors import UserError
from benchbench.suite.model import Suite

SIDES = ("old", "new")

TURNS = (0, 1, 1, 0, 1, 0, 0, 1) * 2
"""Whose turn it is, block by block; odd rounds swap the sides."""

BLOCK_SECONDS = 0.25
"""A block holds as many updates as the faster side makes in this time, but one at least."""

WARM_UP = 30
"""Updates before the first block, not counted."""

MODULE = "benchbench.perf.timing"
EARLIER = "benchbench.run.timing"
"""The module's name in versions before 0.2; both answer the same requests."""


Work = tuple[str, str]
"""What is timed: the agent of an environment and variant."""


START = f"""
import runpy
from importlib.util import find_spec
try:
    name = {MODULE!r} if find_spec({MODULE!r}) else {EARLIER!r}
except ModuleNotFoundError:
    name = {EARLIER!r} if find_spec("benchbench") else {MODULE!r}
runpy.run_module(name, run_name="__main__")
"""
"""What a timing process runs: the module under the name that its version has."""


class SideBySide:
    """The two environments and what they are to time.

    Each environment is a virtual environment's folder or a Python; ``device`` and ``threads`` are
    the same for both. Raises :class:`UserError` where one of them is not fit for it.
    """

    def __init__(self, old: Path, new: Path, suite: Suite, device: str, threads: int) -> None:
        self._pythons = (find_python(old), find_python(new))
        settings = suite.model_dump(mode="json", exclude_unset=True)
        self._opening = {"suite": settings, "device": device, "threads": threads}
        self._updates: dict[Work, int] = {}

    def identities(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Who the two are: package, commit, versions, device; refused where they are one."""
        with ExitStack() as stack:
            old, new = (each.hear() for each in self._start(stack, SIDES))
        if self._pythons[0] != self._pythons[1] and old["package"] == new["package"]:
            raise UserError(
                f"{self._pythons[0]} and {self._pythons[1]} import the same benchbench, "
                f"{old['package']}; install each version into an environment of its own"
            )
        return old, new

    def measure(self, works: Sequence[Work], rounds: int) -> pd.DataFrame:
        """One row a block: ``round, turn, env, variant, side, updates, seconds``."""
        rows: list[dict[str, object]] = []
        blocks = rounds * len(works) * len(TURNS)
        with tqdm(total=blocks, unit="block", smoothing=0, dynamic_ncols=True) as bar:
            for number in range(rounds):
                bar.set_description(f"round {number + 1}/{rounds}")
                names = SIDES[::-1] if number % 2 else SIDES
                with ExitStack() as stack:
                    timers = self._start(stack, names)
                    for timer in timers:
                        timer.hear()
                    for work in works:
                        for block in self._blocks(work, timers):
                            rows.append({"round": number, **block})
                            bar.update()
        return pd.DataFrame(rows)

    def _blocks(self, work: Work, timers: Sequence[_Timer]) -> Iterator[dict[str, object]]:
        """The blocks of one agent in one round, as they are done."""
        warm = [timer.ask({"build": work, "warm_up": WARM_UP}) for timer in timers]
        if work not in self._updates:
            fastest = min(answer["seconds"] for answer in warm) / (WARM_UP // 2)
            self._updates[work] = max(1, math.ceil(BLOCK_SECONDS / fastest))
        updates = self._updates[work]
        for turn, whose in enumerate(TURNS):
            seconds = timers[whose].ask({"updates": updates})["seconds"]
            yield {"turn": turn, "env": work[0], "variant": work[1], "side": timers[whose].side,
                   "updates": updates, "seconds": seconds}  # fmt: skip

    def _start(self, stack: ExitStack, names: Sequence[str]) -> list[_Timer]:
        """A process of each side, in this order, all asked to open the suite."""
        pythons = dict(zip(SIDES, self._pythons, strict=True))
        timers = [stack.enter_context(_Timer(pythons[name], name)) for name in names]
        for timer in timers:
            timer.tell(self._opening)
        return timers


def find_python(environment: Path) -> Path:
    """The Python of a virtual environment, or the Python itself.

    Links are left as they are: a virtual environment's Python is one.
    """
    python = environment / "bin" / "python" if environment.is_dir() else environment
    if not os.access(python, os.X_OK):
        raise UserError(
            f"{environment}: is neither a virtual environment nor a Python; make one with 'python3 "
            "-m venv', and install a version of benchbench into it"
        )
    return python.absolute()


class _Timer:
    """A process that times updates for this one."""

    def __init__(self, python: Path, side: str) -> None:
        self._python, self.side = python, side
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this)
        # Each environment is to import its own package: not this process's, nor the folder's.
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-c", START], env=env, text=True, encoding="utf-8",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
            )  # fmt: skip
        except OSError as error:
            raise UserError(
                f"{python}: cannot be started ({error.strerror}); is it a Python?"
            ) from None

    def __enter__(self) -> _Timer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Tell it, and wait for the answer."""
        self.tell(request)
        return self.hear()

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request; :meth:`hear` has the answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> dict[str, Any]:
        """The answer. Lines that libraries print before it is under way are passed over."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                if "error" in answer:
                    raise UserError(f"the {self.side} version ({self._python}): {answer['error']}")
                return answer
        raise self._ended()

    def _ended(self) -> UserError:
        """Why the process is gone."""
        self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        last = said[-1] if said else f"exit code {self._process.returncode}"
        if "No module named" in last:
            return UserError(
                f"the {self.side} version ({self._python}): has no {MODULE}, by which it would be "
                "timed; install a benchbench that has it there"
            )
        return UserError(
            f"the {self.side} version ({self._python}): ended before it answered ({last}); try "
            f"'{self._python} -m {MODULE}'"
        )
