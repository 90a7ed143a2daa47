"""What a run would do: the grid, what is done, the data, the devices, the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchbench.agent import agent_class
from benchbench.cell.devices import memory_text
from benchbench.core.errors import UserError
from benchbench.data.sources import maker_of
from benchbench.data.store import format_bytes, is_here, room_for, set_folder
from benchbench.diagnostics.preconditions import refuse_unmeasurable
from benchbench.diagnostics.reference_encoder import Rating, stored_rating
from benchbench.launch.estimate import estimate_seconds, shape_of, spec_of
from benchbench.launch.resources import Slots
from benchbench.results.store import Store
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.grid import Cell, Grid

MANY_UPDATES = 1_000_000
"""From this many updates on, a CPU run gets a warning."""


@dataclass(frozen=True)
class Plan:
    """What a run of a grid would do on this machine; :meth:`text` is for people."""

    grid: Grid
    store: Store
    slots: Slots

    @property
    def to_do(self) -> list[Cell]:
        """The cells that would be run."""
        return self.grid.missing(self.store)

    def seconds(self) -> float:
        """A rough wall time of the run, from a few updates and steps timed here."""
        return estimate_seconds(self.to_do, self.slots) if self.to_do else 0.0

    def without_room(self) -> list[str]:
        """Of the environments that were rated here: those that leave an encoder nothing to learn.

        See 'benchbench data rate'.
        """
        kinds = {(cell.data, cell.pixels, cell.agent.encoder): cell for cell in self.grid.wanted}
        ratings = ((cell, stored_rating(cell)) for cell in kinds.values())
        delta = self.grid.suite.deltas.r2
        told = (no_room(cell, rating, delta) for cell, rating in ratings if rating)
        return [warning for warning in told if warning]

    def unmeasurable(self) -> list[str]:
        """Of the data sets that are here: why 'run' would refuse one."""
        told = []
        for identity in dict.fromkeys(cell.data for cell in self.to_do):
            if is_here(identity):
                try:
                    refuse_unmeasurable([cell for cell in self.to_do if cell.data == identity])
                except UserError as error:
                    told.append(error.message)
        return told

    def text(self) -> str:
        """The plan for the terminal."""
        return "\n".join(self.parts())

    def parts(self) -> Iterator[str]:
        """The plan piece by piece: the time, which is tried here, comes last."""
        cells, slots, to_do = self.grid.wanted, self.slots, self.to_do
        devices = ", ".join(
            f"{device} ({device.model}, {memory_text(device)})" if device.model else str(device)
            for device in slots.devices
        )
        lines = [
            *_grid_lines(cells, self.store),
            "",
            f"cells    {len(cells)}: {len(cells) - len(to_do)} done, {len(to_do)} to run",
            f"devices  {devices}; {slots.jobs} at a time at most, {slots.threads} CPU threads each",
        ]
        lines += _data_lines(list(dict.fromkeys(cell.data for cell in cells)))
        lines += [f"problem  {told}" for told in self.unmeasurable()]
        lines += [f"pictures {told}" for told in self.without_room()]
        lines += [f"left out {env}: {why}" for env, why in self.grid.left_out.items()]
        lines.append(f"results  {self.store.folder}")
        if size := policies_size(self.grid, self.store):
            lines.append(f"policies {size}")
        yield "\n".join(lines)
        if to_do:
            yield f"time     {_time_told(to_do, slots)}"


def no_room(cell: Cell, rating: Rating, delta: float) -> str | None:
    """A sentence on pictures that leave an encoder less than ``delta`` to learn; else None."""
    if not rating.room < delta or rating.untrained is None or rating.trained is None:
        return None
    return (
        f"{cell.stratum}: an untrained encoder reads the state with R² {rating.untrained:.2f}, one "
        f"trained on it with {rating.trained:.2f}; the room between is under deltas.r2 "
        f"({delta:g}), so no way of training the encoder can show. Take harder pictures "
        "(pixels.distract) or another task"
    )


def policies_size(grid: Grid, store: Store) -> str:
    """What the kept policies of the wanted cells take on the disk; '' where none are kept."""
    if not any(cell.keep_policy for cell in grid.wanted):
        return ""
    sizes: dict[object, int | None] = {}
    kinds = [(*shape_of(cell), cell.routing.encoders) for cell in grid.wanted]
    for kind, cell in dict(zip(kinds, grid.wanted, strict=True)).items():
        path = store.policy_path(cell.key)
        sizes[kind] = path.stat().st_size if path.exists() else _weights_size(cell)
    known = [size for size in map(sizes.__getitem__, kinds) if size is not None]
    unknown = len(kinds) - len(known)
    parts = [f"{format_bytes(sum(known))} for the weights of {len(known)} cells"] if known else []
    parts += [f"those of {unknown} with code of your own are not known"] if unknown else []
    return f"{', '.join(parts)}; keep: {{policies: false}} in the suite leaves them out"


def _weights_size(cell: Cell) -> int | None:
    """Bytes of the weights of a cell that has not been run; None where the user's code raises."""
    try:
        make = agent_class(cell.agent.algorithm)
        cpu = torch.device("cpu")
        agent = make(spec_of(cell), cell.agent, cell.routing, cell.stream, cpu)
        networks = (*agent.modules().values(), *agent.target_modules().values())
        parameters = [p for network in networks for p in network.state_dict().values()]
    except Exception:
        if not cell.own_code:
            raise
        return None  # 'run' will say what is wrong with it
    return sum(p.numel() * p.element_size() for p in parameters)


def too_long_here(cells: Sequence[Cell], slots: Slots) -> str | None:
    """On a CPU, a sentence on how long a very large grid takes there; None for any other."""
    updates = sum(cell.train.updates for cell in cells)
    if updates < MANY_UPDATES or any(device.kind != "cpu" for device in slots.devices):
        return None
    return (
        f"{updates:,} updates on a CPU: {_time_told(cells, slots)}; 'benchbench run quickstart' "
        "asks the same question in minutes. Ctrl-C stops this run"
    )


def _time_told(cells: Sequence[Cell], slots: Slots) -> str:
    """How long the cells take; unknown where code of the user's own fails in the trial."""
    try:
        seconds = estimate_seconds(cells, slots)
        return f"{_duration(seconds)} of training and measuring, by a short trial here"
    except Exception as error:
        if not any(cell.own_code for cell in cells):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"not known, as your code raised in a short trial here ({text})"


def _grid_lines(cells: Sequence[Cell], store: Store) -> list[str]:
    """A table: env and seed down, variants across."""
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for cell in cells:
        state = "done" if store.is_done(cell.key) else "-"
        if state == "-" and store.failure(cell.key):
            state = "failed"
        rows.setdefault((cell.stratum, cell.seed), {})[cell.variant] = state
    wide = max(len(env) for env, _ in rows)
    widths = [max(len(v), 6) for v in variants]
    header = "  ".join(v.ljust(w) for v, w in zip(variants, widths, strict=True))
    lines = [f"{'env'.ljust(wide)}  seed  {header}"]
    for (env, seed), states in rows.items():
        marks = "  ".join(states.get(v, "").ljust(w) for v, w in zip(variants, widths, strict=True))
        lines.append(f"{env.ljust(wide)}  {seed:>4}  {marks}".rstrip())
    return lines


def _data_lines(identities: Sequence[DataIdentity]) -> list[str]:
    """A line an environment: its set, or how many of its sets are here and what the rest take."""
    by_env: dict[str, list[DataIdentity]] = {}
    for identity in identities:
        by_env.setdefault(identity.env, []).append(identity)
    lines = []
    for env, sets in by_env.items():
        missing = [one for one in sets if not is_here(one)]
        if len(sets) == 1:
            state = "missing, will be made" if missing else "here"
            lines.append(f"data     {env}: {state} ({set_folder(sets[0])})")
            continue
        state = f"{len(sets)} sets, {len(sets) - len(missing)} here"
        if missing:
            taken = sum(room_for(one, maker_of(one).count(one)) for one in missing)
            state += f", {len(missing)} missing, will be made ({format_bytes(taken)})"
        lines.append(f"data     {env}: {state} ({set_folder(sets[0]).parent})")
    return lines


def _duration(seconds: float) -> str:
    """A time to two digits: a trial of a few seconds knows no more."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if (count := seconds / length) < most:
            return f"about {_two_digits(count)} {unit}"
    return f"about {_two_digits(seconds / 86_400)} days"


def _two_digits(count: float) -> str:
    if count < 10:
        return f"{count:.2g}"
    step = 10 ** (math.floor(math.log10(count)) - 1)
    return f"{round(count / step) * step:,}"
