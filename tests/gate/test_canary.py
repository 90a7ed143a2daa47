"""The canary: every number is met within the tolerance, or the run is called different."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.results_factory import make_rows, make_suite, write_results

from benchbench.cli.main import main
from benchbench.gate import compare, gate, load_snapshot, take_snapshot
from benchbench.gate.canary import deviations
from benchbench.gate.compare import suite_hash
from benchbench.gate.snapshot import write_baseline
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results" / "baselines" / "canary"
TOLERANCE = 1e-2


def write_run(folder, change=lambda rows: None):
    suite = make_suite(seeds=2, tolerance=TOLERANCE)
    plan, rows = make_rows(suite, {})
    change(rows)
    return take_snapshot(write_results(folder, suite, plan, rows), folder.name)


@pytest.fixture
def one(tmp_path):
    return write_run(tmp_path / "one")


def scaled(table, column, factor):
    def change(rows):
        rows[table][7][column] *= factor

    return change


@pytest.mark.parametrize(
    ("table", "column"),
    [("evaluations", "td_error"), ("training", "critic_loss"), ("training", "grad_critic")],
)
def test_one_number_off_in_thousands_fails_and_is_named(one, tmp_path, table, column):
    other = write_run(tmp_path / "other", scaled(table, column, 3.0))
    found, _, decision = gate(one, other)
    rows = found[found["sign"] == "differs"]
    assert list(rows["series"]) == [table]
    assert f"{table}.{column} at update" in rows["note"].iloc[0]
    assert rows["candidate"].iloc[0] == pytest.approx(3 * rows["baseline"].iloc[0])
    assert decision.exit_code == 1


@pytest.mark.parametrize(("factor", "code"), [(1 + 1e-4, 0), (1 - 1e-4, 0), (1.5, 1), (1.0, 0)])
def test_rounding_passes(one, tmp_path, factor, code):
    other = write_run(tmp_path / "other", scaled("training", "critic_loss", factor))
    assert gate(one, other)[2].exit_code == code


def test_a_deviation_is_relative_to_the_number_or_to_its_unit(one):
    """By hand: a score's unit is 100 points; a gradient's is the largest of its column."""
    numbers = one.numbers.copy()
    at = numbers.index[numbers["series"] == "evaluations.score"][0]
    numbers.loc[at, "value"] += 0.5
    norm = numbers["series"] == "training.grad_vae"
    first = numbers[norm].iloc[0]
    largest = numbers[norm & (numbers["key"] == first["key"])]["value"].max()
    numbers.loc[numbers.index[norm][0], "value"] += 0.02 * largest
    found = deviations(one.numbers, numbers)
    found = found[found["deviation"] > 0].set_index("series")["deviation"]
    old = abs(one.numbers.loc[at, "value"])
    assert found["evaluations.score"] == pytest.approx(0.5 / max(old, 100))
    assert found["training.grad_vae"] == pytest.approx(0.02)


def test_a_number_that_is_gone_or_not_finite_is_never_met(one):
    for numbers in (one.numbers.drop(index=4), one.numbers.assign(value=np.nan)):
        other = dataclasses.replace(one, numbers=numbers)
        found, _, decision = gate(one, other)
        assert "missing" in set(found["sign"])
        assert decision.exit_code == 1


def test_a_number_that_the_baseline_lacks_is_new_and_warned_of(one):
    old = dataclasses.replace(one, numbers=one.numbers.drop(index=4))
    found, _, decision = gate(old, one)
    assert "new" in set(found["sign"])
    assert decision.exit_code == 0
    assert decision.warnings == ("1 new",)


def test_a_failed_cell_fails(one, tmp_path):
    other = write_run(tmp_path / "other", lambda rows: rows["cells"][0].update(status="failed"))
    found, _, decision = gate(one, other)
    assert decision.exit_code == 1
    assert "missing" in set(found["sign"])


def test_a_baseline_that_is_no_canary_cannot_be_met(one, tmp_path):
    suite = make_suite(seeds=2)
    plain = take_snapshot(write_results(tmp_path / "p", suite, *make_rows(suite, {})), "p")
    assert gate(plain, one)[2].exit_code != 0
    assert "differs" not in set(compare(plain, one)["sign"])


def test_another_processor_and_torch_are_no_reason_to_refuse_a_canary(one):
    other = dataclasses.replace(
        one,
        cells=one.cells.assign(
            device_name="another", threads=9, versions=json.dumps({"torch": "9"})
        ),
    )
    assert gate(one, other)[2].exit_code == 0
    cuda = dataclasses.replace(one, cells=one.cells.assign(device="cuda"))
    assert gate(one, cuda)[2].exit_code == 2


def test_a_stored_canary_is_met_by_the_run_it_is_of(one, tmp_path):
    write_baseline(one, tmp_path / "base")
    found = compare(load_snapshot(tmp_path / "base"), one)
    assert set(found["note"]) == {"equal to the last bit"}
    shown = CliRunner().invoke(main, ["compare", str(tmp_path / "base"), str(tmp_path / "one")])
    assert "pass: none of" in shown.output


def test_the_repositorys_baseline_is_of_the_repositorys_canary():
    """A suite that was edited without a new baseline would only be noticed after its run."""
    stored = load_snapshot(STORED)
    cells = expand(load_suite(ROOT / "suites" / "canary.yaml"))
    assert set(stored.cells["key"]) == {cell.key for cell in cells}
    assert len(suite_hash(stored)) == 12
    assert (stored.cells["status"] == "done").all()
    assert not stored.cells["git_dirty"].any()
    assert sum(f.stat().st_size for f in STORED.iterdir()) < 500_000
