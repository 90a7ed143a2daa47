"""The reference encoder that is trained on the state."""

import json

import numpy as np
import pytest
import torch
from helpers.diagnosed import ON
from helpers.suites import tiny_cell as cell

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
