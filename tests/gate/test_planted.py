"""Regressions that were planted on purpose are caught by the canary, with its single seed."""

import dataclasses
from pathlib import Path

import pytest
from helpers.planted import PLANTS, planted_agent, planted_source
from helpers.suites import TINY

from benchbench.agent import AGENTS
from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.diagnostics.ledger import RoutingMismatch
from benchbench.gate import gate, take_snapshot
from benchbench.results.store import Store
from benchbench.results.tables import read_results
from benchbench.routing import REGISTRY
from benchbench.suite.grid import Grid, expand
from benchbench.suite.load import load_suite
from benchbench.suite.model import Suite

ROOT = Path(__file__).parents[2]
CANARY = load_suite(ROOT / "suites" / "canary.yaml")
SMALL = Suite.model_validate(
    TINY
    | {key: CANARY.model_dump(exclude_unset=True)[key] for key in ("train", "agent", "tolerance")}
    | {"variants": ["after"], "evaluate": {"every": 8, "episodes": 1}, "diagnose": TINY["diagnose"]}
)
"""The canary's agent and training, on the data that the tests have; seconds a run."""


def ran(folder):
    store = Store(folder, SMALL.name)
    (cell,) = expand(SMALL)
    store.publish(cell, run_cell(cell, Device("cpu"), lambda updates: None))
    store.gather(Grid(SMALL, (cell,), (cell,)))
    return take_snapshot(read_results(store.folder), "x")


@pytest.fixture(scope="module")
def sound(tmp_path_factory, data_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        return ran(tmp_path_factory.mktemp("sound"))


def test_nothing_planted_is_met_to_the_last_bit(sound, tmp_path, tiny_data):
    table, _, decision = gate(sound, ran(tmp_path))
    assert set(table["note"]) == {"equal to the last bit"}
    assert decision.exit_code == 0


@pytest.mark.parametrize("name", ["encoder_lr x 0.1", "target update dropped", "advantage's sign"])
def test_the_canary_finds_what_changes_an_update(sound, tmp_path, tiny_data, monkeypatch, name):
    monkeypatch.setitem(AGENTS, "lapo", planted_agent(name))
    table, _, decision = gate(sound, ran(tmp_path))
    assert "differs" in set(table["sign"])
    assert decision.exit_code == 1


def test_a_variant_that_the_agent_routes_otherwise_does_not_finish(tiny_data, monkeypatch):
    """No stored number is needed: the ledger compares the gradients with the cell's routing."""
    monkeypatch.setitem(AGENTS, "lapo", planted_agent("after routed as before, by the agent"))
    (cell,) = expand(SMALL)
    with pytest.raises(RoutingMismatch):
        run_cell(cell, Device("cpu"), lambda updates: None)


def test_a_variant_that_is_defined_otherwise_cannot_be_compared(sound, monkeypatch):
    """Another routing under the same name is another cell: its key is not the baseline's."""
    routed = dataclasses.replace(REGISTRY["before"], name="after")
    monkeypatch.setitem(REGISTRY, "after", routed)
    (cell,) = expand(Suite.model_validate(SMALL.model_dump(exclude_unset=True)))
    assert cell.routing == routed
    other = dataclasses.replace(sound, cells=sound.cells.assign(key=cell.key))
    table, _, decision = gate(sound, other)
    assert set(table["sign"]) == {"definition changed"}
    assert decision.exit_code == 2


@pytest.mark.parametrize("name", PLANTS)
def test_every_plant_still_finds_its_place(name):
    """The script plants those that need whole processes."""
    assert PLANTS[name][2] in planted_source(name)
