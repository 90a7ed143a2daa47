"""Names and numbers that a figure or a page takes for something else."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchbench.core.text import escape, mean_and_interval, number
from benchbench.report.charts import cost_figure, improvement_figure, paired_figure
from benchbench.report.document import Bullets, Document, marked, named, quoting
from benchbench.report.figures import q_error_figure
from benchbench.report.layout import apart, legend_columns, short
from benchbench.report.markdown import to_markdown
from benchbench.report.style import save, style
from benchbench.results.tables import read_results

ODD = ("price$low$high", "$^{$", "vd4rl:walker_walk/expert/84px", "日本", "x" * 200, r"a\b|c*d`e`")

LONG = [f"encoder-trained-by-the-{w}-loss-with-a-slower-target-network" for w in "abcd"]


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


def test_names_with_the_same_beginning_are_told_apart():
    names = ["after", *(f"encoder-trained-by-the-{w}-loss-slowly" for w in ("critic", "policy"))]
    assert short(names[1], 14).split("\n")[::2] == short(names[2], 14).split("\n")[::2]
    assert apart(names, 14) == ["after", "…critic-loss-\nslowly", "…policy-loss-\nslowly"]
    assert apart(["same", "same"]) == ["same", "same"]


@pytest.mark.parametrize("figure", [
    improvement_figure(pd.DataFrame([{"variant": v, "mean": 0.5, "lo": 0.4, "hi": 0.6}
                                     for v in LONG]), "before"),
    cost_figure(pd.DataFrame([{"variant": v, "update_ms": 1.0, "cell_s": 9.0, "train_s": 1.0,
                               "evaluate_s": 1.0, "diagnose_s": 1.0} for v in LONG])),
], ids=["improvement", "cost"])  # fmt: skip
def test_long_names_beside_rows_do_not_overlap(figure):
    with style():
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))


def test_a_variant_looks_the_same_in_every_panel():
    """Also where another has no values."""
    bands = pd.DataFrame([
        {"env": env, "variant": v, "measure": "m", "update": u, "mean": float(u), "lo": 0.0,
         "hi": 9.0}
        for env, there in (("a", ("mine", "other")), ("b", ("other",))) for v in there
        for u in (0, 5)
    ])  # fmt: skip
    one, two = q_error_figure(bands, {"m": "m"}, ["mine", "other"]).axes
    colors = [{line.get_label(): line.get_color() for line in ax.lines} for ax in (one, two)]
    assert colors[0]["other"] == colors[1]["other"] != colors[0]["mine"]


def test_a_panel_without_values_says_so():
    bands = pd.DataFrame([
        {"env": env, "variant": "after", "measure": m, "update": u, "mean": 0.5, "lo": 0.4,
         "hi": 0.6}
        for env, m in (("a", "x"), ("a", "y"), ("b", "x")) for u in (0, 5)
    ])  # fmt: skip
    axes = q_error_figure(bands, {"x": "x", "y": "y"}, ["after"]).axes
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [[], [], [], ["no values"]]


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
    assert mean_and_interval(0.0704, 0.0688, 0.0722, "points") == "0.070 [0.069, 0.072]"
    assert mean_and_interval(-0.066, -0.0667, -0.0646, "points") == "−0.066 [−0.067, −0.065]"
    assert mean_and_interval(0.04, -0.01, 0.1, "R²", signed=True) == "+0.04 [−0.01, +0.10]"
    assert mean_and_interval(0.0074, -0.007, 0.02, "R²") == "0.01 [−0.01, 0.02]"
    assert mean_and_interval(0.05, 0.0019, 0.1, "R²") == "0.05 [0.0019, 0.10]"


def test_an_infinite_score_is_none_and_told(tmp_path, caplog):
    suite = make_suite(seeds=2)
    plan, rows = make_rows(suite, BRIEF)
    rows["evaluations"][-1]["score"] = np.inf
    write_results(tmp_path, suite, plan, rows)
    caplog.clear()
    assert not np.isinf(read_results(tmp_path).evaluations["score"]).any()
    assert "1 value is infinite and counts as not measured (score)" in caplog.text
