"""What becomes of failed cells is the same wherever they run: in this process, here, Slurm, Ray."""

import copy
import os
from pathlib import Path

import pytest
from helpers import faulty
from helpers.elsewhere import Heard
from helpers.suites import TINY

import benchbench
from benchbench.cell.devices import Device
from benchbench.launch.debug import Debug
from benchbench.launch.executor import RunOptions
from benchbench.launch.local import Local
from benchbench.launch.ray.executor import Ray
from benchbench.launch.resources import Slots
from benchbench.launch.slurm import Cluster, Slurm
from benchbench.results.store import Store
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

ROOT = Path(benchbench.__file__).parents[1]
CPU = Device("cpu")

TOLD = copy.deepcopy(TINY) | {"variants": ["after", "frozen"]}
CELLS = expand(Suite.model_validate(TOLD))
AFTER, FROZEN = CELLS

pytestmark = pytest.mark.slow


def debug(run_one, request):
    return Debug(CPU, 1, run_one)


def local(run_one, request):
    return Local(Slots((CPU,), 1, 1), run_one)


def slurm(run_one, request):
    pytest.importorskip("submitit", reason="submitit is not installed")
    one_job = Cluster(cells_per_job=2)
    return Slurm(one_job, per_device=1, kind="local", poll=0.1, run_one=run_one)


def ray(run_one, request):
    nodes = request.getfixturevalue("nodes")
    nodes.add(num_cpus=1)
    return Ray(nodes.address, 2, poll=0.1, run_one=run_one)


EVERYWHERE = pytest.mark.parametrize("make", [debug, local, slurm, ray])
HERE = pytest.mark.parametrize("make", [debug, local])
"""A job or task takes many seconds to start: what the supervisor alone decides is tried here."""


@pytest.fixture
def run(make, request, tmp_path, tiny_data, monkeypatch):
    """Runs the two cells one at a time with a fault in `after`: what was heard, and the store."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
    heard, store = Heard(), Store(tmp_path / "results", "tiny")

    def run(fault, **options):
        executor = make(fault, request)
        options = RunOptions(**{"checkpoint_every": float("inf"), "retries": 1} | options)
        executor.run(CELLS, store, heard, options)
        return heard, store

    run.serial = make is not ray
    return run


def marks_of(tmp_path):
    return tmp_path / "marks"


@HERE
def test_a_cell_that_fails_once_is_retried_and_done(run, make, tmp_path):
    heard, store = run(faulty.Faulty(faulty.complain, marks_of(tmp_path), at=5))
    assert all(store.is_done(cell.key) for cell in CELLS)
    assert heard.of("failed") == []
    assert len(list(marks_of(tmp_path).iterdir())) == 1


@EVERYWHERE
def test_a_cell_that_goes_on_failing_is_given_up_after_its_retries(run, make, tmp_path):
    heard, store = run(faulty.Faulty(faulty.complain, marks_of(tmp_path), at=5, times=100))
    assert heard.of("failed") == [AFTER.key]
    failure = store.failure(AFTER.key)
    assert (failure.kind, failure.attempts) == ("raised", 2)
    assert "no reason at all" in failure.text
    assert len(list(marks_of(tmp_path).iterdir())) == 2
    assert store.is_done(FROZEN.key)


@HERE
def test_divergence_and_refusals_are_not_retried(run, make, tmp_path):
    heard, store = run(faulty.Faulty(faulty.refuse, marks_of(tmp_path), at=5, times=100))
    assert heard.of("failed") == [AFTER.key]
    assert (store.failure(AFTER.key).kind, store.failure(AFTER.key).attempts) == ("refused", 1)
    assert store.is_done(FROZEN.key)


@EVERYWHERE
def test_fail_fast_stops_the_others_which_have_not_failed(run, make, tmp_path):
    fault = faulty.Faulty(faulty.complain, marks_of(tmp_path), at=5, times=100)
    heard, store = run(fault, fail_fast=True)
    assert heard.of("failed") == [AFTER.key]
    assert len(list(marks_of(tmp_path).iterdir())) == 1
    assert store.failure(FROZEN.key) is None
    if run.serial:  # on Ray the other cell may have been at work, and may have ended before
        assert ("ended", [FROZEN.key], "--fail-fast") in heard.said
        assert not store.is_done(FROZEN.key)


@HERE
def test_a_full_disk_starts_no_more_cells(run, make, tmp_path):
    """The disk refuses the results of the first cell; the second is not started."""
    heard, store = run(faulty.Faulty(faulty.refuse_writing, marks_of(tmp_path), at=5, times=100))
    assert heard.of("failed") == [AFTER.key]
    failure = next(failure for said, _, failure in heard.said if said == "failed")
    assert (failure.kind, failure.attempts) == ("disk", 1)
    if run.serial:
        assert ("ended", [FROZEN.key], "the disk takes no results") in heard.said
        assert not store.is_done(FROZEN.key)
