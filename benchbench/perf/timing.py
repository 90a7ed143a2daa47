"""Timed updates: how fast a cell's agent trains here, apart from all else that a cell does.

Run as a module, ``python -P -m benchbench.perf.timing``, it times updates for another process: the
entry point by which two versions of benchbench are timed side by side, each by its own Python. It
reads requests from standard input and answers each on standard output, both one JSON object a line:

- ``{"suite": …, "device": "cuda:0", "threads": 4}``, once, as the first:
  who this is, as :func:`_identity` says;
- ``{"build": [env, variant], "warm_up": 30}``: builds the agent of the first such cell, in
  place of the last; ``{"seconds": …}`` of the later half of ``warm_up`` updates;
- ``{"updates": 100}``: ``{"seconds": …}`` that these took, after one that is not counted.

What cannot be done is ``{"error": one sentence}``. It ends when its input does. Later versions keep
to this, so that they can be compared with this one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from benchbench.cell.build import make_agent, make_sampler, split
from benchbench.cell.devices import Device, choose_devices
from benchbench.core.errors import UserError
from benchbench.core.provenance import git_state, versions
from benchbench.data.sampler import Sampler
from benchbench.data.store import open_dataset
from benchbench.launch.run import prepare_data
from benchbench.suite.grid import Cell, expand
from benchbench.suite.model import Suite


class TimedCell:
    """A cell's sampler and agent, and nothing else of it.

    Makes the data if it is not here; a ``sampler`` that another such cell has may be shared.
    """

    def __init__(self, cell: Cell, device: Device, sampler: Sampler | None = None) -> None:
        self._device, torch_device = device, torch.device(device.kind)
        if sampler is None:
            prepare_data([cell])
            dataset = open_dataset(cell.data)
            sampler = make_sampler(cell, dataset, split(cell, dataset)[0], torch_device)
        self.sampler = sampler
        self.agent = make_agent(cell, sampler, torch_device)

    def seconds(self, updates: int) -> float:
        """Wall time of ``updates`` updates, including their batches."""
        return timed(lambda: self.agent.update(self.sampler.sample()), self._device)(updates)


def timed(piece: Callable[[], object], device: Device) -> Callable[[int], float]:
    """A function of a count: seconds of that many calls of ``piece``, waiting for the device."""

    def seconds(count: int) -> float:
        device.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            piece()
        device.synchronize()
        return time.perf_counter() - start

    return seconds


class _Server:
    """Answers requests, one after the other."""

    def __init__(self, opening: dict[str, Any]) -> None:
        try:
            cells = expand(Suite.model_validate(opening["suite"]))
        except ValidationError as error:
            found = error.errors()[0]
            where = ".".join(str(part) for part in found["loc"])
            raise UserError(
                f"its suites have no such {where or 'setting'}: {found['msg']}"
            ) from None
        self._cells = {(cell.stratum, cell.variant): cell for cell in reversed(cells)}
        self._device = choose_devices(opening["device"])[0]
        self._device.claim()
        torch.set_num_threads(opening["threads"])
        self._timed: TimedCell | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, object]:
        if "suite" in request:
            return _identity(self._device)
        if "build" in request:
            self._timed = None
            self._timed = TimedCell(self._cells[tuple(request["build"])], self._device)
            half = request["warm_up"] // 2
            self._timed.seconds(request["warm_up"] - half)
            return {"seconds": self._timed.seconds(half)}
        assert self._timed, "nothing is built yet"
        self._timed.seconds(1)
        return {"seconds": self._timed.seconds(request["updates"])}


def _identity(device: Device) -> dict[str, object]:
    commit, dirty = git_state()
    return {
        "package": str(Path(__file__).resolve().parents[1]),
        "git_commit": commit,
        "git_dirty": dirty,
        "device_name": device.name(),
        "versions": json.loads(versions()),
    }


def main() -> None:
    """Serve standard input. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    server = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            server = server or _Server(request)
            answer = server.answer(request)
        except UserError as error:
            answer = {"error": error.message}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
