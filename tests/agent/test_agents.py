"""Agents beside LAPO: behaviour cloning by its formulas, and one's own."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from helpers.agents import (
    CPU,
    SETTINGS,
    SPEC,
    all_weights,
    assert_equal,
    make_agent,
    make_batches,
    noise_stream,
    stream,
)
from helpers.commands import COMMON, Bench
from helpers.drq import DRQ, DRQ_SPEC, DRQ_VARIANTS, frames_only
from helpers.suites import TINY
from torch import nn

from benchbench.agent import agent_class
from benchbench.agent.base import PixelAgent
from benchbench.agent.cloning import Cloning
from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.data.batch import Batch
from benchbench.routing import REGISTRY
from benchbench.suite.grid import expand
from benchbench.suite.model import AgentSettings, Suite


@pytest.mark.parametrize(
    ("algorithm", "variant", "words"),
    [
        ("drq-bc", "actor-too", "has one policy loss"),
        ("drq-bc", "separate", r"encoder_in: \[critic, vae\]"),
        ("drq-bc", "q-only", "has no V beside Q"),
        ("drq-bc", "vae-unweighted", "no advantage weights"),
        ("cloning", "after", "only the VAE may train the encoder"),
        ("cloning", "vae-unweighted", "no advantage weights"),
    ],
)
def test_a_variant_that_makes_no_sense_for_an_agent_is_refused(algorithm, variant, words):
    with pytest.raises(ValueError, match=words):
        Suite.model_validate(TINY | {"variants": [variant], "agent": {"algorithm": algorithm}})


# ------------------------------------------------------------ behaviour cloning


def test_cloning_is_the_vae_without_weights_and_acts_by_its_mean_latent():
    agent, batches = Cloning(SPEC, AgentSettings(hidden=(16, 16), feature_dim=6),
                             REGISTRY["vae-only"], stream, CPU), make_batches(5)  # fmt: skip
    policy = [p.clone() for p in agent.actor.parameters()]
    noise = noise_stream("vae-noise")
    for batch in batches:
        z_features = torch.cat([agent.obs_encoder(batch.obs), batch.proprio_BP], 1).detach()
        mean, log_var = agent.actor_vae.encode(z_features, batch.action_BA)
        decoded = agent.actor_vae.decode(z_features, mean + (log_var / 2).exp() * next(noise))
        recon = ((decoded - batch.action_BA) ** 2).sum(1)
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)
        loss = agent.update(batch)["vae_loss"].item()
        assert loss == pytest.approx((recon + kl).mean().item(), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(policy, agent.actor.parameters(), strict=True))
    batch = batches[0]
    feature = agent.read("vae", batch.obs, batch.proprio_BP, target=True)
    clone = agent.actor_vae_target.decode(feature, torch.zeros(8, 4))
    assert torch.equal(agent.act(batch.obs, batch.proprio_BP), clone)


def test_a_clones_critic_changes_nothing_of_the_clone():
    ends = []
    for critic_lr in (1e-2, 1e-5):
        settings = AgentSettings(hidden=(16, 16), feature_dim=6, critic_lr=critic_lr)
        agent = Cloning(SPEC, settings, REGISTRY["vae-only"], stream, CPU)
        for batch in make_batches(5):
            agent.update(batch)
        ends.append({k: v for k, v in all_weights(agent).items() if not k.startswith("critic")})
    assert_equal(*ends)


# ------------------------------------------------------------ whole cells, and one's own


@pytest.fixture
def bench(tmp_path, tiny_data):
    return Bench(tmp_path, tiny_data)


@pytest.mark.slow
def test_a_suite_of_drq_bc_runs_to_its_report(bench):
    bench.told["agent"] = TINY["agent"] | {"algorithm": "drq-bc"}
    bench.write()
    bench.run()
    folder = bench.store.folder
    training = pd.read_parquet(folder / "training.parquet")
    assert training[["critic_loss", "vae_loss", "grad_critic", "grad_vae"]].notna().all().all()
    assert training[["v_loss", "kl_loss", "grad_v"]].isna().all().all()
    evaluations = pd.read_parquet(folder / "evaluations.parquet")
    measured = ["score", "state_r2", "td_error", "q_behaviour_error", "srank", "dormant"]
    assert evaluations[measured].notna().all().all()
    values = pd.read_parquet(folder / "features.parquet")["values"]
    assert {len(v) for v in values} == {TINY["agent"]["feature_dim"]}
    ends = pd.read_parquet(folder / "cells.parquet").set_index("variant")["final_weights"]
    assert ends["before"] == ends["vae-only"] != ends["after"]
    assert (folder / "REPORT.md").is_file()


MINE = '''
import torch
from benchbench.agent.base import PixelAgent
from benchbench.agent.lapo import LAPO


class Expected(LAPO):
    """LAPO whose VAE weighs samples by their advantage itself."""

    def sample_weights(self, features, batch, fixed):
        return super().sample_weights(features, batch, fixed) ** 2


def flat(channels, size):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * size * size, 20))
'''


@pytest.mark.slow
def test_an_agent_and_an_encoder_of_ones_own_run_and_are_other_cells_when_edited(
    bench, monkeypatch
):
    bench.told["variants"] = ["after"]
    file = bench.folder / "mine.py"
    file.write_text(MINE)
    bench.told["agent"] = TINY["agent"] | {"algorithm": "mine:Expected", "encoder": "mine:flat"}
    bench.write()
    bench.end(bench.start("run", *COMMON))  # the cells' own processes import it
    (cell,) = pd.read_parquet(bench.store.folder / "cells.parquet").to_dict("records")
    told = json.loads(cell["settings"])["agent"]
    assert (told["algorithm"], len(told["algorithm_code"])) == ("mine:Expected", 16)
    monkeypatch.chdir(bench.folder)
    assert [c.key for c in bench.cells] == [cell["key"]]
    file.write_text(MINE.replace("** 2", "** 3"))
    assert [c.key for c in bench.cells] != [cell["key"]]


@pytest.mark.parametrize(
    ("name", "text", "agent", "words"),
    [
        ("own_a", "", {"algorithm": "own_a:Agent"}, "agent.algorithm: own_a has no 'Agent' to"),
        ("own_b", "def A(): pass", {"algorithm": "own_b:A"}, "own_b:A has no modules, target_mod"),
        ("own_c", "import nowhere", {"algorithm": "own_c:A"}, "'own_c' cannot be imported (Modul"),
        ("own_d", "1 +", {"encoder": "own_d:b"}, "agent.encoder: 'own_d' cannot be imported (Syn"),
        ("own_e", "def b(c, s): return 1", {"encoder": "own_e:b"}, "own_e:b fails on 6 channels"),
        ("own_f", None, {"encoder": "own_f:b"}, "agent.encoder: there is no module 'own_f' here;"),
    ],
)
def test_code_that_cannot_be_used_is_named_before_any_cell(
    bench, monkeypatch, name, text, agent, words
):
    monkeypatch.chdir(bench.folder)
    if text is not None:
        Path(f"{name}.py").write_text(text)
    bench.told["agent"] = TINY["agent"] | agent
    bench.write()
    for verb in ("plan", "run"):
        done = CliRunner().invoke(main, [verb, "tiny.yaml", "--device", "cpu"])
        assert done.exit_code == 2
        assert words in done.output
    assert not bench.store.folder.exists()


def test_a_file_that_is_edited_while_a_grid_runs_ends_its_cells(bench, monkeypatch):
    """Else the edited code's results would stand under the key of the old."""
    monkeypatch.chdir(bench.folder)
    file = Path("own_h.py")
    file.write_text("from benchbench.agent.lapo import LAPO as A\n")
    bench.told["agent"] = TINY["agent"] | {"algorithm": "own_h:A"}
    (cell, *_) = bench.cells
    file.write_text("from benchbench.agent.lapo import LAPO as A  # edited\n")
    with pytest.raises(UserError, match="has changed since the run began"):
        run_cell(cell, Device("cpu"), lambda updates: None)


def test_an_agent_that_fails_in_an_update_leaves_the_plan_whole(bench, monkeypatch):
    monkeypatch.chdir(bench.folder)
    Path("own_g.py").write_text(
        "from benchbench.agent.lapo import LAPO\n\nclass A(LAPO):\n"
        "    def update(self, batch):\n        raise KeyError('mine')\n"
    )
    bench.told["agent"] = TINY["agent"] | {"algorithm": "own_g:A"}
    bench.write()
    done = CliRunner().invoke(main, ["plan", "tiny.yaml", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "not known, as your code raised in a short trial here (KeyError: 'mine')" in done.output


def test_an_agent_that_cannot_stop_training_its_encoder_is_told_before_any_cell(bench, monkeypatch):
    monkeypatch.chdir(bench.folder)
    Path("own_i.py").write_text("from benchbench.agent.lapo import LAPO as A\n")
    monkeypatch.delattr(PixelAgent, "follow")
    bench.told |= {"variants": ["bpr"], "agent": TINY["agent"] | {"algorithm": "own_i:A"}}
    bench.write()
    done = CliRunner().invoke(main, ["run", "tiny.yaml", "--device", "cpu"])
    assert done.exit_code == 2, done.output
    assert "'bpr' stops training the encoder, and own_i:A has no follow(routing)" in done.output


def test_a_suite_is_read_without_importing_what_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("unimported.py").write_text("raise SystemExit('imported')")
    told = yaml.safe_load(yaml.safe_dump(TINY | {"agent": {"algorithm": "unimported:Agent"}}))
    assert len(expand(Suite.model_validate(told))) == 3


def test_every_agent_of_benchbenchs_own_meets_the_protocol():
    for name in ("lapo", "cloning", "drq-bc"):
        assert callable(agent_class(name))
    with pytest.raises(UserError, match="has no modules"):
        agent_class("collections:OrderedDict")


@pytest.fixture
def no_values(monkeypatch):
    """A device that shows no numbers: to look at one, or to mix it with the CPU's, is an error.

    PyTorch's ``meta`` device, with what it lacks: random streams, autocast and fused Adam.
    """
    import torch.distributed.tensor  # Adam's first step would, and needs the true Generator

    make, adam = torch.Generator, torch.optim.Adam
    monkeypatch.setattr(torch, "Generator", lambda *device: make())
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, fused: adam(groups, foreach=False))
    return torch.device("meta")


@pytest.mark.parametrize(
    ("algorithm", "variant"),
    [("lapo", v) for v in REGISTRY]
    + [("drq-bc", v) for v in DRQ_VARIANTS]
    + [("cloning", v) for v in ("vae-only", "frozen")],
)
def test_an_update_never_waits_for_its_device(algorithm, variant, no_values):
    spec, settings = (DRQ_SPEC, DRQ) if algorithm == "drq-bc" else (SPEC, SETTINGS)
    agent = agent_class(algorithm)(
        replace(spec, shift_pad=2), settings, REGISTRY[variant], stream, no_values
    )
    for batch in frames_only(2) if algorithm == "drq-bc" else make_batches(2):
        there = {name: value.to(no_values) for name, value in vars(batch).items()}
        info = agent.update(Batch(**there))
    assert {value.device for value in info.values()} == {no_values}


def test_an_encoder_of_ones_own_keeps_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ones_own.py").write_text(
        "from torch import nn\ndef body(channels, size):\n    conv = nn.Conv2d(channels, 4, 3)\n"
        "    nn.init.constant_(conv.weight, 0.5)\n    return conv\n"
    )
    settings = AgentSettings(encoder="ones_own:body", feature_dim=6, hidden=(16,))
    agent = make_agent("after", settings=settings)
    assert (agent.obs_encoder.body.weight == 0.5).all()
    assert isinstance(agent.obs_encoder.trunk[0], nn.Linear)
    agent.update(make_batches(1)[0])
