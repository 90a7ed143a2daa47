"""The report on disk: it always comes, says what it could not do, and is the same every time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from helpers.reports import few_figures
from helpers.results_factory import (
    BRIEF,
    NOTHING,
    Rows,
    make_results,
    make_rows,
    make_suite,
    write_results,
)
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch as Arrow

from benchbench.analysis.brief import ASPECTS
from benchbench.analysis.curves import flows
from benchbench.core.errors import UserError
from benchbench.core.text import escape, plain_table, width, wrapped
from benchbench.report import (
    describe,
    gallery,
    judge,
    learned,
    pair,
    pairs,
    report_files,
    write_report,
)
from benchbench.report import gradient_flow_figure as loop
from benchbench.report.language import Lang, Words
from benchbench.report.page import terminal
from benchbench.report.style import looks, style
from benchbench.results.tables import Results, read_results
from benchbench.routing import REGISTRY

MAZES = [f"bullet-maze2d-{maze}-v0" for maze in ("open", "umaze", "medium", "large")]


def reported(
    folder: Path,
    effects: dict[str, dict[str, float]] = BRIEF,
    change: Callable[[Rows], None] = lambda rows: None,
    lang: Lang | Literal["both"] = "en",
    **suite: object,
) -> tuple[str, str]:
    """The report's page and terminal text for synthetic results."""
    made = make_suite(**suite)  # type: ignore[arg-type]
    plan, rows = make_rows(made, effects)
    change(rows)
    write_results(folder, made, plan, rows)
    terminal = write_report(folder, lang)
    return read(report_files(folder, "en" if lang == "both" else lang)[0]), terminal


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def reprinted(folder: Path) -> str:
    """What the terminal shows of a folder's results."""
    study = pair(read_results(folder))
    return terminal(study, judge(study), learned(study), Words())


def empty(rows: Rows) -> None:
    for table in rows.values():
        table.clear()


def fail_all(rows: Rows) -> None:
    for cell in rows["cells"]:
        cell |= {"status": "failed", "error": "out of <memory> | *boom*\nat line 3",
                 "final_score": None, "untrained_score": None, "best_score": None}  # fmt: skip
    for name in ("evaluations", "training", "ledger"):
        rows[name].clear()


def no_roll_outs(rows: Rows) -> None:
    for row in rows["evaluations"]:
        row["q_error"] = None


def nan_scores(rows: Rows) -> None:
    for row in rows["evaluations"]:
        row["score"] = row["return_mean"] = None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report's folder, both languages, made once for those who only look at it."""
    folder = tmp_path_factory.mktemp("whole")
    reported(folder, lang="both")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, so that what cannot be drawn is found, but not written as pixels."""

    def save(figure: Figure, folder: Path, name: str, pdf: bool = False) -> None:
        for suffix in ("png", "svg"):
            (folder / f"{name}.{suffix}").write_bytes(b"<svg/>")

    monkeypatch.setattr(gallery, "save", save)


class TestPage:
    def test_the_briefs_table_stands_row_for_row_in_its_order(self, whole: Path) -> None:
        page = read(whole / "REPORT.md")
        for text in (page, read(whole / "report.html"), reprinted(whole)):
            table = text[text.index("applied share of the critic") - 300 :]
            places = [table.index(aspect.name.en) for aspect in ASPECTS]
            assert places == sorted(places)
        assert page.index("7 are supported") < page.index("| aspect | before | after | impact |")
        assert "claimed: critical" in page

    def test_every_figure_is_there_and_shown(self, whole: Path) -> None:
        page, html = read(whole / "REPORT.md"), read(whole / "report.html")
        pictures = sorted((whole / "figures").glob("*.png"))
        assert len(pictures) == 11
        for picture in pictures:
            assert f"figures/{picture.name}" in page
            svg = read(picture.with_suffix(".svg"))
            assert len(svg) > 1000
            assert f'href="figures/{picture.stem}.svg"' in html
            if picture.stem != "overview":  # which the page draws itself, so that it fits a phone
                assert "".join(svg.replace('"', "'").split()) in "".join(unquote(html).split())

    def test_the_same_tables_give_the_same_bytes(self, whole: Path, tmp_path: Path) -> None:
        reported(tmp_path, lang="both")
        for path in tmp_path.rglob("*"):
            assert (
                path.is_dir()
                or path.read_bytes() == (whole / path.relative_to(tmp_path)).read_bytes()
            ), path

    def test_frames_are_written_as_they_were_made(self, whole: Path) -> None:
        results = read_results(whole)
        for name, made in (("claims", judge), ("described", describe), ("pairs", pairs)):
            frame = made(pair(results))
            stored = pd.read_parquet(whole / f"{name}.parquet")
            pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
            assert len(pd.read_csv(whole / f"{name}.csv")) == len(frame) > 0

    @pytest.mark.usefixtures("undrawn")
    def test_it_says_so_when_nothing_learned(self, tmp_path: Path) -> None:
        flat = {"before": {"final": 0.0}, "after": {"final": 0.0}}
        page, terminal = reported(tmp_path, flat, seeds=8)
        assert "none ended clearly above its untrained score" in page
        assert "says little" in " ".join(terminal.split())

    def test_provenance_names_versions_data_and_commit(self, whole: Path) -> None:
        for page in (read(whole / "REPORT.md"), read(whole / "report.html")):
            for fact in ("torch 2.9.0", "f" * 64, "0" * 40, "a processor", "report synth"):
                assert fact in page

    def test_the_diagnostics_share_of_the_time_is_said(self, whole: Path) -> None:
        said = "The diagnostics took 5.0 % of the cells' wall time; 10 % is what"
        assert said in read(whole / "REPORT.md")

    def test_another_folder_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no results"):
            write_report(tmp_path)

    @pytest.mark.usefixtures("undrawn")
    def test_what_stands_in_for_a_measure_is_named(self, tmp_path: Path) -> None:
        def older(rows: Rows) -> None:
            no_roll_outs(rows)
            for cell in rows["cells"]:
                cell["oracle_state_r2"] = None

        page, _ = reported(tmp_path, change=older)
        assert "in place of RMS of Q − own policy's return, since 10 of 10 pairs lack" in page
        assert "RMS of Q − behaviour return, over σ_G, last evaluation" in page
        assert "not the error against the policy's own returns" in page.replace("\n", " ")
        assert "is the state probe's R² itself" in page


class TestChinese:
    def test_headings_rows_and_verdicts_are_the_briefs_own(self, whole: Path) -> None:
        page = read(whole / "REPORT.zh.md")
        assert "| 方面 | 修改前 | 修改后 | 影响 |" in page
        assert "*原文所称：中等*" in page
        assert "**成立**" in page
        assert "关于 `after` 的七项论断中，7 项成立（" in page
        assert 'lang="zh"' in read(whole / "report.zh.html")

    def test_no_english_sentence_is_left(self, whole: Path) -> None:
        own = r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)|bullet-\S+|[a-z]+ \d[\d.]+"
        text = re.sub(own, "", read(whole / "REPORT.zh.md").partition("## 来源")[0])
        assert not re.findall(r"(?:[A-Za-z]+ ){2,}[a-z]+", text)

    @pytest.mark.usefixtures("undrawn")
    def test_a_page_of_the_other_language_does_not_go_stale(self, tmp_path: Path) -> None:
        reported(tmp_path, lang="zh", seeds=1)
        assert not (tmp_path / "REPORT.md").exists()
        reported(tmp_path, change=empty, seeds=1)
        assert "2 个单元中已完成 0 个" in read(tmp_path / "REPORT.zh.md")
        assert "2 个单元中已完成 0 个" in read(tmp_path / "report.zh.html")

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize(
        ("suite", "change"),
        [
            ({"seeds": 8}, "hole"),
            ({"seeds": 1}, "nothing"),
            ({"variants": ["after"]}, "older"),
            ({"variants": ["frozen"], "observation": "state"}, "nothing"),
            ({"variants": ["before", "after", "frozen"], "seeds": 10}, "tamper"),
            ({"envs": MAZES[:2], "seeds": 12}, "nothing"),
            ({"variants": ["after", "frozen", "vae-only"], "seeds": 10}, "nothing"),
            ({"seeds": {"start": 5, "most": 10, "look_every": 5}}, "nothing"),
            ({"claims": ["score"], "seeds": 12}, "hole"),
            ({}, "empty"),
            ({}, "fail"),
        ],
    )
    def test_whatever_the_results_every_phrase_is_there(
        self, tmp_path: Path, suite: dict[str, object], change: str
    ) -> None:
        changes: dict[str, Callable[[Rows], None]] = {
            "nothing": lambda rows: None,
            "empty": empty,
            "fail": fail_all,
            "older": no_roll_outs,
            "hole": lambda rows: rows["evaluations"][3].update(score=None, q_error=None),
            "tamper": lambda rows: rows["ledger"][0].update(dropped=0.0, applied=1.0),
        }  # fmt: skip
        reported(tmp_path, NOTHING, changes[change], lang="zh", **suite)


def fail_one(rows: Rows) -> None:
    rows["cells"][0] |= {"status": "failed", "error": "killed", "threads": None}


def lose_before(rows: Rows) -> None:
    rows["cells"] = [cell for cell in rows["cells"] if cell["variant"] != "before"]


class TestIncompleteResults:
    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize(
        ("change", "suite", "said"),
        [
            (empty, {}, "0 of 20 cells are done"),
            (fail_all, {}, "failed: bullet-maze2d-open-v0 seed 0 before: out of &lt;memory&gt;"),
            (fail_one, {}, ", 1 thread(s), 19 cells"),
            (nan_scores, {}, "not measured: normalised area under the score curve"),
            (lambda rows: None, {"seeds": 1}, "1 pair; 9 needed"),
            (lambda rows: None, {"variants": ["after"]}, "No two variants are compared"),
            (lambda rows: None, {"variants": ["frozen"], "observation": "state"},
             "no data for the figure: Probes over training"),
            (lambda rows: rows["training"].clear(), {},
             "no data for the figure: Signal strength on the encoder"),
            (lambda rows: rows["cells"].pop(), {},
             "missing: bullet-maze2d-open-v0 seed 9 after"),
            (lose_before, {}, "missing: bullet-maze2d-open-v0 before, all 10 seeds"),
            (lambda rows: rows["features"].clear(), {}, "20 of 20 cells are done"),
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
        html = re.sub(r"(?s)<(style|script)>.*?</\1>|<[^>]*>", "", read(tmp_path / "report.html"))
        assert said in page
        assert said.replace("&lt;", "<").replace("&gt;", ">") in unescape(html)
        compared = len(suite.get("variants", "both")) > 1  # type: ignore[arg-type]
        assert all(aspect.name.en in terminal for aspect in ASPECTS) == compared
        assert not re.search(r"\b(nan|none|inf)\b", page + terminal + html, re.IGNORECASE)

    def test_figures_of_an_earlier_report_do_not_stay(self, tmp_path: Path) -> None:
        with few_figures():
            reported(tmp_path, seeds=1)
        assert list((tmp_path / "figures").iterdir())
        reported(tmp_path, change=empty)
        assert not list((tmp_path / "figures").iterdir())


class TestFigures:
    """Every figure, saved whole, in the company that crowds it most: nothing is cut off."""

    @pytest.mark.parametrize(
        "suite", [{"seeds": 2}, {"seeds": 2, "variants": list(REGISTRY)[:12], "envs": MAZES}]
    )
    def test_nothing_lies_outside_of_the_paper(self, suite: dict[str, object]) -> None:
        study = pair(make_results(**suite))  # type: ignore[arg-type]
        for shown, make in gallery.GALLERY.items():
            (_, figure), *_ = make(study)
            with style():
                figure.draw_without_rendering()
            width, height = figure.get_size_inches()
            box = figure.get_tightbbox()
            assert box.x0 > -0.05, shown.name
            assert box.y0 > -0.05, shown.name
            assert box.x1 < width + 0.05, shown.name
            assert box.y1 < height + 0.05, shown.name
            assert height < 11, shown.name

    def test_the_loop_shows_applied_dropped_and_absent_gradients(self) -> None:
        figure = loop.flow_figure(flows(make_results(seeds=2)))
        lines = [p.get_linestyle() for p in figure.axes[0].patches if isinstance(p, Arrow)]
        # Three heads and one encoder each, of which before's critic is dropped; two of the key.
        assert len(lines) == 3 + 2 + 3 + 1 + 2
        assert sum(line != "-" for line in lines) == 1 + 1

    def test_q_is_shown_against_the_own_policys_returns_where_every_environment_has_them(
        self,
    ) -> None:
        def titles(results: Results) -> str:
            figure = next(
                make for shown, make in gallery.GALLERY.items() if shown.name == "q-error"
            )
            ((_, drawn),) = figure(pair(results))
            return " ".join(ax.get_ylabel() for ax in drawn.axes)

        results = make_results(seeds=2)
        assert "own return" in titles(results)
        older = replace(results, evaluations=results.evaluations.assign(q_error=np.nan))
        assert "behaviour return" in titles(older)
        mixed = make_results(seeds=2, envs=["bullet-maze2d-open-v0", "bullet-maze2d-umaze-v0"])
        mixed.evaluations.loc[mixed.evaluations["env"].str.contains("umaze"), "q_error"] = np.nan
        assert "behaviour return" in titles(mixed)  # as in the table, and with no empty panel


class TestText:
    def test_columns_align_beside_chinese(self) -> None:
        lines = plain_table(["a", "b"], [["梯度流向", "x"], ["plain", "y"]]).splitlines()
        assert {
            width(line[: line.index(mark)]) for line, mark in zip(lines[2:], "xy", strict=True)
        } == {10}

    def test_chinese_wraps_without_spaces_and_never_before_a_comma(self) -> None:
        lines = wrapped("一二三四五六七，before 与 after，八九十", 14).splitlines()
        assert [width(line) <= 14 for line in lines] == [False, True, True]
        assert not any(line.startswith("，") for line in lines)

    def test_text_from_elsewhere_cannot_break_the_table(self) -> None:
        assert escape("a | b\n<script>*x*") == "a \\| b &lt;script&gt;\\*x\\*"


class TestLooks:
    def test_a_variant_looks_the_same_in_any_company(self) -> None:
        few, many = looks(["before", "after"]), looks(["own-a", "frozen", "after", "before"])
        assert few == {name: many[name] for name in few}

    def test_the_registry_and_own_variants_differ_in_more_than_colour(self) -> None:
        table = looks([*REGISTRY, *(f"own-{i}" for i in range(10))])
        assert len({(str(look.line), look.marker) for look in table.values()}) >= 12
        assert len(set(table.values())) == len(table) == len(REGISTRY) + 10

    def test_own_variants_avoid_the_colours_beside_them(self) -> None:
        table = looks(["before", "after", *(f"own-{i}" for i in range(10))])
        assert len({look.color for look in table.values()}) == 12


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_another_agent_is_named_and_what_its_vae_is(
    tmp_path: Path, whole: Path, lang: Lang
) -> None:
    def drq(rows: Rows) -> None:
        for cell in rows["cells"]:
            cell["settings"] = '{"agent": {"algorithm": "drq-bc"}}'

    with few_figures():
        assert "`drq-bc`" in reported(tmp_path, change=drq, lang=lang, seeds=2)[0]
    assert "Agent:" not in read(report_files(whole)[0])


@pytest.mark.usefixtures("undrawn")
def test_global_plotting_state_is_left_alone(tmp_path: Path) -> None:
    with mpl.rc_context():
        mpl.rcdefaults()
        before = dict(mpl.rcParams)
        reported(tmp_path, seeds=1)
        assert dict(mpl.rcParams) == before


def test_the_report_knows_only_tables_and_suites() -> None:
    code = (
        "import sys, benchbench.report; "
        "print(*[m for m in sys.modules if m.startswith('benchbench.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in found.stdout.split()}
    assert rooms == {"report", "analysis", "results", "core", "suite", "routing"}
