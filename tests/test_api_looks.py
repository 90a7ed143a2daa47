"""Seeds until it is known, from the run's side: which cells run at each look, and when it ends."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers.results_factory import BRIEF, NOTHING, make_rows, write_results
from helpers.suites import TINY

import benchbench
import benchbench.launch.run
from benchbench.core.errors import UserError
from benchbench.suite.model import Suite

PLAN = {"start": 12, "most": 24, "look_every": 12}


def settings(**more: object) -> dict[str, object]:
    return {"name": "synthetic", "variants": ["before", "after"], "seeds": PLAN,
            "envs": [{"id": "bullet-maze2d-open-v0"}]} | more  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for training: a call's results appear at once; the seeds of each call."""
    calls: list[int] = []

    def run_suite(grid, store, executor, options):  # type: ignore[no-untyped-def]
        seeds = {cell.seed for cell in grid.wanted}
        assert {cell.seed for cell in grid.cells} == seeds == set(range(len(seeds)))
        calls.append(len(seeds))
        effects = BRIEF if "clear" in grid.suite.description else NOTHING
        plan, rows = make_rows(grid.suite, effects)
        for table in rows.values():
            table[:] = [row for row in table if row["seed"] in seeds]
        write_results(store.folder, grid.suite, plan, rows)
        return []

    monkeypatch.setattr(benchbench.launch.run, "run_suite", run_suite)
    return calls


def test_a_clear_answer_takes_the_first_look_only(
    tmp_path: Path, asked: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    suite = Suite.model_validate(settings(description="clear"))
    with caplog.at_level(logging.WARNING, "benchbench"):
        benchbench.run(suite, results=tmp_path, device="cpu")
    assert asked == [12]
    assert "look at 12 seeds: every claim is decided" in caplog.text


def test_it_goes_on_look_by_look_and_a_later_run_comes_to_the_same_end(
    tmp_path: Path, asked: list[int]
) -> None:
    suite = Suite.model_validate(settings(claims=["score", "stability"]))
    benchbench.run(suite, results=tmp_path, device="cpu")
    first = [*asked]
    assert first[0] == 12
    assert first == sorted({*first})
    benchbench.run(suite, results=tmp_path, device="cpu")
    assert asked == first * 2


def test_a_part_of_a_look_is_refused(tmp_path: Path, asked: list[int]) -> None:
    suite = Suite.model_validate(settings())
    with pytest.raises(UserError, match="a look needs all cells"):
        benchbench.run(suite, results=tmp_path, device="cpu", only={"seed": ["0"]})
    assert asked == []


def test_real_cells_are_run_look_by_look(tmp_path: Path, tiny_data: Path) -> None:
    """Two pairs tell no spread, so it goes on to the last look that is planned."""
    plan = {"start": 2, "most": 3, "look_every": 1}
    done = benchbench.run(
        TINY | {"seeds": plan, "variants": ["before", "after"]},
        results=tmp_path, device="cpu", executor="debug",
    )  # fmt: skip
    assert done.failures == ()
    assert sorted(done.load().cells["seed"]) == [0, 0, 1, 1, 2, 2]
    assert done.load().plan["seed"].max() == 2
