"""The history: steps are found where they are, and not where nights only vary."""

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.gate_factory import make_night

from benchbench.cli.main import main
from benchbench.gate.history import ALPHA, change_points, nights, steps
from benchbench.gate.snapshot import write_baseline

ONE = {"envs": ("bullet-maze2d-open-v0",), "variants": ("after",), "seeds": 6}


def past(count, step_at=None, shift=None):
    """Nights 1 … count; from ``step_at`` on with ``shift``. The order given is not time's."""
    made = [
        make_night(
            np.random.default_rng([7, i]),
            shift=shift if step_at is not None and i >= step_at else None,
            source=f"night {i}",
            started_at=f"2026-01-{i + 1:02d}T02:00:00+00:00",
            git_commit=f"{i:x}" * 40,
            **ONE,
        )
        for i in range(count)
    ]
    return made[::-1]


def test_a_night_is_the_mean_of_its_seeds_in_the_order_of_time():
    made = past(4)
    table = nights(made)
    rows = table[table["series"] == "final_score"]
    assert list(rows["started_at"].str[:10]) == [f"2026-01-{d:02d}" for d in range(1, 5)]
    assert rows["value"].iloc[0] == pytest.approx(made[-1].cells["final_score"].mean())


def test_a_night_that_is_given_twice_counts_once():
    made = past(4)
    assert nights([*made, made[1]]).equals(nights(made))


def test_only_seeds_that_every_night_has_count():
    """A lost cell must not move its night's mean."""
    made = past(4)
    made[0].cells.loc[0, "status"] = "failed"
    rows = nights(made).query("series == 'final_score'")
    assert set(rows["n"]) == {5}
    assert rows["value"].iloc[0] == pytest.approx(made[-1].cells["final_score"].iloc[1:].mean())


def test_nights_of_another_definition_are_left_out():
    made = past(4)
    made[-1].cells["key"] += "'"
    assert nights(made)["started_at"].nunique() == 3


def test_a_step_is_found_where_it_is():
    found = steps(nights(past(14, step_at=8, shift={"update_ms": 0.6, "final_score": 150.0})))
    seen = {row["series"]: (row["started_at"][:10], row["sign"]) for _, row in found.iterrows()}
    assert seen == {
        "update_ms": ("2026-01-09", "worse"),
        "final_score": ("2026-01-09", "better"),
    }
    step = found.set_index("series").loc["update_ms"]
    assert step["difference"] == pytest.approx(np.log(step["after"] / step["before"]))


def test_two_steps_are_told_apart():
    rng = np.random.default_rng(0)
    y = np.repeat([0.0, 10.0, 4.0], 10) + rng.normal(size=30)
    assert [at for at, _ in change_points(y, margin=2.0, alpha=0.01)] == [10, 20]
    assert [at for at, _ in change_points(y, margin=7.5, alpha=0.01)] in ([10], [])


def test_nights_that_only_vary_rarely_have_a_step():
    rng = np.random.default_rng(1)
    tables = 100
    found = sum(bool(change_points(rng.normal(size=15), 0.0, ALPHA)) for _ in range(tables))
    # 5 of 100 expected; more than 11 come with a chance below 1 %.
    assert found <= 11


def test_few_nights_have_no_steps():
    assert change_points(np.array([0.0, 0, 9, 9, 9]), 0.0, ALPHA) == []


def test_the_command_shows_the_nights_and_draws_them(tmp_path):
    folders = []
    for i, snapshot in enumerate(past(8, step_at=4, shift={"update_ms": 1.5})):
        folders.append(str(tmp_path / f"night-{i}"))
        write_baseline(snapshot, tmp_path / f"night-{i}")
    plot, csv = tmp_path / "history.png", tmp_path / "history.csv"
    done = CliRunner().invoke(main, ["history", *folders, "--plot", str(plot), "--csv", str(csv)])
    assert done.exit_code == 0, done.output
    assert "2026-01-08" in done.output
    assert plot.stat().st_size > 10_000
    assert len(csv.read_text(encoding="utf-8").splitlines()) == 1 + 8 * 8
