"""What an audit observed, as data: the ledger's lines, the lives of gradients, the findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchbench.gradients.findings import Finding
from benchbench.gradients.record import NOT_LOSSES, Event, Share


@dataclass(frozen=True)
class Line:
    """What became of one loss's gradient on one module; without a loss where none reaches it.

    L2 norms of the named loss's own gradient (a constant factor before ``backward()`` taken out),
    per step: the root mean square over the steps in which the loss ran. Their squares add up:
    computed² = applied² + dropped² + left_over².
    """

    loss: str
    """Empty for a module that no loss reaches."""
    module: str
    computed: float
    applied: float
    """In ``.grad`` when an optimizer that holds the parameters stepped, clipped or not."""
    dropped: float
    """Cleared before any step."""
    left_over: float
    """Neither, by the end of the window."""
    applied_by: tuple[str, ...]
    dropped_by: tuple[str, ...]
    """What cleared it, such as ``vae_optimizer.zero_grad()``."""
    moved: tuple[str, ...] = ()
    """Who changed the module's weights in the window, by any loss: optimizers, or code."""
    factor: float = 1.0
    """The constant that the loss was multiplied by before ``backward()``."""


@dataclass(frozen=True)
class Life:
    """One loss's gradient on one module from birth to end, as positions among the events."""

    loss: str
    born: int
    norm: float
    applied: tuple[int, ...]
    ended: int | None


@dataclass(frozen=True)
class Seen:
    """How much of the loop the window held."""

    losses: tuple[str, ...]
    settled: tuple[str, ...]
    """Losses of which at least one gradient was seen to its end."""
    optimizers: tuple[str, ...]
    stepped: tuple[str, ...]

    def __str__(self) -> str:
        def missing(these: Sequence[str], those: Sequence[str]) -> str:
            left = [name for name in these if name not in those]
            return f" (not {', '.join(left)})" if left else ""

        return (
            f"seen: {len(self.settled)} of {len(self.losses)} losses"
            f"{missing(self.losses, self.settled)}, {len(self.stepped)} of "
            f"{len(self.optimizers)} optimizers stepped"
            f"{missing(self.optimizers, self.stepped)}"
        )


@dataclass(frozen=True, repr=False)
class Observed:
    """What a watched window held: events, gradients, the ledger, findings."""

    steps: int
    """How many training steps were watched."""
    modules: tuple[str, ...]
    """All named modules, and what several of them share."""
    events: list[Event]
    """Every backward pass, ``zero_grad`` and ``step``, in the order of time."""
    shares: list[Share]
    """Every gradient of every backward pass on every parameter, with its end."""
    ledger: list[Line]
    """A line for every loss and module with a gradient between them, and for every other module."""
    warnings: list[Finding]
    unknown: list[Finding]
    """What could not be observed, so that the audit cannot say that it is right."""
    notes: list[Finding]
    """Worth knowing, and no mistakes."""
    seen: Seen
    held: dict[str, tuple[str, ...]]
    """For each module: the optimizers that hold parameters of it."""
    moved: dict[str, tuple[str, ...]]
    """For each module: who changed its weights in the window, optimizers or code."""

    @property
    def ok(self) -> bool:
        """Whether there are no warnings, and nothing that could not be observed."""
        return not self.warnings and not self.unknown

    @property
    def shown_step(self) -> int:
        """The step that stands for the loop: the last of those with the most events, the window's
        last left out where there are others."""
        steps = range(1, max(self.steps, 2))
        return max(steps, key=lambda step: (sum(e.step == step for e in self.events), step))

    def lives(self, module: str) -> list[Life]:
        """The gradients on a module, in the order of their birth."""
        squares: dict[tuple[int, str, tuple[int, ...], int | None], float] = {}
        for share in self.shares:
            if share.module == module and share.loss not in NOT_LOSSES:
                key = (share.born, share.loss, tuple(share.applied), share.ended)
                squares[key] = squares.get(key, 0.0) + share.square
        return [
            Life(loss, born, total**0.5, applied, ended)
            for (born, loss, applied, ended), total in squares.items()
        ]
