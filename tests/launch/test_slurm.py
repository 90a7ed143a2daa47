"""Cells as Slurm jobs: through submitit's stand-in everywhere, and on a real Slurm where it is.

The real one has its own daemons, started and stopped here: a controller and a node on this machine.
They need root, ``slurmctld``, ``slurmd`` and ``munged`` (Debian: ``slurm-wlm`` and ``munge``).
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers.elsewhere import Bench, Heard, end, long_suite, results
from helpers.suites import TINY
from helpers.waiting import HANGS, wait_for

import benchbench
from benchbench.cell.devices import Device, cpu_count
from benchbench.core.errors import UserError
from benchbench.launch import slurm
from benchbench.launch.executor import DEFAULTS
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.run import run_suite
from benchbench.launch.slurm import Cluster, Group, Slurm, load_cluster
from benchbench.results.failures import Failure
from benchbench.results.heartbeat import Heartbeat, HeartbeatWriter
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

pytest.importorskip("submitit", reason="submitit is not installed")

SUITE = Suite.model_validate(TINY)
CELLS = expand(SUITE)


@pytest.fixture
def jobs_find_benchbench(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(benchbench.__file__).parents[1]))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


def test_jobs_give_the_same_results_as_this_machine(tmp_path, tiny_data, jobs_find_benchbench):
    """A packed group, in a process that submitit starts."""
    here, there = Store(tmp_path / "here", "tiny"), Store(tmp_path / "there", "tiny")
    slots = Slots.choose([Device("cpu")], 2, 3)
    assert run_suite(Grid.of(SUITE), here, Local(slots)) == []
    executor = Slurm(Cluster(cells_per_job=3), per_device=2, kind="local", poll=0.2)
    assert run_suite(Grid.of(SUITE), there, executor) == []
    one, other = results(here), results(there)
    for name in TABLES:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)
    assert not (there.folder / ".slurm-jobs.json").exists()


def test_a_cell_whose_job_vanishes_is_submitted_again_and_then_failed_by_name(
    tmp_path, tiny_data, jobs_find_benchbench, monkeypatch
):
    monkeypatch.setattr(slurm, "VANISHED_SECONDS", 0.0)
    monkeypatch.setattr(slurm.Slurm, "queued", lambda self, jobs: set())
    store, heard = Store(tmp_path, "tiny"), Heard()
    options = replace(DEFAULTS, retries=1)
    submitted = []

    class Gone:
        class paths:
            result_pickle = tmp_path / "never"
            stderr = tmp_path / "log"

        def __init__(self, number):
            self.job_id = f"7_{number}"

        def cancel(self, check):
            raise AssertionError("nothing is left to cancel")

    def submit(self, groups, store):
        submitted.append([cell.key for group in groups for cell in group.cells])
        return [Gone(number) for number, _ in enumerate(groups)]

    monkeypatch.setattr(slurm.Slurm, "submit", submit)
    Slurm(Cluster(), kind="local", poll=0.01).run(CELLS, store, heard, options)
    keys = {cell.key for cell in CELLS}
    assert [set(round_) for round_ in submitted] == [keys, keys]
    assert set(heard.of("retrying")) == set(heard.of("failed")) == keys
    assert store.failure(CELLS[0].key).kind == "killed"
    assert "7_" in store.failure(CELLS[0].key).text


def test_a_full_disk_cancels_the_jobs_in_which_no_cell_runs(tmp_path, tiny_data, monkeypatch):
    """A job has given its cell up for the disk; of the others one is at work and one waits."""
    store, heard, cancelled = Store(tmp_path, "tiny"), Heard(), []

    class Job:
        def __init__(self, number):
            self.job_id = f"7_{number}"
            self.paths = SimpleNamespace(result_pickle=tmp_path / f"{number}.pkl", stderr="log")

        def cancel(self, check):
            cancelled.append(self.job_id)

    def submit(self, groups, store):
        self.jobs = [Job(number) for number, _ in enumerate(groups)]
        failed, working, _ = (group.cells[0] for group in groups)
        store.record_failure(failed, Failure("disk", "No space left on device"))
        self.jobs[0].paths.result_pickle.touch()
        beat = Heartbeat.of_this_process(working.key, "cpu", 12)
        HeartbeatWriter(store.heartbeat_path(working.key), beat).tell(3, 0)
        return self.jobs

    def queued(self, jobs):  # the second job's cell is done at the second look
        if ended := heard.of("ended"):
            (working,) = (c for c in CELLS if [c.key] not in ended and not store.failure(c.key))
            store.cell_folder(working.key).mkdir(parents=True, exist_ok=True)
        return {job.job_id for job in self.jobs[1:]}

    row = {"final_score": 1.0, "total_seconds": 2.0}
    monkeypatch.setattr("benchbench.launch.supervise.published_row", lambda *_: row)
    monkeypatch.setattr(slurm.Slurm, "submit", submit)
    monkeypatch.setattr(slurm.Slurm, "queued", queued)
    Slurm(Cluster(), kind="local", poll=0.01).run(CELLS, store, heard, DEFAULTS)
    assert cancelled == ["7_2"]
    assert len(heard.of("failed")) == len(heard.of("finished")) == 1
    assert [reason for said, _, reason in heard.said if said == "ended"] == [
        "the disk takes no results"
    ]


def test_a_group_leaves_out_what_is_done(tmp_path, tiny_data, monkeypatch):
    store = Store(tmp_path, "tiny")
    for cell in CELLS:
        store.cell_folder(cell.key).mkdir(parents=True)
    monkeypatch.setattr(slurm, "Local", lambda *arguments: pytest.fail("nothing to run"))
    Group(tuple(CELLS), store, DEFAULTS, 3, on_gpu=False, per_device=None)()


def test_a_job_uses_the_processors_that_it_was_given(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert cpu_count() == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("partition: gpu\ngpu: 1\n", "gpu: extra inputs are not permitted; the keys are partition"),
        ("cpus: none\n", "cpus: input should be a valid integer"),
        ("[1\n", "is not valid YAML"),
    ],
)
def test_a_wrong_cluster_file_is_one_sentence_with_the_key(tmp_path, text, told):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        load_cluster(path)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------- a real Slurm

MISSING = [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(tool)]
REAL = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0,
    reason=f"needs root and Slurm; missing here: {', '.join(MISSING) or 'root'}",
)
CONF = """\
ClusterName=benchbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=15
SchedulerParameters=sched_interval=2,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def real_slurm():
    """A controller and a node with sockets, ports, state and key of their own."""
    folder = Path(tempfile.mkdtemp(prefix="benchbench-slurm-", dir="/tmp"))
    folder.chmod(0o755)  # munged refuses a folder that others can write
    munge, host = pwd.getpwnam("munge"), socket.gethostname().split(".")[0]
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("m", "state", "spool"):
        (folder / name).mkdir()
    for path in (key, folder / "m"):
        os.chown(path, munge.pw_uid, munge.pw_gid)
    text = CONF.format(folder=folder, host=host, ports=free_ports(2))
    text = text.replace(f"{folder}/munge.socket", f"{folder}/m/socket")
    (folder / "slurm.conf").write_text(text)
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    m = folder / "m"
    commands = [
        ["munged", "--foreground", f"--key-file={key}", f"--socket={m}/socket",
         f"--pid-file={m}/pid", f"--log-file={m}/log", f"--seed-file={m}/seed"],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-c"],
    ]  # fmt: skip
    started = []
    log = (folder / "daemons.log").open("wb")
    try:
        for command in commands:
            user = {"user": munge.pw_uid, "group": munge.pw_gid} if command[0] == "munged" else {}
            started.append(
                subprocess.Popen(
                    command, env=env, stdout=log, stderr=log, start_new_session=True, **user
                )
            )
            if command[0] == "munged":
                wait_for((m / "socket").exists, lambda: logs(folder))

        def idle():
            asked = ["sinfo", "--noheader", "--format=%t"]
            told = subprocess.run(asked, env=env, capture_output=True, text=True, check=False)
            return told.stdout.strip() == "idle"

        wait_for(idle, lambda: logs(folder))
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def logs(folder):
    files = [folder / "daemons.log", *folder.glob("slurm*.log"), folder / "m" / "log"]
    return "\n".join(f.read_text(errors="replace")[-3000:] for f in files if f.exists())


class OnSlurm(Bench):
    """benchbench run --executor slurm, and the queue."""

    def __init__(self, folder, data, slurm_env, told):
        options = ["--executor", "slurm", "--cluster", "cluster.yaml"]
        super().__init__(folder, data, told, slurm_env, options)
        (folder / "cluster.yaml").write_text("partition: test\ncpus: 1\nminutes: 30\n")

    def queue(self):
        return self.ask("squeue", "--noheader", "--array", "--format=%i %T").stdout.split("\n")


@REAL
@pytest.mark.slow
def test_a_grid_on_a_real_slurm(tmp_path, data_home, real_slurm):
    bench = OnSlurm(tmp_path, data_home, real_slurm, TINY)
    out = end(bench.start())
    assert out.count("done    ") == 3
    assert all(bench.store.is_done(cell.key) for cell in bench.cells)
    assert list(read_results(bench.store.folder).cells["status"]) == ["done"] * 3


@REAL
@pytest.mark.slow
def test_a_job_that_slurm_requeues_goes_on_from_its_checkpoint(tmp_path, data_home, real_slurm):
    bench = OnSlurm(tmp_path, data_home, real_slurm, long_suite())
    process = bench.start("--checkpoint-every", "0.5")
    cell = wait_for(lambda: bench.at_work(50), bench.queue)
    job_id = bench.queue()[0].split()[0]
    bench.ask("scontrol", "requeue", job_id)
    wait_for(lambda: bench.queue()[0] == f"{job_id} PENDING", bench.queue)
    bench.ask("scontrol", "update", f"JobId={job_id}", "StartTime=now")  # else after two minutes
    end(process)
    log = bench.store.log_path(cell.key).read_text()
    assert log.count("--- ") == 2  # two processes, one after the other
    (row,) = read_results(bench.store.folder).cells.to_dict("records")

    straight = Store(tmp_path / "straight", "tiny")
    suite = Suite.model_validate(bench.told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        assert (
            run_suite(Grid(suite, (cell,), (cell,)), straight, Local(Slots((Device("cpu"),), 1, 1)))
            == []
        )
    (left_alone,) = read_results(straight.folder).cells.to_dict("records")
    assert row["final_weights"] == left_alone["final_weights"]


@REAL
@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_and_a_killed_run_leaves_none_that_the_next_does_not_end(
    tmp_path, data_home, real_slurm
):
    bench = OnSlurm(tmp_path, data_home, real_slurm, long_suite(100_000))
    process = bench.start("--checkpoint-every", "0.5")
    wait_for(bench.at_work, bench.queue)
    process.send_signal(signal.SIGINT)
    assert "Stopped" in end(process, code=130)
    wait_for(lambda: bench.queue() == [""], bench.queue)

    process = bench.start("--checkpoint-every", "0.5")
    wait_for(bench.at_work, bench.queue)
    first = bench.queue()[0].split()[0]
    process.kill()
    process.communicate(timeout=HANGS)
    assert bench.queue()[0].startswith(f"{first} ")  # the job does not know
    process = bench.start("--checkpoint-every", "0.5")
    wait_for(lambda: bench.queue()[0] and first not in bench.queue()[0], bench.queue)
    wait_for(bench.at_work, bench.queue)
    process.send_signal(signal.SIGTERM)
    end(process, code=143)
