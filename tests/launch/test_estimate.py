"""How long a grid takes: what is counted, and what a trial measures."""

from types import SimpleNamespace

import pytest
from helpers.suites import tiny_cell

from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.launch import estimate
from benchbench.launch.estimate import AgentSeconds, EnvSeconds, Events, cell_seconds
from benchbench.launch.resources import Slots

pytestmark = pytest.mark.usefixtures("tiny_data")

NOTHING, NO_EPISODES = AgentSeconds(0, 0, 0), EnvSeconds(0, 0)


def cell_of(updates, every, **diagnose):
    return tiny_cell(
        train={"updates": updates}, evaluate={"every": every}, diagnose={"q_pairs": 3} | diagnose
    )


def test_events_by_hand():
    assert Events.of(cell_of(12, 5, q_every=2, signals_every=4)) == Events(12, 3, 4, 2, 3)
    assert Events.of(cell_of(20, 5, q_every=2)).roll_outs == 2
    assert Events.of(cell_of(12, 5, q_pairs=0)).roll_outs == 0


@pytest.mark.parametrize(("updates", "every", "q_every"), [(12, 5, 2), (10, 5, 1), (7, 9, 3)])
def test_events_are_those_of_a_cell_that_runs(updates, every, q_every):
    cell = cell_of(updates, every, q_every=q_every, signals_every=3, q_horizon=2)
    rows = run_cell(cell, Device("cpu"), lambda done: None)
    events = Events.of(cell)
    assert events.evaluations == len(rows["evaluations"])
    assert events.signals == len(rows["training"])
    assert events.blocks == len({row["update"] for row in rows["ledger"]})
    assert events.roll_outs == sum(row.get("q_error") is not None for row in rows["evaluations"])


def test_a_cells_seconds_by_hand():
    cell = cell_of(12, 5, q_pairs=0)
    assert cell_seconds(cell, AgentSeconds(1.0, 0, 0), NO_EPISODES) == 12 + 3 + 3
    assert cell_seconds(cell, AgentSeconds(0, 0, 1.0), NO_EPISODES) == 4 * 5 * 200


def test_the_policy_acts_once_a_step_for_episodes_side_by_side():
    played = tiny_cell(evaluate={"every": 5, "episodes": 20, "final_episodes": 2})
    acts = AgentSeconds(0, 100.0, 0)
    twenty, two = 400 * (20 * 1.0 + 2 * 100.0), 400 * (2 * 1.0 + 100.0)  # 16 episodes, then 4
    assert cell_seconds(played, acts, EnvSeconds(1.0, 400)) == 4 * twenty + two
    rolled = cell_of(12, 5, q_every=2, q_horizon=50)  # after 10 updates, and after the last
    episode, roll_outs = 400 * 101.0, 50 * (3 * 1.0 + 3 * 100.0)  # one place: three after another
    assert cell_seconds(rolled, acts, EnvSeconds(1.0, 400)) == 4 * episode + 2 * roll_outs
    assert cell_seconds(rolled, acts, NO_EPISODES) == 0


def test_unseen_light_is_played_and_probed_beside_the_seen_one():
    light = {"tint": {"strength": 0.2}}
    seen = tiny_cell(pixels={"distract": light})
    unseen = tiny_cell(pixels={"distract": light}, evaluate={"distract": {"tint": {"strength": 1}}})
    costs = AgentSeconds(0, 1.0, 0), EnvSeconds(1.0, 10)
    assert cell_seconds(unseen, *costs) == 2 * cell_seconds(seen, *costs)


def test_a_huge_number_of_updates_is_estimated_at_once(monkeypatch):
    cell = tiny_cell(train={"updates": 2**63 - 1})
    monkeypatch.setattr(estimate, "_agent_seconds", lambda *_: AgentSeconds(1.0, 0, 0))
    monkeypatch.setattr(estimate, "_env_seconds", lambda cell: NO_EPISODES)
    told = estimate.estimate_seconds([cell], SimpleNamespace(jobs=1))
    assert told == pytest.approx(2.0**63 * (1 + 1 / 4 + 1 / 5))


def test_a_reference_that_is_not_here_is_counted_once_for_all(monkeypatch):
    reads = AgentSeconds(0, 0, 1.0)
    monkeypatch.setattr(estimate, "_agent_seconds", lambda *_: reads)
    monkeypatch.setattr(estimate, "_env_seconds", lambda cell: NO_EPISODES)
    rated = {"oracle_updates": 7, "probe_frames": 201}
    cells = [tiny_cell(variant, diagnose=rated) for variant in ("before", "after")]
    told = estimate.estimate_seconds(cells, SimpleNamespace(jobs=2))
    probes = 2 * cell_seconds(cells[0], reads, NO_EPISODES)
    assert told == (probes + 3 * 7 * 64) / 2


@pytest.mark.parametrize(("seconds", "sizes"), [(30.0, [16, 32]), (1e-6, [16])])
def test_whole_batches_are_tried_where_there_is_time(seconds, sizes, monkeypatch):
    tried, batch = [], estimate._batch
    monkeypatch.setattr(
        estimate, "_batch", lambda cell, size, to: tried.append(size) or batch(cell, size, to)
    )
    monkeypatch.setattr(estimate, "_seconds_of", lambda work, tried: (work(), 0.5)[1])
    cell, slots = tiny_cell(train={"batch_size": 32}), Slots((Device("cpu"),), 1, 1)
    found = estimate._agent_seconds(cell, slots, seconds)
    assert tried == sizes
    assert found == AgentSeconds(0.5 * 32 / sizes[-1], 0.5, 0.5 / sizes[-1])
