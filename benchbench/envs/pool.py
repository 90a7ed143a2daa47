"""The environments of a cell, side by side: in its own process, and in workers where it has some.

The policy stays in the cell's process. All environments get their actions, then all are waited for:
each worker steps and draws its share meanwhile, the cell's process its own. Which process plays an
environment does not change a bit of what it shows.

Workers are spawned when the pool is first used, for CUDA does not outlive a fork, and import the
simulators alone. They talk through pipes: a step through a process pool of the standard library
takes half a millisecond of this process, through a pipe a tenth of that.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, NoReturn

import numpy as np

from benchbench.core.processes import begin_worker
from benchbench.envs import PixelEnv

Make = Callable[[], PixelEnv]
Saved = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What :meth:`PixelEnv.set_state` takes."""

CLOSING_SECONDS = 5.0
"""A worker that has not ended by itself by then is killed."""


class WorkerDied(RuntimeError):
    """A process that plays episodes ended without an answer."""


class Shown(NamedTuple):
    """What an environment shows once it is reset, put back or stepped; see :class:`PixelEnv`."""

    reward: float
    data_reward: float
    terminal: bool
    timeout: bool
    state: np.ndarray
    proprio: np.ndarray
    frame: np.ndarray | None
    """None where it was not requested, and where the episode has ended."""


class Pool:
    """``count`` environments, known by their places 0, 1, …, in at most ``processes`` processes.

    ``make`` makes one; with more than one process it has to be picklable. ``proprio`` is what is
    asked of each, ``pixels`` whether frames are. What an environment raises in a worker is raised
    here as itself, its traceback printed by the worker; a worker that dies raises
    :class:`WorkerDied`. Either way the pool is closed.
    """

    def __init__(
        self,
        make: Make,
        count: int,
        *,
        processes: int = 1,
        proprio: Sequence[str] = (),
        pixels: bool = True,
    ) -> None:
        self.count, self.pixels = count, pixels
        each = -(-count // processes)  # no more processes than finish sooner
        shares = [range(k, count, n) for n in [-(-count // each)] for k in range(n)]
        self._make, self._proprio = make, tuple(proprio)
        self._own = _Envs(make, shares[0], self._proprio)
        self._shares = shares[1:]
        self._workers: list[_Worker] = []

    @property
    def processes(self) -> int:
        """How many processes play, this one included."""
        return 1 + len(self._shares)

    @property
    def can_reset(self) -> bool:
        """See :class:`PixelEnv`."""
        return self._own.envs[0].can_reset

    @property
    def action_dim(self) -> int:
        """See :class:`PixelEnv`."""
        return self._own.envs[0].action_dim

    @property
    def max_episode_steps(self) -> int:
        """See :class:`PixelEnv`."""
        return self._own.envs[0].max_episode_steps

    def normalized_score(self, return_: float) -> float:
        """See :class:`PixelEnv`."""
        return self._own.envs[0].normalized_score(return_)

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Shown]:
        """Begin the episodes of the seeds, by place."""
        return self._ask("reset", {place: (seed,) for place, seed in seeds.items()}, self.pixels)

    def set_state(self, saved: Mapping[int, Saved]) -> dict[int, Shown]:
        """Put environments back to stored rows, without drawing their frames."""
        return self._ask("set_state", saved, False)

    def step(self, actions: Mapping[int, np.ndarray], *, draw: bool = True) -> dict[int, Shown]:
        """Take the actions (A,), by place; returns what is shown in the order of the actions."""
        wanted = {place: (action,) for place, action in actions.items()}
        return self._ask("step", wanted, draw and self.pixels)

    def close(self) -> None:
        """Shut the simulators and the workers down."""
        for worker in self._workers:
            worker.let_go()  # so that they end all at once
        while self._workers:
            self._workers.pop().close()
        self._own.close()

    def _ask(
        self, method: str, wanted: Mapping[int, tuple[Any, ...]], draw: bool
    ) -> dict[int, Shown]:
        if not self._workers:
            of = (self._make, self._proprio)
            self._workers = [_Worker(share, *of) for share in self._shares]
        try:
            asked = [worker for worker in self._workers if worker.share_of(wanted)]
            for worker in asked:
                worker.send(method, worker.share_of(wanted), draw)
            own = {place: what for place, what in wanted.items() if place in self._own.envs}
            shown = self._own.answer(method, own, draw)
            for worker in asked:
                shown |= worker.receive()
        except BaseException:  # or the next answer could be to this question
            self.close()
            raise
        return {place: shown[place] for place in wanted}


class _Envs:
    """The environments that one process plays, by place."""

    def __init__(self, make: Make, places: Sequence[int], proprio: tuple[str, ...]) -> None:
        self.envs = {place: make() for place in places}
        self._proprio = proprio

    def answer(
        self, method: str, wanted: Mapping[int, tuple[Any, ...]], draw: bool
    ) -> dict[int, Shown]:
        """Call ``method`` of the environments with the arguments that stand at their places.

        All are asked before the first is drawn: what one call has brought into the processor's
        caches serves the next.
        """
        outcomes = {
            place: getattr(self.envs[place], method)(*what) for place, what in wanted.items()
        }
        return {
            place: self._shown(self.envs[place], outcome, draw)
            for place, outcome in outcomes.items()
        }

    def close(self) -> None:
        """Shut the simulators down."""
        for env in self.envs.values():
            env.close()

    def _shown(self, env: PixelEnv, outcome: tuple[float, bool, bool] | None, draw: bool) -> Shown:
        """What an environment shows after a step with that ``outcome``, or as an episode begins."""
        reward, terminal, timeout = outcome or (0.0, False, False)
        return Shown(
            reward,
            env.data_reward() if outcome else 0.0,
            terminal,
            timeout,
            env.state(),
            env.proprio(self._proprio),
            env.frame() if draw and not terminal else None,
        )


class _Worker:
    """A process that plays a share of the environments, as the cell's process sees it."""

    def __init__(self, share: Sequence[int], make: Make, proprio: tuple[str, ...]) -> None:
        context = get_context("spawn")
        self._share = share
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, share, proprio), name="episodes", daemon=True
        )
        # Slurm tells a job's every process to end. The cell answers; its workers never hear of it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        # At the latest when this process ends, whatever ends it; not by SIGTERM, which is blocked.
        self.close = Finalize(self, _end, (self._pipe, self._process), exitpriority=10)

    def share_of(self, wanted: Mapping[int, tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
        """The part of the request that is this worker's."""
        return {place: wanted[place] for place in self._share if place in wanted}

    def send(self, *request: object) -> None:
        """Ask for what :meth:`receive` then waits for."""
        try:
            self._pipe.send(request)
        except OSError:
            self._died()

    def receive(self) -> dict[int, Shown]:
        """The answer; raises what the worker raised."""
        try:
            answer: dict[int, Shown] | Exception = self._pipe.recv()
        except (EOFError, OSError):
            self._died()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def let_go(self) -> None:
        """Tell the worker to end."""
        self._pipe.close()

    def _died(self) -> NoReturn:
        self._process.join(CLOSING_SECONDS)
        code = self._process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else "ended"
        raise WorkerDied(
            f"a process that plays the cell's episodes {how} (exit code {code}), most likely for "
            "want of memory; free some, or run with --eval-processes 1"
        ) from None


def _end(pipe: Connection, process: BaseProcess) -> None:
    pipe.close()
    process.join(CLOSING_SECONDS)
    process.kill()
    process.join()


def _serve(pipe: Connection, make: Make, share: Sequence[int], proprio: tuple[str, ...]) -> None:
    """In a worker: answer until the pipe is closed."""
    begin_worker()
    envs: _Envs | None = None
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        answer: object
        try:
            envs = envs or _Envs(make, share, proprio)
            answer = envs.answer(*request)
        except Exception as error:
            traceback.print_exc()
            answer = _portable(error)
        pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """The error, or its name and words where it would not come through a pipe."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # of whatever library raised it
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
