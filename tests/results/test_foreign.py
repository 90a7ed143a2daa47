"""Scores of other code: the layouts that are read, what is refused, and what comes of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.reports import undrawn

from benchbench.analysis.claims import judge
from benchbench.analysis.pairing import pair
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.report import write_report
from benchbench.results.foreign import POINTS, read_scores, write_foreign
from benchbench.results.tables import read_results


def table(seeds=10, gain=30.0):
    """Two variants on one task: the second ends ``gain`` higher."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck = rng.normal()
        for variant, final in (("SAC", 50.0), ("TD3 (ours)", 50.0 + gain)):
            rows += [
                ("Walker2d-v4", seed, variant, step, luck + final * step / 1000 + rng.normal())
                for step in range(0, 1001, 100)
            ]
    return pd.DataFrame(rows, columns=["environment", "seed", "variant", "step", "score"])


def ours(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is when read."""
    return frame.rename(columns={"environment": "env"})


def written(frame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def test_cleanrls_names_are_the_same_as_ours(tmp_path):
    frame = table(2)
    other = frame.set_axis(
        ["env_id", "seed", "exp_name", "global_step", "charts/episodic_return"], axis=1
    )
    ours = read_scores(written(frame, tmp_path / "ours.csv"))
    theirs = read_scores(written(other, tmp_path / "theirs.csv"))
    pd.testing.assert_frame_equal(ours, theirs)
    assert len(ours) == len(frame)


@pytest.mark.parametrize(
    "how", [{"encoding": "utf-8-sig"}, {"sep": ";"}, {"sep": ";", "decimal": ","}, {"sep": "\t"}]
)
def test_what_spreadsheets_make_of_it_is_the_same(how, tmp_path):
    frame = table(2)
    frame.set_axis(["Env Id", "Seed", "Exp-Name", "Step", "Score"], axis=1).to_csv(
        tmp_path / "theirs.csv", index=False, **how
    )
    ours = read_scores(written(frame, tmp_path / "ours.csv"))
    pd.testing.assert_frame_equal(ours, read_scores(tmp_path / "theirs.csv"))


def test_what_is_no_such_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "excel.csv").write_bytes("step;score\n".encode("utf-16"))
    (tmp_path / "ragged.csv").write_text("step,score\n1,2\n3,4,5\n")
    (tmp_path / "times.csv").write_text("Relative Time,Hopper-v4__sac__3 - return\n1,2\n")
    for name, said in (
        ("excel", "is not in UTF-8; save it"), ("ragged", "cannot be read as CSV"),
        ("times", "columns of runs, but none of their steps"), ("none", "No such file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said) as refused:
            read_scores(tmp_path / f"{name}.csv")
        assert "\n" not in refused.value.message


def test_a_chart_of_weights_and_biases_is_read_run_by_run(tmp_path):
    wide = pd.DataFrame({
        "global_step": [0, 100],
        "Hopper-v4__sac__3__1700000000 - charts/episodic_return": [1.0, 2.0],
        "Hopper-v4__sac__3__1700000000 - charts/episodic_return__MIN": [0.0, 0.0],
        "Hopper-v4__td3__3__1700000001 - charts/episodic_return": [3.0, None],
    })  # fmt: skip
    scores = read_scores(written(wide, tmp_path / "wandb.csv"))
    assert scores.values.tolist() == [
        ["Hopper-v4", 3, "sac", 0.0, 1.0], ["Hopper-v4", 3, "sac", 100.0, 2.0],
        ["Hopper-v4", 3, "td3", 0.0, 3.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="seed"), "no column for the seed"),
        (lambda t: t[["score", "step"]], "should have the columns environment, seed"),
        (lambda t: pd.concat([t, t.head(1)]), "has step 0 twice"),
        (lambda t: t.astype({"seed": str}).replace({"seed": {"1": "one"}}), "'one', not a number"),
        (lambda t: t.assign(score=np.nan), "holds no score"),
        (lambda t: t.assign(score=t["score"].map("{:.1f}%".format)), "plain numbers, such as 12.5"),
        (lambda t: t.assign(step=t["step"] / 1000), r"step is 0.1; write whole numbers"),
        (lambda t: t.assign(step=t["step"] * 1e30), r"step is 1e\+32; write whole numbers"),
        (lambda t: t.assign(seed=t["seed"] + 0.5), "seed is 0.5; write whole numbers"),
        (lambda t: t.assign(seed=str(2**70)), "write whole numbers from 0 to"),
        (
            lambda t: t.assign(environment=t["environment"].where(t["step"] > 0)),
            "has no environment in row 1",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        read_scores(written(change(table(2)), tmp_path / "bad.csv"))


@pytest.mark.parametrize(
    "names",
    [
        ["config.env_id", "config.seed", "config.exp_name", "global_step", "rollout/ep_rew_mean"],
        ["Task", "Seed", "Agent", "Frame (k)", "Episode Reward [points]"],
        ["env", "random_seed", "algo", "timesteps", "d4rl_normalized_score"],
    ],
)
def test_columns_of_other_loggers_are_ours(names, tmp_path):
    ours = read_scores(written(table(2), tmp_path / "ours.csv"))
    theirs = read_scores(written(table(2).set_axis(names, axis=1), tmp_path / "theirs.csv"))
    pd.testing.assert_frame_equal(ours, theirs)


def test_final_scores_need_no_step_but_one_row_a_run(tmp_path):
    frame = table(2)
    final = frame[frame["step"] == 1000].drop(columns="step")
    assert (read_scores(written(final, tmp_path / "final.csv"))["step"] == 1).all()
    with pytest.raises(UserError, match="has step 1 twice"):
        read_scores(written(frame.drop(columns="step"), tmp_path / "curves.csv"))


@pytest.mark.parametrize(
    ("change", "contrasts", "said"),
    [
        (lambda t: t[t["variant"] == "SAC"], [], "all of one variant, SAC"),
        (lambda t: t.assign(seed=t["seed"] + 9 * (t["variant"] == "SAC")), [], "nothing is a pair"),
        (lambda t: t, [("SAC", "SAC")], "nothing is a pair"),
        (lambda t: t, [("SAC", "PPO")], "'PPO': is not in the file"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, contrasts, said, tmp_path):
    with pytest.raises(UserError, match=said):
        write_foreign(tmp_path / "x", ours(change(table(2))), 5.0, contrasts)
    assert not (tmp_path / "x").exists()


def test_nothing_is_expected_of_a_variant_for_its_name(tmp_path):
    """Other code's 'after' need not be the brief's."""
    named = table(10).replace({"variant": {"SAC": "before", "TD3 (ours)": "after"}})
    write_foreign(tmp_path / "my runs, 9", ours(named), 5.0, [])
    results = read_results(tmp_path / "my runs, 9")
    assert results.suite.name == "my-runs-9"
    assert {c.expect for c in results.suite.compared} == {None}


def test_a_run_that_ends_early_is_named(tmp_path):
    frame = table(3)
    frame = frame[(frame["variant"] != "SAC") | (frame["seed"] != 2) | (frame["step"] <= 500)]
    write_foreign(tmp_path / "x", ours(frame), 5.0, [])
    results = read_results(tmp_path / "x")
    assert results.evaluations["update"].max() == 500
    said = "Walker2d-v4 is judged up to step 500 of 1000, where seed 2 of SAC ends"
    assert said in results.suite.description


def test_few_steps_are_not_cut_into_parts_that_end_alike(tmp_path):
    frame = table(2)
    frame["step"] //= 100
    frame = frame[(frame["seed"] > 0) | (frame["step"] != 3)]
    write_foreign(tmp_path / "x", ours(frame), 5.0, [])
    evaluations = read_results(tmp_path / "x").evaluations
    assert not evaluations.duplicated(["key", "update"]).any()


def test_a_difference_beyond_delta_is_found_and_none_is_not(tmp_path):
    for gain, words in ((30.0, {"higher"}), (0.0, {"inconclusive"})):
        folder = tmp_path / f"gain{gain:.0f}"
        scores = read_scores(written(table(10, gain), tmp_path / "scores.csv"))
        write_foreign(folder, scores, 5.0, [("TD3 (ours)", "SAC")])
        claims = judge(pair(read_results(folder)))
        tested = claims[claims["verdict"] != "not tested"]
        assert set(tested["claim"]) == {"area", "score"}
        assert set(tested["verdict"]) == words
        assert (tested["of"] == "td3-ours").all()
        if gain:
            final = tested[tested["claim"] == "score"].iloc[0]
            assert final["difference"] == pytest.approx(gain, abs=2)


def test_runs_of_other_steps_are_averaged_in_equal_parts_of_what_they_share(tmp_path):
    frame = table(2).astype({"step": float})
    late = frame["variant"] == "SAC"
    frame.loc[late, "step"] = frame.loc[late, "step"] * 1.5 + 7
    folder = tmp_path / "mixed"
    write_foreign(folder, read_scores(written(frame, tmp_path / "s.csv")), 5.0, [])
    results = read_results(folder)
    steps = results.evaluations.groupby("key")["update"].apply(tuple)
    assert len(set(steps)) == 1
    assert len(steps.iloc[0]) == POINTS
    assert results.evaluations["update"].max() == 1000, "no further than the shortest run"
    assert "not evaluated at the same steps" in results.suite.description


def test_names_that_only_signs_tell_apart_are_refused(tmp_path):
    frame = table(2).replace({"variant": {"TD3 (ours)": "S-A-C", "SAC": "s a c"}})
    with pytest.raises(UserError, match="differ in punctuation alone"):
        write_foreign(tmp_path / "x", frame, 5.0, [])


@pytest.mark.parametrize(
    ("delta", "seed", "said"),
    [(float("nan"), 0, "deltas.score: input should be a finite number, not nan"),
     (5.0, -1, "seeds.0: input should be greater than or equal to 0, not -1")],
)  # fmt: skip
def test_scores_that_make_no_suite_are_refused_as_a_suite_is(tmp_path, delta, seed, said):
    with pytest.raises(UserError, match=f"the scores make no suite: {said}"):
        write_foreign(tmp_path / "x", table(1).assign(seed=seed).rename(
            columns={"environment": "env"}), delta, [])  # fmt: skip


def test_the_verb_refuses_a_contrast_that_it_cannot_read(tmp_path):
    path = written(table(2), tmp_path / "scores.csv")
    done = CliRunner().invoke(main, ["judge", str(path), "--delta", "5", "--contrast", "SAC"])
    assert done.exit_code == 2
    assert "write it as A:B" in done.output


def test_the_page_asks_what_scores_can_answer(tmp_path):
    scores = read_scores(written(table(3), tmp_path / "s.csv"))
    write_foreign(tmp_path / "x", scores, 5.0, [("TD3 (ours)", "SAC")])
    with undrawn():
        write_report(tmp_path / "x")
    page = (tmp_path / "x" / "REPORT.md").read_text("utf-8")
    assert "Does `td3-ours` score otherwise than `sac`?" in page
    assert "What could not be done" not in page
    assert "encoder" not in page.split("```bibtex")[0].split("## All verdicts")[0]


def test_whole_scores_beyond_what_a_double_holds_are_rounded(tmp_path):
    frame = table(2).astype({"score": "int64"})
    frame.loc[0, "score"] = 2**63 - 1
    write_foreign(tmp_path, read_scores(written(frame, tmp_path / "scores.csv")), 1.0, [])
    assert read_results(tmp_path).cells["best_score"].max() == 2.0**63
