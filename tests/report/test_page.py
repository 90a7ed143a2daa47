"""What a stranger sees first: question, answer, one picture of all verdicts; the rest folded."""

import math
import re
from pathlib import Path

import matplotlib.colors as colors
import pandas as pd
import pytest
from helpers.results_factory import (
    BRIEF,
    NOTHING,
    make_results,
    make_rows,
    make_suite,
    write_results,
)
from matplotlib.collections import FillBetweenPolyCollection

from benchbench.analysis.brief import ALL
from benchbench.analysis.claims import judge
from benchbench.analysis.pairing import pair
from benchbench.analysis.verdicts import overview, still_open
from benchbench.report import gallery, write_report
from benchbench.report.charts import amount
from benchbench.report.figures import same_curves, score_figure
from benchbench.report.language import Words
from benchbench.report.overview_figure import EDGE, MARKS, overview_figure, place
from benchbench.results.tables import read_results

ENVS = ["bullet-maze2d-open-v0", "bullet-maze2d-umaze-v0"]


@pytest.fixture(scope="module")
def two():
    """Two environments, ten seeds, the brief right in every row; its claims."""
    study = pair(make_results(BRIEF, envs=ENVS, seeds=10))
    return study, judge(study)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page with its paper, the figures not written as pixels."""
    made = tmp_path_factory.mktemp("page")
    suite = make_suite(envs=ENVS, seeds=4, variants=["before", "after", "frozen"])
    write_results(made, suite, *make_rows(suite, NOTHING))

    def save(figure, folder, name, pdf=False):
        for kind in ("png", "svg"):
            (folder / f"{name}.{kind}").write_bytes(b"<svg/>")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "save", save)
        write_report(made, "both", paper=True)
    return made


class TestOverview:
    def test_an_effect_is_in_units_of_its_delta_and_the_claimed_direction_is_right(self, two):
        study, claims = two
        frame = overview(claims).set_index(["claim", "env"])
        deltas = study.results.suite.deltas
        raw = claims[claims["row"] > 1].set_index(["claim", "env"])
        score, action = ("score", ENVS[0]), ("action", ENVS[0])
        assert frame.loc[score, "effect"] == raw.loc[score, "difference"] / deltas.score
        assert raw.loc[action, "difference"] < 0 < frame.loc[action, "effect"]
        assert frame.loc[action, "effect"] == -raw.loc[action, "difference"] / deltas.r2
        assert (frame["lo"] <= frame["hi"]).all()

    def test_every_claim_has_its_mean_first_and_a_line_an_environment(self, two):
        frame = overview(two[1])
        for _, mine in frame.groupby("claim"):
            assert mine["env"].to_list() == [ALL, *ENVS]

    def test_the_figure_draws_each_in_the_colour_of_its_verdict_and_no_further_than_its_edge(self):
        row = {"claim": "score", "measure": "m", "env": ALL, "label": "", "n_pairs": 5,
               "pairs_for_delta": math.nan}  # fmt: skip
        frame = pd.DataFrame([
            row | {"effect": 2.0, "lo": 1.5, "hi": math.inf, "verdict": "supported"},
            row | {"env": "e", "effect": math.nan, "lo": math.nan, "hi": math.nan,
                   "verdict": "not measured"},
        ])  # fmt: skip
        ax = overview_figure(frame, {"score": "score"}, "").axes[0]
        drawn = [line for line in ax.lines if line.get_color() == MARKS["supported"].color]
        assert [line.get_marker() for line in drawn] == ["None", ">", "o"]
        assert max(x for line in drawn for x in line.get_xdata()) == 1.0
        assert not [line for line in ax.lines if line.get_color() == MARKS["not measured"].color]

    def test_the_scale_is_symmetric_and_ends_at_its_edges(self):
        assert place(0) == 0.5
        assert place(EDGE) == 1.0 == place(math.inf)
        assert place(3) + place(-3) == pytest.approx(1)

    def test_what_is_open_names_the_environments_that_take_fewest_and_most(self, two):
        _, claims = two
        assert still_open(claims).empty, "all is supported"
        undone = claims.assign(verdict="inconclusive")
        undone.loc[undone["env"] == ENVS[0], "pairs_for_delta"] = 12.0
        undone.loc[undone["env"] == ENVS[1], "pairs_for_delta"] = 400.0
        found = still_open(undone).set_index("claim").loc["score"]
        assert found[["env_least", "least", "env_most", "most", "there"]].to_list() == [
            ENVS[0], 12.0, ENVS[1], 400.0, 10,
        ]  # fmt: skip


class TestPage:
    def test_question_answer_and_overview_come_before_anything_else(self, folder):
        page = (folder / "REPORT.md").read_text("utf-8")
        heads = re.findall(r"^## (.*)", page, re.M)
        assert heads[:3] == [
            "All verdicts at a glance", "What would decide it", "The brief's table, measured",
        ]  # fmt: skip
        lead = page.split("##")[0]
        assert "Which loss should train the image encoder" in lead
        assert "Of seven claims for `after`" in lead
        assert "brief" not in lead
        assert "](figures/overview.png)" in page

    def test_all_that_is_not_first_is_folded_and_can_be_reached(self, folder):
        html = (folder / "report.html").read_text("utf-8")
        main = html[html.index("<main>") :]
        anchors = re.findall(r'<details id="([a-z-]+)"', main)
        assert {"figures", "variants", "provenance", "reading"} <= {*anchors}
        assert not {"overview", "table", "files", "open"} & {*anchors}
        for anchor in anchors:
            assert f'href="#{anchor}"' in main
        assert main.count("<details") == main.count("</details>")
        page = (folder / "REPORT.md").read_text("utf-8")
        assert page.count("<details>") == page.count("</details>") == len(anchors)

    def test_nothing_is_said_of_what_could_not_be_done_where_all_was(self, folder):
        page = (folder / "REPORT.md").read_text("utf-8")
        assert "24 of 24 cells are done" in page
        assert "What could not be done" not in page

    def test_a_languages_page_links_to_the_others_and_holds_its_words_alone(self, folder):
        english, chinese = ((folder / f"REPORT{e}.md").read_text("utf-8") for e in ("", ".zh"))
        assert "[中文](REPORT.zh.md)" in english
        assert "[English](REPORT.md)" in chinese
        assert not re.search(r"[\u4e00-\u9fff]", english.replace("中文", ""))

    def test_a_note_is_taken_for_no_other(self):
        note = "14 of 15 planned pairs; 1 with a probe's R² below −1, which says nothing"
        assert not re.search("[A-Za-z]{3}", Words("zh").note(note))
        assert Words("zh").note("5 pairs; 10 needed") == "5 对；需要 10 对"

    def test_every_file_that_the_page_links_to_is_there(self, folder):
        html = (folder / "report.html").read_text("utf-8")
        links = {link for link in re.findall(r'href="([^"#]+)"', html)}
        assert {"suite.json", "claims.csv", "figures/score.svg", "report.zh.html"} <= links
        assert all((folder / link).is_file() for link in links)

    def test_a_row_has_one_pill(self, folder):
        html = (folder / "report.html").read_text("utf-8")
        table = re.search(r'<table class="fixed".*?</table>', html, re.S)[0]
        assert [part.count('class="verdict') for part in table.split("<tbody")[1:]] == [1] * 7

    def test_it_can_be_cited(self, folder):
        page = (folder / "REPORT.md").read_text("utf-8")
        entry = re.search(r"```bibtex\n(.*?)```", page, re.S)[1]
        assert entry.startswith("@software{benchbench,")
        assert "24 runs, commit 000000000000" in entry
        assert entry.count("{") == entry.count("}")


def test_a_small_p_beside_inconclusive_is_explained(tmp_path, two):
    from benchbench.report.verdict_sections import how_to_read

    study, claims = two
    held = claims.assign(verdict="inconclusive", p_holm=0.006, lo=-0.01, hi=0.1)
    text = str(how_to_read(held, study.pairings[0].contrast, Words()))
    assert "inconclusive in spite of its adjusted p of 0.006" in text
    assert "in spite of" not in str(how_to_read(claims, study.pairings[0].contrast, Words()))


class TestFigures:
    def bands(self, variants):
        return pd.DataFrame([
            {"env": env, "variant": v, "update": u, "mean": u + (v == "after"), "lo": u - 1.0,
             "hi": u + 1.0}
            for env in ["a", "b", "c"] for v in variants for u in (0, 10, 20)
        ])  # fmt: skip

    def test_three_environments_stand_in_three_panels_none_empty(self):
        bands = self.bands(["before", "after"])
        runs = bands.rename(columns={"mean": "value"}).assign(seed=0)
        axes = score_figure(bands, runs, ["before", "after"]).axes
        assert len(axes) == 3
        assert all(ax.get_visible() and ax.lines for ax in axes)

    def test_only_the_compared_have_bands_where_there_are_many(self):
        bands = self.bands(["before", "after", "frozen", "joint-sum", "separate"])
        runs = bands.rename(columns={"mean": "value"}).assign(seed=0)
        ax = score_figure(bands, runs, ["before", "after"]).axes[0]
        drawn = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
        shown = {colors.to_hex(c.get_facecolor()[0]).upper() for c in drawn}
        assert shown == {"#D55E00", "#0072B2"}

    def test_a_curve_under_another_shows_its_markers_between_those(self):
        bands = self.bands(["before", "vae-only", "after"])
        assert same_curves(bands[bands["env"] == "a"]) == {"vae-only"}

    def test_an_amount_is_no_power_of_ten(self):
        assert [amount(v) for v in (98.14, 99.97, 123.4, 0.25, 12345.0)] == [
            "98.1", "100", "123", "0.25", "12,345",
        ]  # fmt: skip


class TestPaper:
    def test_tables_are_booktabs_without_characters_that_latex_refuses(self, folder):
        for name in ("claims", "environments", "scores"):
            text = (folder / "tables" / f"{name}.tex").read_text("utf-8")
            assert text.startswith("\\begin{tabular}")
            assert "\\toprule" in text
            assert not re.search(r"[−×²σ∞–δ]", text)
        assert "bullet-maze2d-open-v0" in (folder / "tables" / "scores.tex").read_text("utf-8")

    def test_the_script_draws_the_reports_figures_and_is_not_written_over(
        self, folder, capsys, monkeypatch
    ):
        cost = next(shown for shown in gallery.GALLERY if shown.name == "cost")
        monkeypatch.setattr(gallery, "GALLERY", {cost: gallery.GALLERY[cost]})
        script = folder / "figures" / "make.py"
        source = script.read_text("utf-8").replace('FORMAT = "pdf"', 'FORMAT = "svg"')
        drawn = source.replace("sys.argv[1:]", '["overview", "cost"]')
        exec(compile(drawn, str(script), "exec"), {"__file__": str(script)})
        assert capsys.readouterr().out.split() == ["overview.svg", "cost.svg"]
        assert (script.with_name("overview.svg")).stat().st_size > 10_000
        script.write_text("# mine")
        from benchbench.report.paper import write_paper

        study = pair(read_results(folder))
        write_paper(folder, study, judge(study))
        assert script.read_text() == "# mine"


def test_pdfs_are_the_same_bytes_each_time(two, tmp_path: Path):
    from benchbench.report.style import save

    for name in ("a", "b"):
        frame = overview(two[1])
        figure = overview_figure(frame, {c: c for c in frame["claim"]}, "effect")
        save(figure, tmp_path, name, pdf=True)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
