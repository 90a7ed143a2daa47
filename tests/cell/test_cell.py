"""One cell's whole life, in this process and small: a second or so each."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.suites import TIMES, TINY
from helpers.suites import tiny_cell as cell

from benchbench.agent.lapo import LAPO
from benchbench.cell.devices import Device
from benchbench.cell.train import look_at, run_cell
from benchbench.core.errors import UserError
from benchbench.data.sampler import Sampler
from benchbench.perf.timing import TimedCell
from benchbench.results.failures import Diverged
from benchbench.results.tables import TABLES, to_table

pytestmark = pytest.mark.usefixtures("tiny_data")


def run(one, on_update=lambda done: None):
    return run_cell(one, Device("cpu"), on_update)


def frames(rows, drop=()):
    """The tables, without times and without what names the cell."""
    tables = {name: to_table(name, rows[name]).to_pandas() for name in TABLES}
    return {n: t.drop(columns=[c for c in (*TIMES, *drop) if c in t]) for n, t in tables.items()}


def assert_same(one, other):
    for name in TABLES:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


@pytest.fixture(scope="module")
def ran(data_home):
    """The three variants of one pair, run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        return {variant: run(cell(variant)) for variant in TINY["variants"]}


def test_rows_fit_the_schemas_and_say_what_was_run(ran):
    one = cell("after")
    tables = frames(ran["after"])
    for table in tables.values():
        assert (table[["key", "env", "seed", "variant"]] == [one.key, one.env, 0, "after"]).all(
            axis=None
        )
    evaluations, training, ledger = (tables[n] for n in ("evaluations", "training", "ledger"))
    assert list(evaluations["update"]) == [0, 5, 10, 12]
    assert list(training["update"]) == [0, 4, 8]
    assert sorted(set(ledger["update"])) == [0, 5, 10]
    assert len(ledger) == 3 * 3 * 4
    assert (evaluations["returns"].map(len) == 1).all()
    # R² of the returns is none here: on so few episodes it lies far below −1.
    measured = ["state_r2", "action_r2", "srank", "td_error",
                "q_behaviour_error", "q_behaviour_bias", "q_behaviour_spearman"]  # fmt: skip
    assert np.isfinite(evaluations[measured].to_numpy(dtype=float)).all()
    (row,) = ran["after"]["cells"]
    assert set(row) | {"error"} == set(to_table("cells", []).schema.names)
    assert row["status"] == "done"
    assert row["updates"] == 12
    assert json.loads(row["settings"]) == one.settings()
    assert row["untrained_score"] == evaluations["score"][0]
    assert row["best_score"] == evaluations["score"].max()
    # All evaluations but the untrained one's, as there are fewer than five.
    assert row["final_score"] == pytest.approx(evaluations["score"][1:].mean())
    spent = sum(row[f"{part}_seconds"] for part in ("train", "evaluate", "diagnose"))
    assert 0.5 * row["total_seconds"] < spent < row["total_seconds"]


def test_the_final_score_is_of_the_last_five_evaluations_never_the_best(ran):
    rows = run(cell("frozen", evaluate={"every": 2}))
    scores = [row["score"] for row in rows["evaluations"]]
    assert len(scores) == 7
    assert rows["cells"][0]["final_score"] == pytest.approx(np.mean(scores[-5:]))


def test_updates_are_told_one_by_one():
    seen = []
    run(cell("frozen"), seen.append)
    assert seen == list(range(1, 13))


@pytest.mark.parametrize("variant", ["before", "after"])
def test_the_same_cell_twice_gives_the_same_rows_and_weights(ran, variant):
    again = run(cell(variant))
    assert_same(frames(ran[variant]), frames(again))
    assert again["cells"][0]["final_weights"] != again["cells"][0]["initial_weights"]


def test_before_and_vae_only_end_in_the_same_weights_through_a_whole_cell(ran):
    rows = {variant: ran[variant]["cells"][0] for variant in ran}
    assert rows["before"]["final_weights"] == rows["vae-only"]["final_weights"]
    assert rows["before"]["final_weights"] != rows["after"]["final_weights"]
    names = ("key", "variant")
    before, vae_only = (frames(ran[v], names) for v in ("before", "vae-only"))
    for table in ("evaluations", "training"):
        pd.testing.assert_frame_equal(before[table], vae_only[table], check_exact=True)


def test_the_variants_of_a_pair_start_from_the_same(ran):
    starts = {variant: ran[variant]["cells"][0]["initial_weights"] for variant in ran}
    assert len(set(starts.values())) == 1
    untrained = [frames(rows, ("key", "variant"))["evaluations"].iloc[0] for rows in ran.values()]
    for other in untrained[1:]:
        pd.testing.assert_series_equal(untrained[0], other)
    signals = [frames(rows)["training"].iloc[0] for rows in ran.values()]
    for other in signals[1:]:
        assert (other[["grad_critic", "grad_vae"]] == signals[0][["grad_critic", "grad_vae"]]).all()


def spied(monkeypatch, one):
    """What a cell drew: its batches, and the states in which its evaluations began."""
    batches, starts = [], []
    sample, act = Sampler.sample, LAPO.act

    def spy_sample(self):
        batches.append(sample(self))
        return batches[-1]

    def spy_act(self, obs, proprio):
        starts.append((obs.clone(), proprio.clone()))
        return act(self, obs, proprio)

    monkeypatch.setattr(Sampler, "sample", spy_sample)
    monkeypatch.setattr(LAPO, "act", spy_act)
    run(one)
    monkeypatch.undo()
    return batches, starts[::150]  # an episode has 150 steps


def test_the_variants_of_a_pair_see_the_same_batches_and_begin_the_same_episodes(
    monkeypatch, data_home
):
    seen = {}
    for variant in ("before", "after", "frozen"):
        monkeypatch.setenv("BENCHBENCH_DATA", str(data_home))
        seen[variant] = spied(monkeypatch, cell(variant))
    batches, starts = seen.pop("before")
    assert len(batches) == 12
    assert len(starts) == 4
    assert not torch.equal(batches[0].obs, batches[1].obs)
    for other_batches, other_starts in seen.values():
        for one, other in zip(batches, other_batches, strict=True):
            for name in one.__dataclass_fields__:
                assert torch.equal(getattr(one, name), getattr(other, name)), name
        for (obs, proprio), (other_obs, other_proprio) in zip(starts, other_starts, strict=True):
            assert torch.equal(obs, other_obs)
            assert torch.equal(proprio, other_proprio)
    # Each evaluation begins the same episodes as the one before.
    assert all(torch.equal(obs, starts[0][0]) for obs, _ in starts)


def test_a_pairs_cells_start_from_the_same_weights_on_any_number_of_threads(ran):
    """Orthogonal initial weights differ in their last bits; a grid may go on with other --jobs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        other = run(cell("after", train={"updates": 1}))["cells"][0]
    finally:
        torch.set_num_threads(threads)
    assert other["threads"] != ran["after"]["cells"][0]["threads"]
    assert other["initial_weights"] == ran["after"]["cells"][0]["initial_weights"]


def test_another_seed_is_another_pair(ran):
    other = run(cell("after", seeds=[1]))["cells"][0]
    assert other["initial_weights"] != ran["after"]["cells"][0]["initial_weights"]


@pytest.mark.parametrize("variant", ["before", "after"])
def test_diagnostics_and_evaluations_do_not_change_the_training(ran, variant):
    changes = {
        "diagnose": {"signals_every": 1, "probe_frames": 300}, "evaluate": {"every": 3},
    }  # fmt: skip
    often = run(cell(variant, **changes))
    rare = run(cell(variant, diagnose={"signals_every": 100}, evaluate={"every": 100}))
    assert len(often["training"]) == 12
    assert len(rare["training"]) == 1
    weights = {rows["cells"][0]["final_weights"] for rows in (often, rare, ran[variant])}
    assert len(weights) == 1


@pytest.mark.parametrize("at", [0, 1, 3, 7, 11])
def test_a_loss_that_is_no_number_ends_the_cell_by_name(monkeypatch, at):
    """Whenever it happens: watched or not, sampled or not, before an evaluation or not."""
    critic_loss, calls = LAPO.critic_loss, []

    def broken(self, feature, batch, fixed):
        loss, info = critic_loss(self, feature, batch, fixed)
        if torch.is_grad_enabled() and not signals:
            calls.append(1)
            if len(calls) > at:
                loss = loss * float("nan")
                info["critic_loss"] = loss.detach()
        return loss, info

    signals = []
    noise_from = LAPO.noise_from

    def quiet(self, seed):  # signals compute the loss too; it is the training's that breaks
        signals.append(1)
        return Closing(noise_from(self, seed), signals)

    monkeypatch.setattr(LAPO, "noise_from", quiet)
    monkeypatch.setattr(LAPO, "critic_loss", broken)
    with pytest.raises(Diverged, match=r"critic_loss is nan at update \d+"):
        run(cell("after"))


def test_losses_are_looked_at_in_one_copy_and_the_first_bad_one_is_named(monkeypatch):
    copies, tolist = [], torch.Tensor.tolist

    def counted(self):
        copies.append(len(self))
        return tolist(self)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("a copy of its own"))
    one, bad = torch.tensor(1.0), torch.tensor(torch.inf)
    fine = [(update, {"critic_loss": one, "q_loss": one * update}) for update in range(50)]
    assert look_at(fine) == {"critic_loss": 1.0, "q_loss": 49.0}
    assert copies == [100]
    fine[7][1]["q_loss"] = fine[9][1]["critic_loss"] = bad
    with pytest.raises(Diverged, match=r"^q_loss is inf at update 7$"):
        look_at(fine)
    assert look_at([]) == {}


@pytest.mark.parametrize(("precision", "tf32"), [("tf32", True), ("fp32", False)])
def test_tf32_is_a_setting_of_the_cell_and_no_part_of_older_keys(precision, tf32):
    switch = torch.backends.cuda.matmul
    before, switch.allow_tf32 = switch.allow_tf32, not tf32
    one = cell("after", agent={"precision": precision})
    try:
        TimedCell(one, Device("cpu"))
        assert switch.allow_tf32 == tf32
    finally:
        switch.allow_tf32 = before
    assert (one.key == cell("after").key) == (precision == "fp32")


class Closing:
    """A context that clears a list when it is left."""

    def __init__(self, inner, marks):
        self.inner, self.marks = inner, marks

    def __enter__(self):
        return self.inner.__enter__()

    def __exit__(self, *what):
        self.marks.clear()
        return self.inner.__exit__(*what)


def test_a_critic_that_runs_away_is_named_diverged():
    with pytest.raises(Diverged, match=r"is (nan|inf|-inf) at update"):
        run(cell("after", agent={"critic_lr": 1e30}))


def test_a_policy_whose_actions_are_no_numbers_is_named_diverged(monkeypatch):
    act = LAPO.act
    monkeypatch.setattr(LAPO, "act", lambda self, *seen: act(self, *seen) * torch.nan)
    with pytest.raises(Diverged, match="the policy's action is not a finite number"):
        run(cell("after"))


def test_an_encoder_trained_for_a_part_of_the_updates_stands_still_after_it():
    """Of 12 updates 'bpr' trains it in the first four; the ledger looks at 0, 5 and 10."""
    ledger = frames(run(cell("bpr")))["ledger"]
    vae = ledger[(ledger["module"] == "obs_encoder") & (ledger["loss"] == "vae")]
    assert list(vae["update"]) == [0, 5, 10]
    assert vae["applied"].iloc[0] > 0
    assert (vae["computed"].iloc[1:] == 0).all()
    heads = ledger[(ledger["module"] == "actor_vae") & (ledger["loss"] == "vae")]
    assert (heads["applied"] > 0).all()


def test_states_work_without_pixels_and_without_feature_measures():
    rows = run(cell("frozen", observation="state", env={"proprio": []}))
    tables = frames(rows)
    assert tables["cells"]["observation"][0] == "state"
    assert tables["evaluations"][["state_r2", "return_r2", "srank"]].isna().all(axis=None)
    assert tables["evaluations"]["td_error"].notna().all()
    assert tables["training"][["grad_critic", "grad_vae"]].isna().all(axis=None)
    encoder = tables["ledger"]["module"] == "obs_encoder"
    assert (tables["ledger"].loc[encoder, "computed"] == 0).all()
    assert tables["cells"]["final_weights"][0] != tables["cells"]["initial_weights"][0]


def test_too_few_known_returns_are_said_with_the_cure():
    with pytest.raises(
        UserError, match=r"Take more data \(data\.transitions\), or lower agent\.discount"
    ):
        run(cell("after", agent={"discount": 0.9999}))
