"""The reference encoder that is trained on the state."""

import json

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers.diagnosed import ON
from helpers.suites import tiny_cell as cell

from benchbench.cell import train
from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.data.store import cache_folder, open_dataset
from benchbench.diagnostics import reference_encoder as oracle

pytestmark = pytest.mark.usefixtures("tiny_data")


# ------------------------------------------------------------------ the oracle


def kept():
    return sorted(cache_folder().glob("*/oracle-*.json"))


@pytest.fixture
def trainings(monkeypatch):
    """How often a reference was trained; each test starts without any."""
    for path in kept():
        path.unlink()
    calls, train = [], oracle.train_on_state
    monkeypatch.setattr(oracle, "train_on_state", lambda *a: calls.append(1) or train(*a))
    return calls


def r2_of(one):
    return oracle.oracle_state_r2(one, open_dataset(one.data), torch.device("cpu"))


def test_the_reference_is_made_once_for_all_variants_and_seeds(trainings):
    torch.manual_seed(0)
    first = r2_of(cell("after", diagnose=ON))
    drawn = torch.rand(1)
    assert r2_of(cell("before", seed=4, diagnose=ON)) == first
    assert len(trainings) == len(kept()) == 1
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)  # torch's global stream is left alone
    stored = json.loads(kept()[0].read_text())
    assert stored["state_r2"] == first
    assert first == pytest.approx(np.mean(list(stored["by_state"].values())))

    others = [
        cell(diagnose=ON | {"oracle_updates": 5}), cell(diagnose=ON, agent={"feature_dim": 9}),
        cell(diagnose=ON, pixels={"stack": 1}), cell(diagnose=ON, pixels={"centre": True}),
    ]  # fmt: skip
    for other in others:
        r2_of(other)
    assert len(trainings) == len(kept()) == 5

    kept()[0].unlink()
    assert r2_of(cell("after", diagnose=ON)) is not None
    for path in kept():  # a damaged file is made again, with the same number
        path.write_text(path.read_text()[:40])
    assert r2_of(cell("after", diagnose=ON)) == first


def test_a_cell_makes_it_before_it_trains_unless_another_does(trainings, monkeypatch):
    one, updates = cell("frozen", diagnose=ON | {"signals_every": 100}), []

    def run():
        rows = run_cell(one, Device("cpu"), lambda done: updates.append(len(trainings)))
        return rows["cells"][0]["oracle_state_r2"]

    first = run()
    assert first is not None
    assert updates == [1] * one.train.updates  # one training, before the first update

    (path,) = kept()
    path.unlink()
    updates.clear()
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    with lock:
        dataset, cpu = open_dataset(one.data), torch.device("cpu")
        assert oracle.oracle_state_r2(one, dataset, cpu, wait=False) is None

    asked = []

    def wait_for_another(*args, wait=True):
        asked.append(wait)
        return None if not wait else oracle.oracle_state_r2(*args)

    monkeypatch.setattr(train, "oracle_state_r2", wait_for_another)
    assert run() == first
    assert asked == [False, True]
    assert updates == [1] * one.train.updates  # and the second one after the last


def test_training_on_the_state_is_worth_something(trainings):
    one = cell(diagnose=ON | {"oracle_updates": 300}, agent={"feature_dim": 16})
    trained = r2_of(one)
    assert trained > json.loads(kept()[0].read_text())["untrained_state_r2"] + 0.05


def test_no_reference_without_pixels_or_updates_and_one_where_nothing_can_be_kept(
    trainings, monkeypatch
):
    assert r2_of(cell()) is None
    state = cell("frozen", observation="state", env={"proprio": []}, diagnose=ON)
    assert r2_of(state) is None
    assert trainings == []

    class NoLock:
        def __init__(self, path):
            pass

        def acquire(self, timeout):
            raise PermissionError

    monkeypatch.setattr(oracle, "FileLock", NoLock)
    assert r2_of(cell(diagnose=ON)) is not None
    assert kept() == []
