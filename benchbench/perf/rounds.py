"""Blocks of work that take turns, and the figures that come of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

BLOCK_SECONDS = 0.15
"""Seconds of work in a block, which holds one piece at least."""


@dataclass
class Work:
    """Something to time: ``seconds(n)`` does it ``n`` times and says how long that took.

    The first call, whose time is not kept, makes it warm.
    """

    name: str
    seconds: Callable[[int], float]
    pieces: int = 0
    """How many make a block; 0 until it is known."""
    each: list[float] = field(default_factory=list)
    """Seconds a piece, round by round."""

    def warm_up(self) -> None:
        """Do it a few times, and find out how many make a block."""
        self.seconds(1)
        self.pieces = max(1, math.ceil(BLOCK_SECONDS / max(self.seconds(1), 1e-9)))

    def block(self) -> None:
        """One block."""
        self.each.append(self.seconds(self.pieces) / self.pieces)

    @property
    def rates(self) -> list[float]:
        """Pieces a second, round by round."""
        return [1 / seconds for seconds in self.each]


def take_turns(works: Sequence[Work], rounds: int) -> None:
    """A block of each work, round by round, in an order that is reversed from round to round."""
    with tqdm(total=len(works) * (rounds + 1), unit="block", dynamic_ncols=True) as bar:
        for work in works:
            bar.set_description(f"warm-up: {work.name}")
            work.warm_up()
            bar.update()
        for number in range(rounds):
            for work in works if number % 2 else works[::-1]:
                bar.set_description(f"round {number + 1}/{rounds}: {work.name}")
                work.block()
                bar.update()


@dataclass(frozen=True)
class Figure:
    """One line of the result: a median with its spread; NaN and a note on why there is none."""

    what: str
    name: str
    unit: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rounds: int = 0
    note: str = ""

    @classmethod
    def of(cls, what: str, name: str, unit: str, values: Sequence[float], note: str = "") -> Figure:
        """The figure of its rounds' values."""
        return cls(
            what, name, unit, statistics.median(values), min(values), max(values), len(values), note
        )
