"""A suite with all that measures afresh: final starts, probes on held-out frames, sets, conditions.

Small: seconds in all.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

import benchbench
from benchbench.cell.build import final_evaluator
from benchbench.cell.devices import Device
from benchbench.cell.train import CellRun, run_cell
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.data.store import open_dataset
from benchbench.diagnostics.preconditions import refuse_unmeasurable
from benchbench.diagnostics.reference_encoder import oracle_identity, oracle_state_r2
from benchbench.report.language import Words
from benchbench.report.sections import methods_section
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

pytestmark = pytest.mark.usefixtures("tiny_data")


def tiny(**changes):
    told = copy.deepcopy(TINY) | {"variants": ["before", "after"]}
    for part, values in changes.items():
        if part == "env":
            told["envs"][0]["data"] |= values
        else:
            told[part] = told.get(part, {}) | values if isinstance(values, dict) else values
    return Suite.model_validate(told)


FRESH = {"diagnose": {"probe_on": "held-out", "holdout": 0.45}, "evaluate": {"final_episodes": 3}}


def run(cell):
    return run_cell(cell, Device("cpu"), lambda done: None)


def held_out(**changes):
    return CellRun(expand(tiny(**changes))[0], Device("cpu"), lambda done: None, None, lambda: None)


@pytest.fixture(scope="module")
def pair(data_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        return [run(cell) for cell in expand(tiny(evaluate={"final_episodes": 3}))]


def test_final_episodes_are_played_in_the_last_tenth_alone_and_disturb_nothing(pair):
    rows = pd.DataFrame(pair[0]["evaluations"])
    assert list(rows["update"]) == [0, 5, 10, 12]
    assert list(rows["fresh_score"].notna()) == [False, False, False, True]
    assert len(rows["fresh_returns"].iloc[-1]) == 3
    plain = run(expand(tiny())[0])
    assert plain["cells"][0]["final_weights"] == pair[0]["cells"][0]["final_weights"]
    assert [r["score"] for r in plain["evaluations"]] == list(rows["score"])


def test_final_starts_are_the_pairs_and_no_other_evaluations():
    before, after = expand(tiny(evaluate={"final_episodes": 3}))
    pool = SimpleNamespace(pool=SimpleNamespace(count=1, pixels=True))
    seeds = {
        (cell.variant, update): final_evaluator(cell, pool, update)._seeds
        for cell in (before, after)
        for update in (10, 12)
    }
    assert seeds["before", 12] == seeds["after", 12]
    fixed = [before.stream(f"episode {index}") for index in range(3)]
    assert len({*fixed, *seeds["after", 10], *seeds["after", 12]}) == 9


def test_probes_are_fitted_and_scored_on_frames_that_no_encoder_trained_on():
    for probe_on, shared in (("held-out", False), ("training", True)):
        cell_run = held_out(diagnose={"probe_on": probe_on, "holdout": 0.45})
        trained = set(cell_run.dataset.episode[cell_run.sampler.train_rows])
        measured = cell_run.measures.held_out
        assert bool(trained & set(measured.fit.episodes)) is shared
        assert not trained & set(measured.score.episodes)
        assert not set(measured.fit.episodes) & set(measured.score.episodes)
        cell_run.evaluator.close()


def test_r2_is_over_the_variance_of_the_whole_set_the_same_for_every_seed():
    runs = [
        CellRun(cell, Device("cpu"), lambda done: None, None, lambda: None)
        for cell in expand(tiny(seeds=[0, 1], variants=["after"], **FRESH))
    ]
    one, other = (r.measures.held_out for r in runs)
    states = slice(0, one.score.states.shape[1])
    np.testing.assert_allclose(one.variance[states], other.variance[states])
    assert not np.array_equal(one.score.returns, other.score.returns)
    rows = runs[0].dataset.states
    assert (one.variance[states] < 2 * rows.var(axis=0).max()).all()
    for r in runs:
        r.evaluator.close()


def test_the_oracle_is_probed_like_the_agents_and_old_ones_keep_their_place(tiny_data):
    old = oracle_identity(expand(tiny())[0])
    assert "probe_on" not in old
    cell = expand(tiny(diagnose=FRESH["diagnose"] | {"oracle_updates": 3}))[0]
    assert oracle_identity(cell)["probe_on"] == "held-out"
    found = oracle_state_r2(cell, open_dataset(cell.data), torch.device("cpu"))
    assert found is None or -1 <= found < 1  # after three updates it may be far below


def test_too_few_held_out_episodes_are_refused_before_the_first_cell():
    cells = expand(tiny(diagnose={"probe_on": "held-out", "holdout": 0.2}))
    with pytest.raises(UserError, match=r"needs 4 held-out episodes .* raise diagnose.holdout"):
        refuse_unmeasurable(cells)


def test_a_suite_of_conditions_names_and_data_sets_runs_and_is_reported(tmp_path):
    suite = tiny(
        seeds=2, env={"seed": "pair"}, name="axes", diagnose=FRESH["diagnose"],
        evaluate={"every": 12, "final_episodes": 1},
        conditions={"plain": {}, "slow": {"agent.encoder_lr": 1e-5}},
    )  # fmt: skip
    plan = benchbench.plan(suite, results=tmp_path, device="cpu").text()
    assert "\nmaze2d-open-v0@slow      1  -" in plan
    assert "data     maze2d-open-v0: 2 sets, 1 here, 1 missing, will be made (" in plan
    done = benchbench.run(suite, results=tmp_path, executor="debug", device="cpu")
    assert not done.failures
    results = done.load()
    assert set(results.cells["env"]) == {"maze2d-open-v0@plain", "maze2d-open-v0@slow"}
    sets = results.cells.groupby("seed")["data_sha256"].nunique()
    assert sets.to_list() == [1, 1]
    assert results.cells["data_sha256"].nunique() == 2
    weights = results.cells.groupby(["seed", "variant"])["initial_weights"].nunique()
    assert (weights == 1).all()
    (said,) = methods_section(pd.DataFrame({"measure": []}), results, Words())
    assert "over training seeds and data sets together" in str(said)
    renamed = suite.model_copy(update={"conditions": {
        "usual": suite.conditions["plain"], "slow": suite.conditions["slow"]}})  # fmt: skip
    assert not benchbench.plan(renamed, results=tmp_path, device="cpu").to_do
    again = benchbench.run(renamed, results=tmp_path, executor="debug", device="cpu").load()
    assert set(again.cells["env"]) == {"maze2d-open-v0@usual", "maze2d-open-v0@slow"}
    assert set(again.evaluations["env"]) == set(again.cells["env"])


def test_the_data_verbs_name_each_seeds_set(tmp_path):
    path = tmp_path / "pairs.yaml"
    told = copy.deepcopy(TINY) | {"seeds": [0, 7]}
    told["envs"][0]["data"]["seed"] = "pair"
    path.write_text(yaml.safe_dump(told))
    prepared = CliRunner().invoke(main, ["data", "prepare", str(path)], catch_exceptions=False)
    assert "maze2d-open-v0: is here" in prepared.output
    assert "maze2d-open-v0 seed 7: 1,500 rows" in prepared.output
    listed = CliRunner().invoke(main, ["data", "list", str(path)], catch_exceptions=False)
    assert "maze2d-open-v0 seed 7" in listed.output
