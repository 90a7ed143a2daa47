"""What part of a node each cell asks of Ray: processors, a fraction of a GPU, memory.

The figures are those that pack a device here (:mod:`benchbench.launch.resources`). Ray packs:
it places a cell where the part that it asks for is free.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchbench.cell.devices import MIB
from benchbench.core.errors import UserError
from benchbench.launch.resources import CPU_CELL_MB, CUDA_CONTEXT_MB, Known, tasks_of
from benchbench.launch.scheduler import MARGIN, MemoryEstimate, Place
from benchbench.suite.grid import Cell

STEP = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, as Ray and the machine itself describe it."""

    id: str
    host: str
    cpus: float
    gpus: float
    memory_mb: float
    """What Ray gives out of its memory, MiB."""
    gpu_free_mb: tuple[float | None, ...] = ()
    """Of each of its GPUs; None where it is unknown."""


@dataclass(frozen=True)
class Share:
    """What one cell asks for."""

    cpus: float
    gpus: float = 0.0
    memory_mb: float = 0.0

    def __str__(self) -> str:
        return f"{self.gpus:.0%} of a GPU" if self.gpus else f"{self.memory_mb:.0f} MiB"

    def options(self) -> dict[str, float]:
        """In Ray's words."""
        memory = {"memory": math.floor(self.memory_mb * MIB)} if self.memory_mb else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **memory}

    def fits(self, node: Node) -> bool:
        """Whether the node, empty, could take it."""
        return (
            self.cpus <= node.cpus and self.gpus <= node.gpus and self.memory_mb <= node.memory_mb
        )


def wants_gpu(device: str, nodes: Sequence[Node]) -> bool:
    """Whether cells run on GPUs, by ``--device``; raises :class:`UserError` where it cannot be."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: Ray chooses the devices; say auto, cpu or cuda")
    has_gpu = any(node.gpus for node in nodes)
    if device == "cuda" and not has_gpu:
        raise UserError("--device cuda: the cluster has no GPU; add a node with one, or say cpu")
    return has_gpu and device != "cpu"


class Shares:
    """The parts that a grid's cells ask for, which change as cells report their peak memory.

    ``grid`` counts all its cells, ``jobs`` limits how many run at a time.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        cells: Sequence[Cell],
        known: Known,
        *,
        on_gpu: bool,
        grid: int,
        jobs: int | None = None,
        per_device: int | None = None,
    ) -> None:
        nodes = [node for node in nodes if (node.gpus if on_gpu else node.cpus)]
        self.on_gpu, self.jobs, self._per_device = on_gpu, jobs, per_device
        self._least_cpus = min(node.cpus for node in nodes)
        self._largest_mb = max(node.memory_mb for node in nodes)
        self.devices = int(sum(node.gpus for node in nodes)) if on_gpu else len(nodes)
        cpus = sum(node.cpus for node in nodes)
        default = per_device * self.devices if per_device else max(cpus, self.devices)
        at_once = jobs or max(1, min(default, grid))
        fair = min(cpus // at_once, self._least_cpus // (per_device or 1))
        self.threads = max(1, int(fair))
        self._place = self._place_on(nodes)
        self._memory = MemoryEstimate(known.peaks)
        tasks = sorted(tasks_of(cells, known), key=lambda task: -task.length)
        self.longest_first = [task.key for task in tasks]
        """The keys of all cells, those that take longest first."""
        self._kinds = {task.key: task.kind for task in tasks}
        self._raised: dict[str, float] = {}
        """The least that cells which ran out of memory ask for: part of a GPU, or MiB."""

    def of(self, key: str) -> Share:
        """What the cell asks for now."""
        cpus, least = min(float(self.threads), self._least_cpus), self._raised.get(key, 0.0)
        if self.on_gpu:
            return Share(cpus, min(1.0, max(self._part(key), least)))
        if self._per_device:
            cpus = math.floor(self._least_cpus / self._per_device * STEP) / STEP
        need = self._need_mb(key)
        return Share(cpus, memory_mb=min(self._largest_mb, max(need, least)))

    def next(self, waiting: Sequence[str], out: Collection[str]) -> str | None:
        """Which of the cells that wait to hand to Ray now; None: first let one of those end.

        A cell whose kind's memory is unknown goes alone, except where a GPU would idle.
        """
        if self.jobs is not None and len(out) >= self.jobs:
            return None
        if not self._learns or len(out) < self.devices:
            return waiting[0] if waiting else None
        tried = {self._kinds[key] for key in out}
        for key in waiting:
            kind = self._kinds[key]
            if self._memory.knows(kind) or (self._memory and kind not in tried):
                return key
        return None

    def finished(self, key: str, peak_mb: float | None) -> None:
        """The cell is done; its peak memory was ``peak_mb``."""
        if peak_mb is not None:
            self._memory.record(self._kinds[key], peak_mb)

    def out_of_memory(self, key: str) -> bool:
        """The cell ran out of memory, and asks for twice as much; False where it had it all."""
        share = self.of(key)
        had, whole = (share.gpus, 1.0) if self.on_gpu else (share.memory_mb, self._largest_mb)
        if had >= whole:
            return False
        self._raised[key] = 2 * had
        return True

    @property
    def _learns(self) -> bool:
        """Whether cells are packed by what others of their kind took."""
        return self.on_gpu and not self._per_device and math.isfinite(self._place.memory_mb)

    def _need_mb(self, key: str) -> float:
        place = self._place
        return self._memory.need_mb(self._kinds[key], place.overhead_mb, place.unknown_mb)

    def _part(self, key: str) -> float:
        """The part of a GPU that a cell of this one's kind takes; all where nothing is known."""
        if self._per_device:
            return math.floor(STEP / self._per_device) / STEP
        if math.isinf(self._place.memory_mb):
            return 1.0
        need = self._need_mb(key)
        return math.ceil(need / self._place.memory_mb * STEP) / STEP

    def _place_on(self, nodes: Sequence[Node]) -> Place:
        """The smallest device of the cluster."""
        if not self.on_gpu:
            return Place("cpu", 1, self._largest_mb, assumed_mb=CPU_CELL_MB)
        free = [mb for node in nodes for mb in node.gpu_free_mb if mb is not None]
        memory = (1 - MARGIN) * min(free) if free else math.inf
        return Place("cuda", 1, memory, CUDA_CONTEXT_MB)


def nodes_of(described: Sequence[Mapping[str, object]]) -> list[Node]:
    """The nodes that are alive, from what ``ray.nodes()`` tells."""
    nodes = []
    for one in described:
        has = one["Resources"]
        if one["Alive"] and isinstance(has, Mapping):
            cpus, gpus, memory = (float(has.get(name, 0.0)) for name in ("CPU", "GPU", "memory"))
            nodes.append(
                Node(str(one["NodeID"]), str(one["NodeManagerHostname"]), cpus, gpus, memory / MIB)
            )
    return nodes
