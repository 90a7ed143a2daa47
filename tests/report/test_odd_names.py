"""Names and numbers that a figure or a page takes for something else."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchbench.core.text import escape, number
from benchbench.report.charts import paired_figure
from benchbench.report.document import Bullets, Document, marked, named, quoting
from benchbench.report.layout import legend_columns, short
from benchbench.report.markdown import to_markdown
from benchbench.report.style import save
from benchbench.results.tables import read_results

ODD = ("price$low$high", "$^{$", "vd4rl:walker_walk/expert/84px", "日本", "x" * 200, r"a\b|c*d`e`")


def test_dollars_in_figures_are_text():
    assert short("price$low$high") == r"price\$low\$high"


@pytest.mark.parametrize("name", ODD)
def test_names_in_figures_are_of_few_short_lines(name):
    lines = short(name, 20).replace(r"\$", "$").split("\n")
    assert len(lines) <= 3
    assert max(map(len, lines)) <= 23


def test_odd_names_are_drawn_without_a_warning(tmp_path):
    pairs = pd.DataFrame(
        [{"env": env, "seed": s, "difference": 1.0} for env in ODD for s in (0, 1)]
    )
    means = pd.DataFrame([{"env": env, "difference": 1.0, "lo": 0.0, "hi": 2.0} for env in ODD])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = paired_figure(pairs, means, "final score, $a$ − b (points)", 5.0)
        save(figure, tmp_path, "paired")
    (ax,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    edge = figure.bbox
    for text in (*ax.get_yticklabels(), ax.xaxis.label):
        box = text.get_window_extent(renderer)
        assert box.x0 >= edge.x0 - 1
        assert box.x1 <= edge.x1 + 1


def test_long_names_stand_in_fewer_columns():
    assert legend_columns(6.9, ["before", "after"]) == 6
    assert legend_columns(6.9, ["a" * 60, "after"]) <= 2
    assert legend_columns(3.3, ["a" * 60]) == 1


def test_names_on_the_page_are_text():
    lines = (quoting("missing: \0 after", "a **b** `c` $d$"), marked(f"on {named('a`b')}"))
    page = to_markdown(Document("t", "en", (Bullets(lines),)))
    assert r"a \*\*b\*\* \`c\` \$d\$ after" in page
    assert "on `aˋb`" in page
    assert escape("a|b") == r"a\|b"


def test_a_small_number_is_not_zero():
    assert number(0.0044, "R²") == "0.0044"
    assert number(-0.0704, "points²", signed=True) == "−0.07"
    assert number(1e-12, "R²") == "0.00"
    assert number(0.0, "points") == "0.0"


def test_an_infinite_score_is_none_and_told(tmp_path, caplog):
    suite = make_suite(seeds=2)
    plan, rows = make_rows(suite, BRIEF)
    rows["evaluations"][-1]["score"] = np.inf
    write_results(tmp_path, suite, plan, rows)
    caplog.clear()
    assert not np.isinf(read_results(tmp_path).evaluations["score"]).any()
    assert "1 value is infinite and counts as not measured (score)" in caplog.text
