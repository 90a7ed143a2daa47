"""Which cell starts where, and when.

A :class:`Scheduler` gets the places, the tasks and their outcomes, and answers what to
start now; a :class:`MemoryEstimate` gives a cell's need. It knows no process, no clock and no GPU,
so a test can fill it with pretended devices.

The longest task that waits goes first, to the place with the fewest cells that has room for it.
Where none has, it reserves the one that will have, so that shorter ones cannot starve it. Memory:
until one cell's peak is known, a place holds one cell, a short one, and each place one of another
kind; then places are filled up to a margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MARGIN = 0.1
"""Share of a device's free memory that packing leaves alone."""


@dataclass(frozen=True)
class Place:
    """A device. Memory in MiB."""

    name: str
    slots: int
    """Cells at a time, whatever their memory."""
    memory_mb: float = math.inf
    """What cells may fill; infinite where they are not to be packed by memory."""
    overhead_mb: float = 0.0
    """What each process takes beside the peak it records, such as a CUDA context."""
    assumed_mb: float | None = None
    """The need of a cell while nothing is known of any; None: the whole place."""

    @property
    def unknown_mb(self) -> float:
        """Expected need of a cell while no cell has recorded its peak, MiB."""
        return self.memory_mb if self.assumed_mb is None else self.assumed_mb


@dataclass(frozen=True)
class Task:
    """A cell. Those of a ``kind`` take the same memory; ``length`` is in any unit of time."""

    key: str
    kind: str
    length: float = 1.0


@dataclass
class _Occupied:
    """A place and what runs there."""

    place: Place
    tasks: list[Task] = field(default_factory=list)


class Scheduler:
    """Places, tasks that wait, tasks that run.

    ``jobs`` is how many may run in all; ``memory`` learns what the kinds of tasks need.
    """

    def __init__(
        self,
        places: Iterable[Place],
        tasks: Iterable[Task],
        jobs: int,
        memory: MemoryEstimate | None = None,
    ) -> None:
        self.jobs = jobs
        self.memory = memory or MemoryEstimate()
        self._places = {place.name: _Occupied(place) for place in places}
        self._tasks: dict[str, Task] = {}
        self._waiting: list[Task] = []
        self._company: dict[str, int] = {}
        """How many neighbours a task may have, once it has run out of memory."""
        self._beside: dict[str, int] = {}
        """The most neighbours that each task has had since it last started."""
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Another task that waits."""
        self._tasks[task.key] = task
        self._wait(task)

    @property
    def waiting(self) -> list[str]:
        """The keys that wait, in the order in which they would start."""
        return [task.key for task in self._waiting]

    @property
    def running(self) -> dict[str, str]:
        """The keys that run, and the names of their places."""
        return {t.key: name for name, there in self._places.items() for t in there.tasks}

    @property
    def places(self) -> list[str]:
        """The names of the places that are left."""
        return list(self._places)

    def company(self, key: str) -> int | None:
        """How many neighbours the task may have at most, where memory has limited them."""
        return self._company.get(key)

    def start(self) -> tuple[str, str] | None:
        """The next task to start now and its place, which counts as started; None: wait.

        To be called until it says None.
        """
        if len(self.running) >= self.jobs:
            return None
        reserved: set[str] = set()
        for task in self._order():
            free = [there for name, there in self._places.items() if name not in reserved]
            if not free:
                return None
            fitting = [there for there in free if self._fits(task, there)]
            if fitting:
                chosen = min(fitting, key=lambda there: (len(there.tasks), -self._room(there)))
                chosen.tasks.append(task)
                for other in chosen.tasks:
                    seen = 0 if other is task else self._beside[other.key]
                    self._beside[other.key] = max(seen, len(chosen.tasks) - 1)
                self._waiting.remove(task)
                return task.key, chosen.place.name
            reserved.add(min(free, key=lambda t: self._distance(task, t)).place.name)
        return None

    def finished(self, key: str, peak_mb: float | None = None) -> None:
        """The task has ended for good; where it is done, with its peak memory in MiB."""
        task = self._leave(key)
        if peak_mb is not None:
            self.memory.record(task.kind, peak_mb)

    def again(self, key: str) -> None:
        """The task has ended and is to run another time."""
        self._wait(self._leave(key))

    def out_of_memory(self, key: str) -> bool:
        """The task ran out of memory, and waits again: with half its neighbours, or a larger place.

        False where it had the largest place to itself; the caller then says whether it runs
        :meth:`again` or has :meth:`finished`.
        """
        place = self._places[self.running[key]].place
        # Its neighbours may have ended between its running out of memory and our hearing of it.
        task, neighbours = self._tasks[key], self._beside[key]
        if neighbours:
            self._company[key] = neighbours // 2
            need = place.memory_mb / neighbours
        else:
            if not any(t.place.memory_mb > place.memory_mb for t in self._places.values()):
                return False
            need = math.nextafter(place.memory_mb, math.inf)
        if math.isfinite(need):
            self.memory.raise_to(task.kind, need)
        self.again(key)
        return True

    def lost(self, name: str) -> list[str]:
        """The place is gone; the keys that ran there, which wait again."""
        there = self._places.pop(name)
        for task in there.tasks:
            self._wait(task)
        return [task.key for task in there.tasks]

    def drop(self) -> list[str]:
        """Nothing more will start; the keys that waited."""
        dropped = self.waiting
        self._waiting.clear()
        return dropped

    def _need_mb(self, kind: str, place: Place) -> float:
        """Expected need of a task of this kind at the place."""
        return self.memory.need_mb(kind, place.overhead_mb, place.unknown_mb)

    def _order(self) -> list[Task]:
        """The tasks that wait, those first that should start first."""
        places = [there.place for there in self._places.values()]
        if self.memory or any(p.assumed_mb is not None or math.isinf(p.memory_mb) for p in places):
            return self._waiting
        tried = {task.kind for there in self._places.values() for task in there.tasks}
        return sorted(self._waiting, key=lambda task: (task.kind in tried, task.length))

    def _fits(self, task: Task, there: _Occupied) -> bool:
        place, beside = there.place, len(there.tasks)
        if beside >= place.slots:
            return False
        if any(beside > self._company.get(other.key, beside) for other in (task, *there.tasks)):
            return False
        if math.isinf(place.memory_mb):
            return True
        need = self._need_mb(task.kind, place)
        if not beside:  # an estimate must not keep a cell from the largest place
            largest = max(other.place.memory_mb for other in self._places.values())
            return need <= place.memory_mb or place.memory_mb == largest
        return need <= self._room(there)

    def _room(self, there: _Occupied) -> float:
        """Memory that is left at a place, MiB."""
        place = there.place
        if math.isinf(place.memory_mb):
            return math.inf
        return place.memory_mb - sum(self._need_mb(task.kind, place) for task in there.tasks)

    def _distance(self, task: Task, there: _Occupied) -> tuple[bool, int]:
        """How far a place is from having room for the task."""
        return self._need_mb(task.kind, there.place) > there.place.memory_mb, len(there.tasks)

    def _wait(self, task: Task) -> None:
        self._waiting.append(task)
        self._waiting.sort(key=lambda other: -other.length)  # stable: equals keep their order

    def _leave(self, key: str) -> Task:
        task = self._tasks[key]
        self._places[self.running[key]].tasks.remove(task)
        return task


SLACK = 1.2
"""What a cell takes of a device beyond the peak it records: its allocator's unused blocks."""

UNSEEN = 1.25
"""A kind that has not run is assumed to need this multiple of the largest kind's known peak."""


class MemoryEstimate:
    """Needs of kinds of cells, MiB; ``peaks`` are those recorded by earlier runs."""

    def __init__(self, peaks: Mapping[str, float] | None = None) -> None:
        self._peaks = dict(peaks or {})
        self._floors: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Whether any kind's peak is known."""
        return bool(self._peaks)

    def knows(self, kind: str) -> bool:
        """Whether a cell of this kind has recorded its peak."""
        return kind in self._peaks

    def record(self, kind: str, peak_mb: float) -> None:
        """A cell of this kind has finished with this peak."""
        self._peaks[kind] = max(peak_mb, self._peaks.get(kind, 0.0))

    def raise_to(self, kind: str, need_mb: float) -> None:
        """A cell of this kind ran out of memory and needs at least this much."""
        self._floors[kind] = max(need_mb, self._floors.get(kind, 0.0))

    def need_mb(self, kind: str, overhead_mb: float, unknown_mb: float) -> float:
        """Expected need of a cell; ``unknown_mb`` while no kind's peak is known.

        ``overhead_mb`` is what each process takes beside its recorded peak.
        """
        peak = self._peaks.get(kind)
        if peak is None and self._peaks:
            peak = UNSEEN * max(self._peaks.values())
        need = unknown_mb if peak is None else peak * SLACK + overhead_mb
        return max(need, self._floors.get(kind, 0.0))
