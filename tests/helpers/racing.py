"""Two commands on one folder, started together: both end well, and nothing is lost or half made."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import dataclass

from helpers.crash import TRACEBACK, Faults
from helpers.grid_life import RUN, STAGES, Life, differences, half_made

BUSY = ("another 'benchbench run' is writing there", "holds no results")
"""What a command may be refused for while the other one works."""

COMMANDS = {stage.name: stage.call for stage in STAGES} | {
    "run": RUN,
    "merge here": ("merge", "results/tiny", "one/tiny", "two/tiny"),
}


@dataclass(frozen=True)
class Race:
    """Two commands by their names, from the folder as the stage ``start`` finds it.

    ``lost`` takes a finished cell away, so that there is something to run.
    """

    first: str
    second: str
    start: str
    lost: bool = False

    @property
    def name(self) -> str:
        """As it is printed and chosen."""
        return f"{self.first} and {self.second}"


RACES = (
    Race("data", "data", "data"),
    Race("merge", "merge", "merge"),
    Race("merge here", "clean", "clean"),
    Race("merge here", "report", "merge"),
    Race("report", "report", "report"),
    Race("clean", "clean", "clean"),
    Race("clean", "report", "clean"),
    Race("baseline", "baseline", "baseline"),
    Race("run", "run", "run"),
    Race("run", "clean", "clean", lost=True),
    Race("run", "merge here", "merge", lost=True),
)


class Track:
    """A grid's life, and races at its stages."""

    def __init__(self, life: Life, races: tuple[Race, ...] = RACES) -> None:
        self.life = life
        wanted = {race.start for race in races}
        last = max(i for i, stage in enumerate(STAGES) if stage.name in wanted)
        life.live(tuple(stage.name for stage in STAGES[: last + 1]))

    def _begin(self, race: Race) -> None:
        shutil.rmtree(self.life.root)
        shutil.copytree(self.life.folder / f"{race.start}-before", self.life.root, symlinks=True)
        if race.lost:
            cells = sorted((self.life.root / "results" / "tiny" / "cells").glob("[!.]*"))
            shutil.rmtree(next(cell for cell in cells if cell.name != "0123456789abcdef"))

    def run(self, race: Race, seed: int) -> list[str]:
        """What goes wrong in one round; [] if nothing. The delay between the two is the seed's."""
        rng = random.Random(f"{race.name} {seed}")
        alone = self.life.folder / f"{race.name}-alone"
        if not alone.exists():
            self._begin(race)
            for name in (race.first, race.second):
                self.life.command(COMMANDS[name])
            shutil.copytree(self.life.root, alone, symlinks=True)
        self._begin(race)
        wrong = []
        names = [race.first, race.second] if rng.random() < 0.5 else [race.second, race.first]
        delays = (0.0, rng.choice((0.0, 0.01, 0.1, 0.5, 2.0)) * rng.random())
        pids = [self._start(name, delay, n) for n, (name, delay)
                in enumerate(zip(names, delays, strict=True))]  # fmt: skip
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        for number, (name, code) in enumerate(zip(names, codes, strict=True)):
            text = (self.life.folder / f"race-{number}").read_text(errors="replace")
            if code == 0 or (code == 2 and any(words in text for words in BUSY)):
                continue
            wrong.append(f"{name} ends with {code}: {text[-600:]}")
        wrong += [f"looks whole and is not: {what}" for what in half_made(self.life.root)]
        for name in names:
            again = self.life.command(COMMANDS[name])
            if again.code:
                wrong.append(f"{name} again: {again.code}: {again.text[-600:]}")
        return wrong + differences(alone, self.life.root)

    def _start(self, name: str, delay: float, number: int) -> int:
        """The command in a copy of this process, whose output goes to a file of its own."""
        pid = os.fork()
        if pid == 0:
            code = TRACEBACK
            try:
                time.sleep(delay)
                other = Life.__new__(Life)
                other.folder, other.root = self.life.folder, self.life.root
                other.log = self.life.folder / f"race-{number}"
                code = other.command(COMMANDS[name], Faults(self.life.root)).code
            finally:
                os._exit(code)
        return pid
