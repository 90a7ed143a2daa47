"""Cells as jobs of a Slurm cluster, through submitit.

A job runs a group of cells by :class:`Local`, packed on the devices that Slurm gives it. A job
that is preempted, or out of time, is queued again and its cells go on from their checkpoints. What
became of a cell is read from its own files; Slurm is only asked which jobs are still there, so that
one that vanished is seen. No accounting is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError

from benchbench.cell.devices import choose_devices
from benchbench.core.errors import UserError
from benchbench.core.files import from_json, write_text
from benchbench.core.settings import Count, Settings
from benchbench.core.yaml_text import read_yaml
from benchbench.launch.executor import NullWatcher, RunOptions, Watcher
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots, known_from, tasks_of
from benchbench.launch.supervise import Next, Supervisor, wait_until_stopped
from benchbench.launch.worker import CellRunner
from benchbench.results.failures import Failure
from benchbench.results.heartbeat import read_heartbeat
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

POLL_SECONDS = 5.0
"""Seconds between looks at the results folder and the queue."""

VANISHED_SECONDS = 30.0
"""Seconds that a cell's files may take to arrive after its job left the queue."""

TIMEOUTS = 10_000
"""A job that runs out of time is queued again, at most this often."""


class Cluster(Settings):
    """A cluster file: what each job asks of Slurm."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: Count = Field(240, description="time limit of a job; a cell goes on in the next one")
    cpus: Count = 4
    memory_gb: Count | None = None
    gpus: Annotated[int, Strict(), Field(ge=0)] = Field(0, description="0: cells run on the CPU")
    gpu_type: str | None = Field(None, description="as in gres=gpu:TYPE:N")
    cells_per_job: Count = Field(1, description="a packed group shares the job's devices")
    jobs_at_once: Count = Field(256, description="of the job array")
    setup: tuple[str, ...] = Field((), description="shell lines before a job, such as module load")


def load_cluster(path: Path | None) -> Cluster:
    """Read a cluster file; without one, every default. Raises :class:`UserError`."""
    if path is None:
        return Cluster()
    try:
        raw, _ = read_yaml(path)
        return Cluster.model_validate({} if raw is None else raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {key}: {first['msg'].lower()}; the keys are {', '.join(Cluster.model_fields)}"
        ) from None


@dataclass(frozen=True)
class Group:
    """What one job does: some cells, on the devices it has."""

    cells: tuple[Cell, ...]
    store: Store
    options: RunOptions
    size: int
    """How many cells a full group has; the last may have fewer, and takes no more threads."""
    on_gpu: bool
    per_device: int | None
    run_one: CellRunner | None = None

    def __call__(self) -> None:
        """Run those of the cells that are not done."""
        cells = [cell for cell in self.cells if not self.store.is_done(cell.key)]
        if not cells:
            return
        devices = choose_devices("cuda" if self.on_gpu else "cpu")
        slots = Slots.choose(devices, None, self.size, self.per_device)
        Local(slots, self.run_one).run(cells, self.store, NullWatcher(), self.options)

    def checkpoint(self) -> Any:
        """Submitit asks for this before it queues the job again: the same once more."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm:
    """Runs cells as Slurm jobs; ``kind`` 'local' is submitit's stand-in, for tests.

    Raises :class:`UserError` where submitit or Slurm is not installed here, or Slurm refuses.
    """

    def __init__(
        self,
        cluster: Cluster,
        per_device: int | None = None,
        kind: Literal["slurm", "local"] = "slurm",
        poll: float = POLL_SECONDS,
        run_one: CellRunner | None = None,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--executor slurm needs submitit; install it with: pip install 'benchbench[slurm]'"
            ) from None
        if kind == "slurm" and shutil.which("sbatch") is None:
            raise UserError("--executor slurm: no sbatch here; run it where jobs are submitted")
        self._submitit = submitit
        self.cluster, self.per_device, self.kind, self.poll = cluster, per_device, kind, poll
        self.run_one = run_one

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells; returns when each is done or has failed for good.

        Whatever ends this early, ends the jobs too; their cells leave checkpoints.
        """
        store = Store(store.folder.parent.absolute(), store.folder.name)
        self._end_left_over(cells, store)
        of_key = {cell.key: cell for cell in cells}
        kind = "cuda" if self.cluster.gpus else "cpu"
        longest = sorted(tasks_of(cells, known_from(store, kind)), key=lambda task: -task.length)
        watch = _Watch(self, store, watcher, options)
        with watch.jobs_ended():
            watch.submit([of_key[task.key] for task in longest])
            while watch.jobs:
                time.sleep(self.poll)
                watch.look()

    def submit(self, groups: Sequence[Group], store: Store) -> list[Any]:
        """One job a group, as one array; returns submitit's jobs."""
        c, folder = self.cluster, store.folder / "slurm"
        executor = self._submitit.AutoExecutor(
            folder=folder, cluster=self.kind, slurm_max_num_timeout=TIMEOUTS
        )
        gres = f"gpu:{c.gpu_type}:{c.gpus}" if c.gpu_type else f"gpu:{c.gpus}"
        wanted: dict[str, Any] = {
            "name": job_name(store),
            "timeout_min": c.minutes,
            "cpus_per_task": c.cpus,
            "mem_gb": c.memory_gb,
            "slurm_partition": c.partition,
            "slurm_account": c.account,
            "slurm_qos": c.qos,
            "slurm_constraint": c.constraint,
            "slurm_gres": gres if c.gpus else None,
            "slurm_array_parallelism": c.jobs_at_once,
            "slurm_setup": list(c.setup) or None,
            "slurm_additional_parameters": {"requeue": True},
        }
        executor.update_parameters(**{k: v for k, v in wanted.items() if v is not None})
        try:
            with executor.batch():
                jobs = [executor.submit(group) for group in groups]
        except self._submitit.core.utils.FailedJobError as error:
            raise UserError(f"Slurm refuses the jobs: {' '.join(str(error).split())}") from None
        return jobs

    def queued(self, jobs: Sequence[Any]) -> set[str]:
        """The ids of those jobs that wait or run."""
        if self.kind == "local":
            return {job.job_id for job in jobs if not job.done()}
        queue = subprocess.run(
            ["squeue", "--noheader", "--array", "--me", "--format=%i"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if queue.returncode:  # the controller is away for a moment, which is no failure
            return {job.job_id for job in jobs}
        return set(queue.stdout.split())

    def _end_left_over(self, cells: Sequence[Cell], store: Store) -> None:
        """End the jobs that a killed 'run' has left, and wait until their cells have stopped."""
        path = _jobs_path(store)
        try:
            ids = [str(job_id) for job_id in from_json(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return
        if self.kind == "slurm" and ids:
            subprocess.run(
                ["scancel", "--quiet", f"--name={job_name(store)}", *ids], check=False, timeout=60
            )
        wait_until_stopped(cells, store)
        path.unlink(missing_ok=True)


def job_name(store: Store) -> str:
    """What the suite's jobs are called in the queue."""
    return f"benchbench-{store.folder.name}"


class _Watch:
    """The cells that are out, and their jobs."""

    def __init__(self, slurm: Slurm, store: Store, watcher: Watcher, options: RunOptions) -> None:
        self.slurm, self.store, self.watcher, self.options = slurm, store, watcher, options
        self.supervisor = Supervisor(store, watcher, options)
        self.jobs: dict[str, Any] = {}
        """The job of each cell that is out, by the cell's key."""
        self.cells: dict[str, Cell] = {}
        self.gone: dict[str, float] = {}
        """When each job was first not in the queue, by its id."""
        self.ending: Next | None = None
        """Why no more cells are started, once that is so."""

    @contextmanager
    def jobs_ended(self) -> Iterator[None]:
        """End what is still queued when the block ends, however it does."""
        try:
            yield
        finally:
            for job in {job.job_id: job for job in self.jobs.values()}.values():
                job.cancel(check=False)
            if self.jobs:
                wait_until_stopped([self.cells[key] for key in self.jobs], self.store)
            _jobs_path(self.store).unlink(missing_ok=True)

    def submit(self, cells: Sequence[Cell]) -> None:
        """Submit the cells in groups, in this order."""
        size = self.slurm.cluster.cells_per_job
        on_gpu, per_device = self.slurm.cluster.gpus > 0, self.slurm.per_device
        common = self.store, self.options, size, on_gpu, per_device, self.slurm.run_one
        groups = [Group(tuple(cells[i : i + size]), *common) for i in range(0, len(cells), size)]
        for group, job in zip(groups, self.slurm.submit(groups, self.store), strict=True):
            for cell in group.cells:
                self.jobs[cell.key], self.cells[cell.key] = job, cell
        ids = sorted({job.job_id for job in self.jobs.values()})
        write_text(_jobs_path(self.store), json.dumps(ids))

    def look(self) -> None:
        """See what became of the cells; cells of jobs that vanished are submitted again."""
        queued = self.slurm.queued(list(self.jobs.values()))
        again: list[Cell] = []
        for key, job in list(self.jobs.items()):
            if key not in self.jobs:  # ended early, by the failure of another cell
                continue
            cell = self.cells[key]
            if self.supervisor.is_done(cell):
                del self.jobs[key]
            elif job.job_id in queued:
                self.gone.pop(job.job_id, None)
                self.supervisor.look(cell)
            elif self._is_over(job):
                del self.jobs[key]
                again.extend(self._ended(cell, job))
        if again and self.ending:
            self.supervisor.end_early(again, self.ending)
        elif again:
            self.submit(again)

    def _is_over(self, job: Any) -> bool:
        """Whether the job has left the queue, and its files have had time to arrive."""
        since = self.gone.setdefault(job.job_id, time.monotonic())
        return job.paths.result_pickle.exists() or time.monotonic() - since > VANISHED_SECONDS

    def _ended(self, cell: Cell, job: Any) -> list[Cell]:
        """A job ended and the cell is not done: the cell, where it is to be submitted again."""
        failure = self.store.failure(cell.key)
        if failure is not None and job.paths.result_pickle.exists():
            verdict = self.supervisor.give_up(cell, failure)  # the job has retried it
        else:
            text = f"its Slurm job {job.job_id} ended without a result (log: {job.paths.stderr})"
            verdict = self.supervisor.failed(cell, Failure("killed", text))
        if verdict is Next.RETRY:
            return [cell]
        if verdict is not Next.GO_ON:
            self._end_early(verdict)
        return []

    def _end_early(self, verdict: Next) -> None:
        """Cancel the jobs that are not to go on: all of them, or those in which no cell runs."""
        self.ending, running = verdict, set[str]()
        if verdict is Next.START_NO_MORE:
            heartbeats = {key: read_heartbeat(self.store.heartbeat_path(key)) for key in self.jobs}
            running = {
                self.jobs[key].job_id
                for key, heartbeat in heartbeats.items()
                if heartbeat and heartbeat.alive
            }
        ended = {key: job for key, job in self.jobs.items() if job.job_id not in running}
        self.supervisor.end_early([self.cells[key] for key in ended], verdict)
        for job in {job.job_id: job for job in ended.values()}.values():
            job.cancel(check=False)
        if verdict is Next.STOP and ended:
            wait_until_stopped([self.cells[key] for key in ended], self.store)
        for key in ended:
            del self.jobs[key]


def _jobs_path(store: Store) -> Path:
    """Where the ids of the jobs that are out stand while they are."""
    return store.folder / ".slurm-jobs.json"
