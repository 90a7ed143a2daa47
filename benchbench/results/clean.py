"""What can be removed from a results folder: listed first, removed only on request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchbench.core.files import DRAFT
from benchbench.results.heartbeat import read_heartbeat
from benchbench.results.store import POLICY, Store


@dataclass(frozen=True)
class Litter:
    """A file or folder that nothing needs any more, and why."""

    path: Path
    why: str
    size: int


def find_policies(store: Store) -> list[Litter]:
    """The kept weights of all published cells: results stay whole without them."""
    found = sorted(store.folder.glob(f"cells/*/{POLICY}"))
    return [Litter(path, "weights of a published cell", _size(path)) for path in found]


def find_litter(store: Store, wanted: Collection[str]) -> list[Litter]:
    """What could go, where the suite wants the cells of the keys ``wanted``.

    Published cells that left the suite; logs, failures and checkpoints of cells that are published
    or left the suite; checkpoints that were moved aside; and what killed processes left: unfinished
    files, heartbeats. Call it while no run holds the folder.
    """
    return [
        Litter(path, why, _size(path))
        for path, why in sorted([*_cells(store, wanted), *_companions(store, wanted)])
    ]


def remove(litter: Litter) -> None:
    """Delete it; a folder under a draft's name, so that half of one is never taken for a cell."""
    if litter.path.is_dir():
        draft = litter.path
        if not draft.name.startswith(DRAFT):
            draft = draft.with_name(f"{DRAFT}{draft.name}-{os.getpid()}")
            os.rename(litter.path, draft)
        shutil.rmtree(draft)
    else:
        litter.path.unlink(missing_ok=True)


def _cells(store: Store, wanted: Collection[str]) -> Iterator[tuple[Path, str]]:
    for path in store.others(wanted):
        yield path, "results of a cell that left the suite"
    for pattern in (f"{DRAFT}*", f"*/{DRAFT}*"):
        for path in store.folder.glob(pattern):
            yield path, "left unfinished by a killed process"


def _companions(store: Store, wanted: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Files beside the cells, named by their keys."""
    for room, what in (("logs", "log"), ("failed", "failure"), ("checkpoints", "checkpoint")):
        for path in store.folder.glob(f"{room}/[!.]*"):
            key = path.name.split(".")[0]
            if key not in wanted:
                yield path, f"{what} of a cell that left the suite"
            elif store.is_done(key):
                yield path, f"{what} of a published cell"
            elif ".aside-" in path.name:
                yield path, "checkpoint that could not be used"
    for path in store.folder.glob("running/[!.]*"):
        heartbeat = read_heartbeat(path)
        if heartbeat is None or not heartbeat.alive:
            yield path, "heartbeat of a process that is gone"


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
