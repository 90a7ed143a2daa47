"""What a run would do: the grid, what is done, the data, the devices, the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from benchbench.agent import agent_class
from benchbench.agent.protocol import AgentSpec
from benchbench.cell.build import side_by_side
from benchbench.cell.devices import memory_text
from benchbench.core.errors import UserError
from benchbench.core.files import SILENT_SECONDS
from benchbench.data.batch import Batch
from benchbench.data.sources import maker_of
from benchbench.data.store import format_bytes, is_here, room_for, set_folder
from benchbench.diagnostics.preconditions import refuse_unmeasurable
from benchbench.diagnostics.reference_encoder import Rating, stored_rating
from benchbench.envs import make_pixel_env
from benchbench.launch.resources import Slots
from benchbench.results.store import Store
from benchbench.results.tables import FINAL_SHARE
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import family_of
from benchbench.suite.grid import Cell, Grid

TRIAL_SECONDS = 2.0
"""Seconds of trial updates for the estimate, shared by the kinds of agents in a grid."""

TRIAL_BATCH = 16
"""The most observations of a trial update on a CPU: there an update's time goes with its batch."""

MANY_UPDATES = 1_000_000
"""From this many updates on, a CPU run gets a warning."""

TRIAL_STEPS = 30
"""Trial environment steps for the estimate."""


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
    kinds = [(*_shape(cell), cell.routing.encoders) for cell in grid.wanted]
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
        agent = make(_spec(cell), cell.agent, cell.routing, cell.stream, cpu)
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
        return f"{_duration(seconds)} of updates and episodes, by a short trial here"
    except Exception as error:
        if not any(cell.own_code for cell in cells):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"not known, as your code raised in a short trial here ({text})"


def estimate_seconds(cells: Sequence[Cell], slots: Slots) -> float:
    """A rough wall time for the cells on the CPU or one GPU: a few updates and steps, timed."""
    agents = {_agent_kind(cell): cell for cell in cells}
    envs = {_env_kind(cell): cell for cell in cells}
    tried = TRIAL_SECONDS / max(1, len(agents))
    updates, steps = {}, {}
    with tqdm(
        total=len(agents) + len(envs), desc="a short trial", unit="kind", dynamic_ncols=True,
        delay=SILENT_SECONDS, leave=False, disable=None,
    ) as bar:  # fmt: skip
        for agent, cell in agents.items():
            updates[agent] = _agent_seconds(cell, slots, tried)
            bar.update()
        for env, cell in envs.items():
            steps[env] = _step_seconds(cell)
            bar.update()
    total = 0.0
    for cell in cells:
        update_seconds, act_seconds = updates[_agent_kind(cell)]
        step_seconds, longest = steps[_env_kind(cell)]
        every, count = cell.evaluate.every, cell.train.updates
        early = math.ceil((1 - FINAL_SHARE) * count / every)
        late = math.ceil(count / every) - early + 1
        for evaluations, episodes in (
            (count // every + 1, cell.evaluate.episodes),
            (late, cell.evaluate.final_episodes),
        ):
            rounds = math.ceil(episodes / side_by_side(cell))
            playing = longest * (episodes * step_seconds + rounds * act_seconds)
            total += evaluations * playing
        total += count * update_seconds
    return total / slots.jobs


def _agent_kind(cell: Cell) -> tuple[object, ...]:
    """Cells that are alike in this take the same time an update."""
    return (cell.variant, *_shape(cell), cell.train.batch_size, side_by_side(cell))


def _shape(cell: Cell) -> tuple[object, ...]:
    """What networks and arithmetic follow from: no number with a point, such as a rate."""
    counted = [(k, str(v)) for k, v in cell.agent.identity().items() if not isinstance(v, float)]
    return (*counted, cell.observation, cell.pixels.size, cell.pixels.stack, len(cell.proprio))


def _env_kind(cell: Cell) -> tuple[object, ...]:
    return cell.env, cell.pixels.size, cell.action_repeat


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


def _spec(cell: Cell) -> AgentSpec:
    """What a trial's agent must fit, before the data are known."""
    pixels = cell.observation == "pixels"
    return AgentSpec(
        action_dim=2,
        channels=3 * cell.pixels.stack if pixels else 0,
        size=cell.pixels.size if pixels else 0,
        proprio_dim=len(cell.proprio),
        state_dim=8,
        min_value=0.0,
        max_value=1.0,
    )


def _agent_seconds(cell: Cell, slots: Slots, tried: float) -> tuple[float, float]:
    """Seconds of an update on random data, and of the actions for episodes played side by side."""
    device = torch.device(slots.devices[0].kind)
    size, channels, batch_size = cell.pixels.size, 3 * cell.pixels.stack, cell.train.batch_size
    if device.type == "cpu":
        batch_size = min(batch_size, TRIAL_BATCH)
    pixels = cell.observation == "pixels"
    spec = _spec(cell)
    shape = (batch_size, size, size, channels)
    frames = torch.zeros(shape, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    obs = frames if pixels else torch.zeros(batch_size, 8, device=device)
    zeros = torch.zeros(batch_size, device=device)
    proprio = torch.zeros(batch_size, len(cell.proprio), device=device)
    action = torch.zeros(batch_size, 2, device=device)
    batch = Batch(obs, proprio, action, zeros, zeros, obs, proprio)
    before = torch.get_num_threads()
    torch.set_num_threads(slots.threads)
    try:
        make = agent_class(cell.agent.algorithm)
        agent = make(spec, cell.agent, cell.routing, cell.stream, device)

        def update() -> None:
            *_, last = agent.update(batch).values()
            float(last)  # waits for the device

        beside = side_by_side(cell)
        acting = obs[:1].expand(beside, *obs.shape[1:]), proprio[:1].expand(beside, -1)
        act_seconds = _seconds_of(lambda: agent.act(*acting).cpu(), tried / 8)
        update_seconds = _seconds_of(update, tried / 2)
        return update_seconds * cell.train.batch_size / batch_size, act_seconds
    finally:
        torch.set_num_threads(before)


def _seconds_of(work: Callable[[], object], tried: float) -> float:
    """Seconds of one call of ``work``, repeated for ``tried`` seconds after a first call.

    A first call that is longer than that is told as it was.
    """
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) > tried:
        return first
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < tried:
        work()
        times += 1
    return (time.perf_counter() - start) / times


def _step_seconds(cell: Cell) -> tuple[float, int]:
    """Seconds of a step with its picture, from a few, and how many an episode may last."""
    if not family_of(cell.env).scored:
        return 0.0, 0
    env = make_pixel_env(cell.env, cell.pixels.size, cell.action_repeat)
    try:
        env.reset(0)
        start = time.perf_counter()
        for _ in range(TRIAL_STEPS):
            env.step(np.zeros(env.action_dim))
            env.frame()
        return (time.perf_counter() - start) / TRIAL_STEPS, env.max_episode_steps
    finally:
        env.close()


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
