"""Is the new version slower? Updates a second of two versions, timed side by side.

A **pair** is a round: a fresh process of each version, timed in alternation at the same number of
updates. Each two neighbouring turns, one of each side, give ln(new speed / old speed), and D is the
round's median of them. The estimate is the median of D over the rounds. Its interval is the exact,
distribution-free one between two order statistics (Conover 1999, section 3.2), at Bonferroni's
level over the rows (an environment and variant each), so that all hold at 95 % together. A mean and
Student's interval would be at the mercy of single rounds: of one version against itself on a shared
machine of two cores, 3 of 16 rounds held blocks several times too long.

**Sign**: *worse* where the interval lies wholly under :data:`SLOWEST` (ratio 0.95), and then again
in a second measurement from fresh processes; *better* wholly over its inverse; *no change* wholly
over :data:`SLOWEST`; *undecided* (warns) otherwise, and where only the first measurement was slow.
Unchanged code would have to be 5 % slower by chance, beyond doubt, twice.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from scipy import stats
from tqdm import tqdm

from benchbench.core.errors import UserError
from benchbench.core.statistics import pairs_needed, simultaneous_level
from benchbench.gate.compare import COLUMNS, Decision, decide
from benchbench.suite.model import Suite

SLOWEST = math.log(0.95)
"""A speed under 0.95 of the old one is a regression."""

LEVEL = 0.95
"""All intervals of a measurement hold together with this probability."""

Work = tuple[str, str]
"""An environment and a variant."""

Measure = Callable[[Sequence[Work]], pd.DataFrame]


def gate_throughput(
    identities: tuple[dict[str, Any], dict[str, Any]], works: Sequence[Work], measure: Measure
) -> tuple[pd.DataFrame, pd.DataFrame, Decision]:
    """The table, the keys and the decision, as :func:`benchbench.gate.gate` gives them.

    ``measure`` returns the blocks of what it is asked to time: ``round, turn, env, variant, side,
    updates, seconds``. It is called again with what was slow, and not at all where the keys differ.
    """
    keys = throughput_keys(*identities)
    if not keys["equal"].all():
        table = pd.DataFrame(columns=list(COLUMNS))
        return table, keys, decide(table, keys)
    table = judge(measure(works), len(works))
    slow = table[table["sign"] == "worse"]
    if len(slow):
        named = set(zip(slow["env"], slow["variant"], strict=True))
        again = judge(measure([work for work in works if work in named]), len(works))
        rows = [_confirmed(one, again) for _, one in table.iterrows()]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, keys, decide(table, keys)


def judge(blocks: pd.DataFrame, members: int) -> pd.DataFrame:
    """One row an environment and variant, from one measurement; ``members`` share the level."""
    level, needed = simultaneous_level(members, 1 - LEVEL), pairs_needed(members, 1 - LEVEL)
    rows = []
    for (env, variant), mine in blocks.groupby(["env", "variant"], sort=False):
        turns = mine.assign(speed=mine["updates"] / mine["seconds"], pair=mine["turn"] // 2)
        speed = turns.pivot(index=["round", "pair"], columns="side", values="speed")
        d = (speed["new"] / speed["old"]).map(math.log).groupby("round").median()
        found = stats.quantile_test(d, q=0.0, p=0.5).confidence_interval(level)
        few = len(d) < needed
        middle = float(d.median())
        note = _ratio(found.low, found.high, middle)
        if few:
            note = f"{len(d)} rounds; {needed} needed"
        rows.append({
            "env": env, "variant": variant, "series": "updates_per_s", "unit": "1/s",
            "scale": "ln ratio", "n_pairs": len(d), "baseline": float(speed["old"].median()),
            "candidate": float(speed["new"].median()), "difference": middle, "lo": found.low,
            "hi": found.high, "level": level, "margin": SLOWEST,
            "sign": "undecided" if few else _sign(found.low, found.high),
            "note": note,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def throughput_keys(old: dict[str, Any], new: dict[str, Any]) -> pd.DataFrame:
    """What has to be the same on both sides for a difference to be the code's."""
    pairs = [
        ("device", old["device_name"], new["device_name"]),
        ("torch", old["versions"]["torch"], new["versions"]["torch"]),
    ]
    rows = [(part, one, other, one == other) for part, one, other in pairs]
    return pd.DataFrame(rows, columns=["part", "baseline", "candidate", "equal"])


def _sign(lo: float, hi: float) -> str:
    if hi < SLOWEST:
        return "worse"
    if lo > -SLOWEST:
        return "better"
    return "no change" if lo > SLOWEST else "undecided"


def _confirmed(first: pd.Series, again: pd.DataFrame) -> pd.Series:
    """The row of the second measurement where there is one, with what the first one found."""
    same = again[(again["env"] == first["env"]) & (again["variant"] == first["variant"])]
    if same.empty:
        return first
    row = same.iloc[0].copy()
    found = str(first["note"])
    if row["sign"] == "worse":
        row["note"] = f"{row['note']}; a first time {found}"
    else:
        row["sign"] = "undecided"
        row["note"] = f"{row['note']}; slower only a first time, {found}"
    return row


def _ratio(lo: float, hi: float, middle: float) -> str:
    return f"ratio {math.exp(middle):.3f} [{math.exp(lo):.3f}, {math.exp(hi):.3f}]"


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
    """Times two versions of benchbench, each in processes of its own, in alternation.

    A round is a fresh process of each. For every cell both build its agent and warm up; then they
    take turns, A B B A B A A B …, at blocks of the same number of updates, one waiting while the
    other works. So what the machine does meanwhile (clocks, heat, neighbours) affects both alike,
    and what a process keeps for life (its memory's layout) counts as noise.

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
