"""The gate: what it calls worse, what it refuses to compare, and how often it cries wolf."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.gate_factory import ENVS, LEVEL, VARIANTS, make_night
from helpers.results_factory import make_rows, make_suite, write_results
from scipy import stats

from benchbench.cli.main import main
from benchbench.gate import compare, compare_keys, decide, gate, load_snapshot, take_snapshot
from benchbench.gate.compare import ALPHA, COLUMNS, judge
from benchbench.gate.snapshot import SERIES, write_baseline
from benchbench.gate.text import terminal_text


def night(seed, **more):
    return make_night(np.random.default_rng(seed), **more)


def with_cells(snapshot, **columns):
    return dataclasses.replace(snapshot, cells=snapshot.cells.assign(**columns))


def signs(table, series="final_score"):
    return set(table.loc[table["series"] == series, "sign"])


def judged(differences, margin=1e-12, series="final_score"):
    """Rows as ``compare`` makes them, with these differences, judged."""
    row = {"series": series, "scale": "difference", "margin": margin, "sign": "", "note": ""}
    table = pd.DataFrame([row] * len(differences), columns=list(COLUMNS))
    return judge(table, differences)


class TestFalseAlarms:
    """A/A: the same code twice. At most 1 % of nights may fail."""

    @pytest.mark.parametrize("pairs", [5, 10, 14])
    @pytest.mark.parametrize("shape", ["normal", "heavy tails", "few values"])
    def test_even_without_margins_at_most_one_night_in_a_hundred_fails(self, pairs, shape):
        rng = np.random.default_rng([pairs, len(shape)])
        tables, series = 200, 32
        draw = {
            "normal": lambda: rng.normal(size=(series, pairs)),
            "heavy tails": lambda: rng.standard_t(2, size=(series, pairs)),
            "few values": lambda: rng.integers(-2, 3, size=(series, pairs)) / 4.0,
        }[shape]
        failed = sum("worse" in set(judged(list(draw()))["sign"]) for _ in range(tables))
        # 2 of 200 expected at 1 %; the quantile is passed with a chance below 1 %.
        assert failed <= stats.binom.ppf(0.99, tables, 0.01)

    def test_whole_nights_with_times_that_move_together(self):
        nights = [night([i, 1], night=0.04) for i in range(20)]
        decisions = [gate(a, b)[2] for a, b in zip(nights[::2], nights[1::2], strict=True)]
        assert [d.exit_code for d in decisions] == [0] * 10


class TestRegressions:
    @pytest.mark.parametrize("series", SERIES, ids=lambda s: s.name)
    def test_a_large_worsening_of_any_series_fails(self, series):
        by = {"points": 150.0, "R²": 0.6}.get(series.unit, 1.0)
        table, _, decision = gate(night(1), night(2, shift={series.name: series.worse * by}))
        assert signs(table, series.name) == {"worse"}
        assert decision.exit_code == 1
        assert f"{len(ENVS) * len(VARIANTS)} worse" in decision.headline
        others = table[table["series"] != series.name]
        assert "worse" not in set(others["sign"])

    def test_an_improvement_is_no_regression(self):
        table, _, decision = gate(night(1), night(2, shift={"final_score": 150.0}))
        assert signs(table) == {"better"}
        assert decision.exit_code == 0

    def test_certain_but_within_the_margin_is_no_regression(self):
        """An update 10 % slower, beyond doubt, is still within the margin of 25 %."""
        table = compare(night(1, night=0.0), night(2, night=0.0, shift={"update_ms": 0.1}))
        rows = table[table["series"] == "update_ms"]
        certain = rows[rows["p_holm"] < ALPHA]
        assert len(certain) >= 3
        assert (certain["lo"] > 0).all()
        assert "worse" not in set(rows["sign"])
        assert "no change" in set(certain["sign"])

    def test_large_but_in_doubt_is_undecided_and_warned_of(self):
        """Ten points worse on average, of which nobody can be sure with seeds this far apart."""
        table, _, decision = gate(night(1), night(3, shift={"final_score": -10.0}))
        assert "undecided" in signs(table)
        assert decision.exit_code == 0
        assert any("undecided" in warning for warning in decision.warnings)

    def test_few_pairs_are_undecided_whatever_they_say(self):
        table = compare(night(1, seeds=4), night(2, seeds=4, shift={"final_score": -60.0}))
        assert signs(table) == {"undecided"}
        assert "4 pairs; 5 needed" in set(table["note"])

    def test_the_same_numbers_are_no_change(self):
        table, _, decision = gate(night(1), night(1))
        assert set(table["sign"]) == {"no change"}
        assert decision.exit_code == 0

    def test_the_estimate_is_the_mean_paired_difference(self):
        a, b = night(1), night(2)
        row = compare(a, b).iloc[1]
        of = {k: s.cells.query("env == @row.env and variant == @row.variant")[row["series"]]
              for k, s in (("a", a), ("b", b))}  # fmt: skip
        assert row["difference"] == pytest.approx(np.log(of["b"].values / of["a"].values).mean())
        assert row["baseline"] == pytest.approx(stats.gmean(of["a"]))
        t = stats.ttest_rel(np.log(of["b"]), np.log(of["a"]))
        assert row["p"] == pytest.approx(t.pvalue)
        found = t.confidence_interval(row["level"])
        assert (row["lo"], row["hi"]) == pytest.approx((found.low, found.high))


def test_an_interval_excludes_zero_wherever_a_difference_is_found():
    """Holm's later steps have wider levels; the printed interval is of the same step."""
    rng = np.random.default_rng(0)
    table = judged([rng.normal(m, 1, size=12) for m in np.linspace(0, 3, 30)])
    found = table["p_holm"] <= ALPHA
    assert 3 < found.sum() < 29
    assert table["level"].nunique() > 3
    excludes = (table["lo"] > 0) | (table["hi"] < 0)
    assert (excludes | ~found).all()
    np.testing.assert_array_equal(excludes, found)


class TestMissing:
    def test_a_failed_cell_fails_and_is_named_with_its_error(self):
        b = night(2)
        failed = (b.cells["variant"] == "after") & (b.cells["seed"] == 3)
        b.cells.loc[failed, "status"] = "failed"
        b.cells.loc[failed, "error"] = "Diverged: q_loss is nan"
        table, _, decision = gate(night(1), b)
        missing = table[table["sign"] == "missing"]
        assert set(missing["variant"]) == {"after"}
        assert (missing["note"] == "seed 3 failed: Diverged: q_loss is nan").all()
        assert (missing["n_pairs"] == 9).all()
        assert decision.exit_code == 1

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_value_that_is_no_number_fails(self, value):
        b = night(2)
        b.cells.loc[5, "q_error"] = value
        table, _, decision = gate(night(1), b)
        assert list(table.loc[table["sign"] == "missing", "series"]) == ["q_error"]
        assert decision.exit_code == 1

    def test_a_run_of_which_nothing_is_left_fails(self):
        table, _, decision = gate(night(1), with_cells(night(2), status="missing", torch=None))
        assert decision.exit_code == 1
        assert set(table["sign"]) == {"missing"}

    def test_a_series_that_the_baseline_lacks_is_new(self):
        a = with_cells(night(1), q_error=math.nan)
        table, _, decision = gate(a, night(2))
        assert signs(table, "q_error") == {"new"}
        assert "6 new" in decision.warnings

    def test_a_series_that_neither_has_is_no_row(self):
        sides = [with_cells(night(i), q_error=math.nan) for i in (1, 2)]
        assert "q_error" not in set(compare(*sides)["series"])


class TestKey:
    @pytest.mark.parametrize(
        ("part", "columns"),
        [
            ("device", {"device_name": "another GPU"}),
            ("torch", {"versions": json.dumps({"torch": "2.10.0"})}),
            ("data of", {"data_sha256": "0" * 64}),
            ("suite", {"key": [f"k{i}" for i in range(60)]}),
        ],
    )
    def test_what_differs_in_the_key_cannot_be_compared(self, part, columns):
        table, keys, decision = gate(night(1), with_cells(night(2), **columns))
        assert part in keys.loc[~keys["equal"], "part"].iloc[0]
        assert decision.exit_code == 2
        assert part in decision.headline
        costs = {"update_ms", "peak_memory_mb"} & set(table["series"])
        assert bool(costs) is (part != "device")

    def test_changed_cells_are_called_so(self):
        b = with_cells(night(2), key=night(2).cells["key"] + "'")
        assert set(compare(night(1), b)["sign"]) == {"definition changed"}

    def test_cells_of_one_run_alone_are_new_or_missing(self):
        few, many = night(1, variants=("before",)), night(2, variants=("before", "after"))
        assert signs(compare(few, many)[lambda t: t["variant"] == "after"]) == {"new"}
        assert signs(compare(many, few)[lambda t: t["variant"] == "after"]) == {"missing"}
        assert decide(compare(few, many), compare_keys(few, many)).exit_code == 2

    def test_an_empty_baseline_is_none(self):
        found = gate(with_cells(night(1), status="missing"), night(2))
        assert found[2].exit_code == 2
        assert "the baseline has nothing, the candidate" in terminal_text(*found)


@pytest.fixture
def folders(tmp_path):
    """Two runs on disk: the same effects, and one whose ``after`` is worse in everything."""
    suite = make_suite(seeds=10)
    worse = {"after": {"final": 5.0, "state_r2": 0.2}}
    for name, effects in (("a", {}), ("b", worse)):
        write_results(tmp_path / name, suite, *make_rows(suite, effects))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


class TestCommands:
    def test_the_gates_exit_code_says_the_decision(self, folders):
        assert run("compare", folders / "a", folders / "a", "--gate").exit_code == 0
        bad = run("compare", folders / "a", folders / "b", "--gate")
        assert bad.exit_code == 1
        assert bad.output.splitlines()[1].split()[:2] == ["✗", "worse"]
        assert run("compare", folders / "a", folders / "b").exit_code == 0
        assert run("compare", folders / "a", folders / "none", "--gate").exit_code == 2

    def test_json_says_the_same_and_is_json(self, folders):
        found = json.loads(run("compare", folders / "a", folders / "b", "--json").output)
        assert (found["decision"], found["exit_code"]) == ("regression", 1)
        assert {"worse", "no change"} <= {row["sign"] for row in found["series"]}
        assert all(part["equal"] for part in found["key"])

    def test_the_page_goes_to_githubs_summary_and_names_are_only_text(self, folders, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folders / "page"))
        (folders / "page").write_text("before\n", encoding="utf-8")
        run("compare", folders / "a", folders / "b")
        page = (folders / "page").read_text(encoding="utf-8")
        assert page.startswith("before\n## synthetic: regression")
        assert (
            page.removeprefix("before\n").strip()
            == run("compare", folders / "a", folders / "b", "--markdown").output.strip()
        )

    def test_markdown_cannot_be_broken_out_of(self):
        b = night(2)
        b.cells.loc[0, ["status", "error"]] = ["failed", "<script>|`x`\n## y"]
        from benchbench.gate.text import markdown_text

        a = night(1)
        page = markdown_text(*gate(a, b), "x", ["a", "b"])
        assert "<script>" not in page
        assert "\n## y" not in page

    def test_a_baseline_is_small_and_stands_for_the_run(self, folders):
        done = run("baseline", "update", folders / "a", "--baselines", folders / "base")
        assert done.exit_code == 0, done.output
        stored = folders / "base" / "synthetic"
        assert sum(f.stat().st_size for f in stored.iterdir()) < 50_000
        table = compare(load_snapshot(stored), load_snapshot(folders / "a"))
        assert set(table["sign"]) == {"no change"}
        assert run("compare", stored, folders / "b", "--gate").exit_code == 1
        assert run("compare", stored / "cells.parquet", folders / "b", "--gate").exit_code == 1
        shown = run("baseline", "show", "--baselines", folders / "base")
        for word in ("20 of 20 cells", "commit 000000000000", "torch 2.9.0", "suite: "):
            assert word in shown.output

    def test_a_file_that_is_no_baseline_is_a_mistake_with_a_cure(self, folders):
        (folders / "x").mkdir()
        (folders / "x" / "cells.parquet").write_bytes(b"PAR1")
        done = run("compare", folders / "x", folders / "a", "--gate")
        assert done.exit_code == 2
        assert "not a readable baseline" in done.output

    def test_text_that_is_no_utf8_is_a_mistake_and_no_regression(self, folders):
        path = folders / "odd" / "cells.parquet"
        write_baseline(load_snapshot(folders / "a"), path.parent)
        table = pq.read_table(path)
        commits = pa.array([b"\xf7"] * len(table)).view(pa.string())
        place = table.schema.get_field_index("git_commit")
        pq.write_table(table.set_column(place, "git_commit", commits), path)
        done = run("compare", path.parent, folders / "a", "--gate")
        assert done.exit_code == 2
        assert "is not a readable baseline" in done.output

    @pytest.mark.parametrize("text", ["{", "[]", "{}", None])
    def test_versions_that_are_none_are_a_mistake_and_no_regression(self, folders, text):
        there = load_snapshot(folders / "a")
        there.cells["versions"] = text
        write_baseline(there, folders / "odd")
        done = run("compare", folders / "odd", folders / "a", "--gate")
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output

    @pytest.mark.parametrize(
        ("column", "value", "words"),
        [
            ("status", "failed", "failed or missing"),
            ("git_dirty", True, "uncommitted changes"),
            ("git_commit", None, "outside a git checkout"),
            ("git_commit", "1" * 40, "several commits"),
            ("device_name", "another", "several models of device"),
        ],
    )
    def test_an_unfit_run_becomes_no_baseline(self, tmp_path, column, value, words):
        suite = make_suite(seeds=2)
        plan, rows = make_rows(suite, {})
        changed = rows["cells"] if value is None else rows["cells"][1:2]
        for row in changed:
            row[column] = value
        write_results(tmp_path / "run", suite, plan, rows)
        done = run("baseline", "update", tmp_path / "run", "--baselines", tmp_path / "base")
        assert done.exit_code == 2
        assert words in done.output
        assert not (tmp_path / "base").exists()

    def test_a_run_that_is_not_finished_becomes_no_baseline(self, tmp_path):
        suite = make_suite(seeds=2)
        plan, rows = make_rows(suite, {})
        rows["cells"].pop()
        write_results(tmp_path / "run", suite, plan, rows)
        done = run("baseline", "update", tmp_path / "run", "--baselines", tmp_path / "base")
        assert done.exit_code == 2
        assert "1 of 4 cells are failed or missing" in done.output


def test_a_snapshot_holds_the_last_evaluation_and_every_planned_cell(tmp_path):
    suite = make_suite(seeds=2)
    plan, rows = make_rows(suite, {})
    lost = rows["cells"].pop()
    results = write_results(tmp_path / "run", suite, plan, rows)
    cells = take_snapshot(results, "x").cells.set_index("key")
    assert cells.loc[lost["key"], "status"] == "missing"
    first = plan[0]["key"]
    evaluations = results.evaluations.query("key == @first").sort_values("update")
    assert cells.loc[first, "td_error"] == evaluations["td_error"].iloc[-1]
    assert cells.loc[first, "final_score"] == pytest.approx(evaluations["score"].iloc[-5:].mean())
    write_baseline(take_snapshot(results, "x"), tmp_path / "stored")
    again = load_snapshot(tmp_path / "stored").cells.set_index("key")
    pd.testing.assert_frame_equal(again, cells)


def test_every_gated_series_has_a_level_in_the_synthetic_nights():
    assert set(LEVEL) == {series.name for series in SERIES}
