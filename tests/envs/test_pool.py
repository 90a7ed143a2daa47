"""Episodes in several processes: the same to the bit, and no process hangs or is left behind."""

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import faulty, players
from helpers.suites import TIMES, TINY
from helpers.waiting import HANGS, wait_for

from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.core.errors import UserError
from benchbench.envs.evaluate import Evaluator, RollOuts, Start
from benchbench.envs.pool import Pool, WorkerDied
from benchbench.launch.executor import RunOptions
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots, playing_processes
from benchbench.launch.run import run_suite
from benchbench.results.store import Store
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

SEEDS = [11, 5, 8, 2, 30]
LINUX = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until_gone(pids):
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def one_row(frames, state, proprio):
    """An action that every bit of what is shown has a say in."""
    told = np.sum(frames * np.arange(frames.size).reshape(frames.shape) % 97) + state.sum()
    return np.sin(told + np.arange(2 if len(state) == 4 else 3)) + proprio[0]


def policy(frames, states, proprio):
    return np.stack([one_row(*row) for row in zip(frames, states, proprio, strict=True)])


def plain_returns(env, stack, spacing):
    """One environment, one episode after the other; and rows to go on from."""
    returns, lengths, rows = [], [], []
    for seed in SEEDS:
        env.reset(seed)
        frames, total, ended, reward, noted = [env.frame()], 0.0, False, 0.0, False
        while not ended:
            ages = [max(0, len(frames) - 1 - spacing * age) for age in reversed(range(stack))]
            shown = np.concatenate([frames[age] for age in ages], axis=2)
            action = one_row(shown, env.state(), env.proprio(("velocity",)))
            if reward > 0 and len(frames) >= 5 and not noted:
                rows.append(
                    Start(*env.qpos_qvel(), np.zeros(len(action)), action, np.array(frames), 0, 0)
                )
                noted = True
            reward, terminal, timeout = env.step(action)
            total += reward
            ended = terminal or timeout
            frames.append(env.frame())
        returns.append(total)
        lengths.append(len(frames))
    return returns, lengths, rows


@pytest.mark.parametrize("env_id", [players.MAZE, players.HOPPER])
def test_returns_and_roll_outs_are_the_same_to_the_bit_in_one_process_and_in_several(env_id):
    env = players.maker(env_id)()
    expected, lengths, rows = plain_returns(env, stack=2, spacing=3)
    env.close()
    assert len(set(expected)) > 1
    if env_id == players.HOPPER:
        assert len(set(lengths)) == len(SEEDS)  # they end one by one
    rolled = []  # five episodes in three places
    for processes in (1, 2, 3):
        pool = Pool(players.maker(env_id), 3, processes=processes, proprio=("velocity",))
        assert pool.processes == min(processes, 3)
        found = Evaluator(pool, SEEDS, stack=2, spacing=3).returns(policy)
        assert found.tolist() == expected
        roll_outs = RollOuts(pool, rows, horizon=25, discount=0.9, stack=2, spacing=3)
        rolled.append(np.stack(roll_outs.returns(policy)).tolist())
        pool.close()
    assert rolled[1] == rolled[0]
    assert rolled[2] == rolled[0]
    assert len(set(rolled[0][0])) > 1


def test_no_more_processes_than_shorten_the_wait():
    assert [Pool(players.Odd, 10, processes=n).processes for n in (1, 2, 3, 4, 5, 8, 10, 64)] == [
        1, 2, 3, 4, 5, 5, 10, 10
    ]  # fmt: skip


def odd_pool():
    pool = Pool(players.Odd, 2, processes=2, pixels=False)
    return pool, pool.reset({0: 0, 1: 1})


@LINUX
def test_a_worker_has_no_torch_hears_no_signal_and_ends_with_the_pool():
    pool, shown = odd_pool()
    own, worker = (int(one.state[0]) for one in shown.values())
    assert own == os.getpid() != worker
    assert not shown[1].state[1]
    for sent in (signal.SIGINT, signal.SIGTERM):  # a terminal's to all, Slurm's to all
        os.kill(worker, sent)
    assert pool.step({1: np.zeros(())})[1].reward == 1
    assert list(pool.step({1: np.zeros(()), 0: np.zeros(())})) == [1, 0]
    pool.close()
    wait_until_gone([worker])


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        (1, UserError, "^the camera is broken; mend it$"),
        (2, RuntimeError, "^Lost: this and that$"),
        (3, WorkerDied, r"was ended by SIGKILL .* want of memory; .* --eval-processes 1$"),
        (4, WorkerDied, r"ended \(exit code 7\)"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_and_does_not_hang(action, kind, words):
    pool, shown = odd_pool()
    with pytest.raises(kind, match=words):
        pool.step({0: np.zeros(()), 1: np.array(action)})
    if Path("/proc/self").exists():
        wait_until_gone([int(shown[1].state[0])])


@LINUX
def test_a_killed_process_leaves_no_worker():
    cell = subprocess.Popen([sys.executable, players.__file__], stdout=subprocess.PIPE, text=True)
    assert cell.stdout.readline() == "playing\n"
    workers = children(cell.pid)
    assert len(workers) >= 2
    cell.kill()
    cell.wait(timeout=HANGS)
    cell.stdout.close()
    wait_until_gone(workers)


# ------------------------------------------------------------------ in a cell


def cells():
    told = copy.deepcopy(TINY) | {"variants": ["after"]}
    told["evaluate"]["episodes"] = 3
    told["diagnose"] |= {"q_pairs": 4, "q_horizon": 20}
    suite = Suite.model_validate(told)
    return suite, expand(suite)


def test_a_cells_rows_do_not_depend_on_the_number_of_processes(tiny_data):
    _, (cell,) = cells()
    signs = {1: 0, 3: 0}

    def alive(processes):
        signs[processes] += 1

    rows = [
        run_cell(cell, Device("cpu"), lambda done: None, None, lambda n=n: alive(n), processes=n)
        for n in signs
    ]
    assert signs[1] == signs[3] > 3 * 150  # at each step of the policy
    for table in rows[0]:
        alone, beside = ([{k: v for k, v in row.items() if k not in TIMES} for row in one[table]]
                         for one in rows)  # fmt: skip
        assert beside == alone


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (faulty.kill_a_worker, "raised", "WorkerDied: a process that plays the cell's episodes"),
        (faulty.kill, "killed", "its process was ended by SIGKILL"),
        (faulty.stop, "killed", "told to stop at update 7"),
    ],
)
def test_a_cell_that_fails_with_workers_does_so_by_name_and_leaves_none(
    tiny_data, tmp_path, fault, kind, words
):
    suite, wanted = cells()
    slots = Slots((Device("cpu"),), jobs=1, threads=1)
    options = RunOptions(retries=0, processes=3)
    noted = tmp_path / "noted"
    runner = faulty.Faulty(faulty.WithWorkers(noted, fault), tmp_path / "marks", at=7)
    store = Store(tmp_path, "tiny")
    ((cell, failure, _),) = run_suite(
        Grid(suite, tuple(wanted), tuple(wanted)), store, Local(slots, runner), options
    )
    assert (cell, failure.kind) == (wanted[0], kind)
    assert failure.text.startswith(words)
    workers = noted.read_text().split()
    assert len(workers) == 2
    wait_until_gone(workers)


def test_a_cell_has_a_process_for_each_of_its_cpus_where_that_pays():
    _, (short,) = cells()
    assert playing_processes(short, threads=8) == 1
    told = copy.deepcopy(TINY) | {"variants": ["after"]}
    told["evaluate"]["episodes"] = 16
    told["train"]["updates"] = 50
    (long,) = expand(Suite.model_validate(told))
    assert playing_processes(long, threads=8) == 8
    assert playing_processes(long, threads=1) == 1
