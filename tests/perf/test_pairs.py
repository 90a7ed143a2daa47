"""Pairs an hour: are a whole cell's seconds what its short one says they will be?"""

import json
from dataclasses import replace

import pytest
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.cli.main import main
from benchbench.perf.pairs import (
    BLOCK,
    SIGNALS_EVERY,
    Parts,
    finished_parts,
    forecast,
    kind,
    shortened,
    whole_cell,
)
from benchbench.results.store import Store
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

UPDATE, PLAY, MEASURE, WATCHED, SIGNAL, ROLL_OUT = 0.1, 2.0, 3.0, 0.5, 0.25, 7.0
SETUP, FEATURES, OUTSIDE = 11.0, 0.125, 1.5


@pytest.fixture
def grid():
    return Grid.of(Suite.model_validate(TINY | {"seeds": 3, "variants": ["before", "after"]}))


def cell_of(updates, every, **diagnose):
    told = TINY | {"train": TINY["train"] | {"updates": updates}}
    told |= {"evaluate": {"every": every, "episodes": 1}}
    told["diagnose"] = TINY["diagnose"] | {"q_pairs": 1} | diagnose
    return expand(Suite.model_validate(told))[0]


def played_through(cell):
    """The clock of a cell in which everything takes its time above, by a loop of its own."""
    updates, every, signals = (
        cell.train.updates,
        cell.evaluate.every,
        cell.diagnose.signals_every,
    )
    spent = {"train": 0.0, "evaluate": 0.0, "diagnose": SETUP}
    clocks, evaluations = [dict(spent)], 0

    def evaluate(last):
        nonlocal evaluations
        spent["evaluate"] += PLAY
        due = last or (evaluations and evaluations % cell.diagnose.q_every == 0)
        spent["diagnose"] += MEASURE + (ROLL_OUT if due else 0)
        evaluations += 1

    for update in range(updates):
        if update % every == 0:
            evaluate(last=False)
        spent["diagnose"] += SIGNAL if update % signals == 0 else 0
        spent["diagnose" if update % every in (0, 1) else "train"] += (
            WATCHED if update % every in (0, 1) else UPDATE
        )
        clocks.append(dict(spent))
    evaluate(last=True)
    spent["diagnose"] += FEATURES
    return [*clocks, spent]


@pytest.mark.parametrize(
    ("updates", "every", "q_every", "signals"), [(900, 90, 10, 125), (60, 25, 2, 7), (40, 40, 1, 9)]
)
def test_a_whole_cells_seconds_follow_from_its_short_one(updates, every, q_every, signals):
    cell = cell_of(updates, every, q_every=q_every, signals_every=signals)
    short = shortened(cell)
    assert (short.train.updates, short.evaluate.every) == (2 * BLOCK, BLOCK)
    clocks = played_through(short)
    found = whole_cell(cell, clocks, wall=sum(clocks[-1].values()) + OUTSIDE)
    expected = played_through(cell)[-1]
    assert found.updates == pytest.approx(expected["train"])
    assert found.evaluation == pytest.approx(expected["evaluate"])
    assert found.diagnostics == pytest.approx(expected["diagnose"])
    assert found.start == pytest.approx(OUTSIDE)


def test_no_sample_of_signals_falls_on_a_watched_update_but_the_first():
    assert [u for u in (1, BLOCK, BLOCK + 1) if u % SIGNALS_EVERY == 0] == []


def test_cells_are_placed_longest_first_and_idle_slots_wait(grid):
    names = {cell.variant: kind(cell) for cell in grid.wanted}
    long, short = Parts(6, 2, 1, 1), Parts(3, 0, 0, 1)
    found = forecast(grid.wanted, {names["before"]: long, names["after"]: short}, jobs=2)
    # 10 | 10, then 10 beside 4 + 4 and 4: 20 | 22
    assert found.seconds == 22
    assert found.waiting == 2
    assert found.parts == Parts(27, 6, 3, 6)
    assert (found.pairs, found.cells) == (3, 6)
    assert found.pairs_per_hour == pytest.approx(3600 * 3 / 22)


def test_the_verb_measures_short_cells_then_trusts_finished_ones(tiny_data, tmp_path):
    told = TINY | {"variants": ["after"]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    ask = ["bench", str(path), "--pairs", "--device", "cpu", "--jobs", "1", "--json"]
    ask += ["--results", str(tmp_path / "results")]
    done = CliRunner().invoke(main, ask)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (its,) = found["kinds"]
    assert (its["source"], its["variant"], its["cells"]) == ("a short cell", "after", 1)
    assert all(seconds > 0 for seconds in its["parts"].values())
    total = sum(its["parts"].values())
    assert found["pairs_per_hour"] == pytest.approx(3600 / total)

    grid = Grid.of(Suite.model_validate(told))
    store, (cell,) = Store(tmp_path / "results", "tiny"), grid.cells
    rows = run_cell(cell, Device("cpu"), lambda done: None)
    store.publish(cell, rows)
    store.gather(grid)
    threads = rows["cells"][0]["threads"]
    known = finished_parts(store, [kind(cell)], Device("cpu"), threads, process_seconds=5)
    assert known[kind(cell)].total == pytest.approx(rows["cells"][0]["total_seconds"] + 5)
    assert known[kind(cell)].updates == rows["cells"][0]["train_seconds"]
    assert finished_parts(store, [kind(cell)], Device("cpu"), threads + 1, 5) == {}
    assert kind(replace(cell, seed=9)) == kind(cell)


def test_options_of_the_other_form_are_refused(tmp_path):
    for ask, cure in ((["--jobs", "2"], "add that"), (["--pairs", "--threads", "1"], "leave it")):
        done = CliRunner().invoke(main, ["bench", "quickstart", *ask])
        assert done.exit_code == 2
        assert cure in done.output
