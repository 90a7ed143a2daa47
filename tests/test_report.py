"""The report on disk: it always comes, says what it could not do, and is the same every time."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from results_factory import BRIEF, NOTHING, Rows, make_rows, make_suite, write_results

from benchbench.errors import UserError
from benchbench.report import judge, write_report
from benchbench.report.brief import ASPECTS
from benchbench.report.look import looks
from benchbench.report.text import escape, plain_table, width
from benchbench.results import read_results


def reported(
    folder: Path,
    effects: dict[str, dict[str, float]] = BRIEF,
    change: Callable[[Rows], None] = lambda rows: None,
    **suite: object,
) -> tuple[str, str]:
    """The report's page and terminal text for synthetic results."""
    made = make_suite(**suite)  # type: ignore[arg-type]
    plan, rows = make_rows(made, effects)
    change(rows)
    write_results(folder, made, plan, rows)
    terminal = write_report(folder)
    return (folder / "REPORT.md").read_text(encoding="utf-8"), terminal


def empty(rows: Rows) -> None:
    for table in rows.values():
        table.clear()


def fail_all(rows: Rows) -> None:
    for cell in rows["cells"]:
        cell |= {"status": "failed", "error": "out of <memory> | *boom*\nat line 3",
                 "final_score": None, "untrained_score": None, "best_score": None}  # fmt: skip
    for name in ("evaluations", "training", "ledger"):
        rows[name].clear()


def nan_scores(rows: Rows) -> None:
    for row in rows["evaluations"]:
        row["score"] = row["return_mean"] = None


class TestPage:
    def test_the_briefs_table_stands_row_for_row_in_its_order(self, tmp_path: Path) -> None:
        page, terminal = reported(tmp_path)
        for text in (page, terminal):
            places = [text.index(aspect.name) for aspect in ASPECTS]
            assert places == sorted(places)
        assert page.index("7 are supported") < page.index("| 方面 aspect |")

    def test_every_figure_is_there_and_shown(self, tmp_path: Path) -> None:
        page, _ = reported(tmp_path)
        pictures = sorted((tmp_path / "figures").glob("*.png"))
        assert len(pictures) == 7
        for picture in pictures:
            assert f"figures/{picture.name}" in page
            assert picture.with_suffix(".svg").stat().st_size > 1000

    def test_the_same_tables_give_the_same_bytes(self, tmp_path: Path) -> None:
        def hashes(folder: Path) -> dict[str, str]:
            return {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in folder.rglob("*")
                if path.is_file()
            }

        reported(tmp_path)
        first = hashes(tmp_path)
        write_report(tmp_path)
        assert hashes(tmp_path) == first

    def test_claims_are_written_as_they_were_judged(self, tmp_path: Path) -> None:
        reported(tmp_path)
        judged = judge(read_results(tmp_path))
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "claims.parquet"), judged, check_dtype=False
        )
        assert len(pd.read_csv(tmp_path / "claims.csv")) == len(judged)

    def test_it_says_so_when_nothing_learned(self, tmp_path: Path) -> None:
        flat = {"before": {"final": 0.0}, "after": {"final": 0.0}}
        page, terminal = reported(tmp_path, flat)
        assert "none ended clear above its untrained score" in page
        assert "says little" in " ".join(terminal.split())

    def test_provenance_names_versions_data_and_commit(self, tmp_path: Path) -> None:
        page, _ = reported(tmp_path)
        for fact in ("torch 2.9.0", "f" * 64, "0" * 40, "a processor", "benchbench report synth"):
            assert fact in page

    def test_another_folder_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no results"):
            write_report(tmp_path)


class TestIncompleteResults:
    @pytest.mark.parametrize(
        ("change", "suite", "said"),
        [
            (empty, {}, "0 of 20 cells are done"),
            (fail_all, {}, "failed: bullet-maze2d-open-v0 seed 0 before: out of &lt;memory&gt;"),
            (nan_scores, {}, "not measured: normalised area under the score curve"),
            (lambda rows: None, {"seeds": 1}, "1 pair; 9 needed"),
            (lambda rows: None, {"variants": ["after"]}, "no finished pair"),
            (lambda rows: None, {"variants": ["frozen"], "observation": "state"},
             "no data for the figure: Probes over training"),
            (lambda rows: rows["training"].clear(), {},
             "no data for the figure: Signal strength on the encoder"),
            (lambda rows: rows["cells"].pop(), {},
             "missing: bullet-maze2d-open-v0 seed 9 after"),
        ],
    )  # fmt: skip
    def test_the_report_still_comes_and_says_what_is_not_there(
        self,
        tmp_path: Path,
        change: Callable[[Rows], None],
        suite: dict[str, object],
        said: str,
    ) -> None:
        page, terminal = reported(tmp_path, NOTHING, change, **suite)
        assert said in page
        assert all(aspect.name in terminal for aspect in ASPECTS)
        assert not re.search(r"\b(nan|none|inf)\b", page + terminal, re.IGNORECASE)

    def test_figures_of_an_earlier_report_do_not_stay(self, tmp_path: Path) -> None:
        reported(tmp_path)
        reported(tmp_path, change=empty)
        assert not list((tmp_path / "figures").iterdir())


class TestText:
    def test_columns_align_beside_chinese(self) -> None:
        lines = plain_table(["a", "b"], [["梯度流向", "x"], ["plain", "y"]]).splitlines()
        assert {
            width(line[: line.index(mark)]) for line, mark in zip(lines[2:], "xy", strict=True)
        } == {10}

    def test_text_from_elsewhere_cannot_break_the_table(self) -> None:
        assert escape("a | b\n<script>*x*") == "a \\| b &lt;script&gt;\\*x\\*"


class TestLooks:
    def test_a_variant_looks_the_same_in_any_company(self) -> None:
        few, many = looks(["before", "after"]), looks(["own-a", "frozen", "after", "before"])
        assert few == {name: many[name] for name in few}

    def test_twelve_variants_differ_in_more_than_colour(self) -> None:
        table = looks(["before", "after", "vae-only", "joint-sum", "joint-two", "frozen",
                       *(f"own-{i}" for i in range(6))])  # fmt: skip
        assert len({look.color for look in table.values()}) == 12
        assert len({(str(look.line), look.marker) for look in table.values()}) == 12


def test_global_plotting_state_is_left_alone(tmp_path: Path) -> None:
    with mpl.rc_context():
        mpl.rcdefaults()
        before = dict(mpl.rcParams)
        reported(tmp_path)
        assert dict(mpl.rcParams) == before


def test_the_report_knows_only_tables_and_suites() -> None:
    code = (
        "import sys, benchbench.report; "
        "print(*[m for m in sys.modules if m.startswith('benchbench.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in found.stdout.split()}
    assert rooms == {"report", "results", "suite", "routing", "errors"}
    assert "torch" not in found.stdout
