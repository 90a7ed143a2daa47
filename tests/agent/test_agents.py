"""Agents beside LAPO: V-D4RL's DrQ+BC and behaviour cloning by their formulas, and one's own."""

import contextlib
import copy
import json
import subprocess
import sys
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
    SIZE,
    SPEC,
    all_weights,
    assert_equal,
    make_agent,
    make_batches,
    noise_stream,
    stream,
)
from helpers.commands import Bench
from helpers.suites import TINY
from torch import nn
from torch.nn import functional as F

from benchbench.agent import agent_class
from benchbench.agent.cloning import Cloning
from benchbench.agent.drq_bc import DrQBC
from benchbench.agent.networks import random_shift
from benchbench.agent.protocol import AgentSpec
from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.data.batch import Batch
from benchbench.diagnostics.ledger import Ledger, check_routing
from benchbench.routing import REGISTRY
from benchbench.suite.grid import expand
from benchbench.suite.model import AgentSettings, Suite

LR = 1e-3
DRQ = AgentSettings(
    algorithm="drq-bc", encoder="drqv2", feature_dim=6, hidden=(16, 16), encoder_lr=LR,
    critic_lr=LR, actor_lr=LR, tau=0.01, noise_updates=10,
)  # fmt: skip
DRQ_SPEC = AgentSpec(
    action_dim=2, channels=3, size=SIZE, proprio_dim=0, state_dim=0, min_value=0, max_value=1,
    action_mean=torch.tensor([0.1, -0.2]), action_std=torch.tensor([0.5, 0.3]),
)  # fmt: skip
DRQ_VARIANTS = [
    "before", "after", "vae-only", "joint-sum", "joint-two", "frozen", "leak", "leak-stale",
    "pcgrad",
]  # fmt: skip


# ------------------------------------------------------------ V-D4RL's drqbc/drqv2.py


def frames_only(count):
    none = torch.empty(8, 0)
    return [
        copy.copy(b).__class__(**(vars(b) | {"proprio_BP": none, "next_proprio_BP": none}))
        for b in make_batches(count)
    ]


def schedule(step, init=1.0, final=0.1, duration=20):
    """``utils.schedule``'s linear(init,final,duration); an update is every second step."""
    mix = min(max(step / duration, 0.0), 1.0)
    return (1.0 - mix) * init + mix * final


def sample(mean, std, noise, clip=0.3):
    """``utils.TruncatedNormal.sample``."""
    x = mean + (noise * std).clamp(-clip, clip)
    return x - x.detach() + x.clamp(-1 + 1e-6, 1 - 1e-6).detach()


class Theirs:
    """``DrQV2Agent`` with ``offline=True``: an encoder of convolutions, trunks in the heads."""

    def __init__(self, agent):
        self.conv = copy.deepcopy(agent.obs_encoder.body)
        self.critic, self.actor = copy.deepcopy(agent.critic), copy.deepcopy(agent.actor)
        self.critic_target = copy.deepcopy(self.critic)
        self.opts = [
            torch.optim.Adam(m.parameters(), lr=LR) for m in (self.conv, self.critic, self.actor)
        ]
        self.target_noise, self.policy_noise = (
            noise_stream(purpose, width=2) for purpose in ("target-noise", "policy-noise")
        )

    def encode(self, obs):
        return self.conv(obs / 255.0 - 0.5).permute(0, 2, 3, 1).flatten(1)

    def q(self, critic, h, action):
        both = torch.cat([critic.trunk.net(h), action], dim=-1)
        return critic.q1_net(both), critic.q2_net(both)

    def mean(self, h):
        return torch.tanh(self.actor.net(self.actor.trunk.net(h)))

    def update(self, batch, step):
        encoder_opt, critic_opt, actor_opt = self.opts
        std, action = schedule(step), batch.action_BA * DRQ_SPEC.action_std + DRQ_SPEC.action_mean
        obs = self.encode(batch.obs)
        with torch.no_grad():
            next_obs = self.encode(batch.next_obs)
            next_action = sample(self.mean(next_obs), std, next(self.target_noise))
            target_v = torch.min(*self.q(self.critic_target, next_obs, next_action))
            target_q = batch.reward_B[:, None] + batch.discount_B[:, None] * target_v
        q1, q2 = self.q(self.critic, obs, action)
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)
        encoder_opt.zero_grad(set_to_none=True)
        critic_opt.zero_grad(set_to_none=True)
        critic_loss.backward()
        critic_opt.step()
        encoder_opt.step()

        obs = obs.detach()
        policy_action = sample(self.mean(obs), std, next(self.policy_noise))
        q = torch.min(*self.q(self.critic, obs, policy_action))
        bc_loss = F.mse_loss(policy_action, action)
        lam = 2.5 / q.detach().abs().mean()
        actor_loss = -q.mean() * lam + bc_loss
        actor_opt.zero_grad(set_to_none=True)
        actor_loss.backward()
        actor_opt.step()
        for p, t in zip(self.critic.parameters(), self.critic_target.parameters(), strict=True):
            t.data.copy_(0.01 * p.data + 0.99 * t.data)
        return critic_loss.item(), actor_loss.item(), bc_loss.item()


def drq(variant, spec=DRQ_SPEC):
    return DrQBC(spec, DRQ, REGISTRY[variant], stream, CPU)


def test_after_is_v_d4rls_update_number_for_number():
    agent = drq("after")
    theirs = Theirs(agent)
    for number, batch in enumerate(frames_only(15)):  # 10 updates from spread 1.0 to 0.1, 5 at 0.1
        losses = theirs.update(batch, step=2 * number)
        info = agent.update(batch)
        ours = [info[name].item() for name in ("critic_loss", "vae_loss", "recon_loss")]
        assert ours == pytest.approx(losses, abs=1e-5)
    pairs = [
        (agent.obs_encoder.body, theirs.conv), (agent.critic, theirs.critic),
        (agent.actor, theirs.actor), (agent.critic_target, theirs.critic_target),
    ]  # fmt: skip
    for one, other in pairs:
        for mine, other_p in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, other_p, rtol=0, atol=1e-5)
    batch = frames_only(1)[0]
    acted = agent.act(batch.obs, batch.proprio_BP) * DRQ_SPEC.action_std + DRQ_SPEC.action_mean
    torch.testing.assert_close(acted, theirs.mean(theirs.encode(batch.obs)), rtol=0, atol=1e-5)
    assert acted.abs().max() < 1


def test_drqs_shift_is_v_d4rls_but_for_rounding():
    """``RandomShiftsAug``: bilinear sampling, at what are whole pixels of the padded image."""
    frames, pad, size = frames_only(1)[0].obs, 4, SIZE
    ours = random_shift(frames, pad, torch.Generator().manual_seed(5))
    shift = torch.randint(-pad, pad + 1, (8, 2), generator=torch.Generator().manual_seed(5))
    wide = size + 2 * pad
    eps = 1.0 / wide
    arange = torch.linspace(-1.0 + eps, 1.0 - eps, wide)[:size].repeat(size, 1).unsqueeze(2)
    grid = torch.cat([arange, arange.transpose(1, 0)], dim=2).repeat(8, 1, 1, 1)
    grid = grid + (shift.flip(1) + pad)[:, None, None] * 2.0 / wide  # (x, y) in theirs
    padded = F.pad(frames.float(), (pad,) * 4, "replicate")
    theirs = F.grid_sample(padded, grid, padding_mode="zeros", align_corners=False)
    assert (ours.float() - theirs).abs().max() < 0.01  # of 255


@pytest.mark.parametrize("variant", DRQ_VARIANTS)
def test_drq_bcs_gradients_go_where_each_variant_says(variant):
    agent = drq(variant)
    ledger = Ledger(agent.modules(), agent.optimizers)
    for batch in frames_only(2):
        ledger.watch(lambda batch=batch: agent.update(batch))
    check_routing(ledger.entries(), agent.routing)


def test_the_policy_moves_the_encoder_by_what_it_reads_and_not_through_the_critic():
    agent, batch = drq("vae-only"), frames_only(1)[0]
    fixed = agent.fix(batch)
    features = agent.features(fixed.obs, batch.proprio_BP)
    for parameter in agent.critic.parameters():
        parameter.data.zero_()
    agent.critic.q1_net[-1].bias.data.fill_(1.0)  # a Q that no action changes: cloning is left
    agent.critic.q2_net[-1].bias.data.fill_(1.0)
    parameters = list(agent.obs_encoder.parameters())
    with agent.noise_from(0):
        loss, info = agent.vae_loss(features, batch, fixed)
    got = torch.autograd.grad(loss, parameters, retain_graph=True)
    with agent.noise_from(0):
        action = agent._noisy(agent.actor(features.vae), "policy-noise")
    expected = torch.autograd.grad(F.mse_loss(action, agent._unscaled(batch.action_BA)), parameters)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert info["actor_loss"].item() == -1


def test_drq_bc_goes_on_from_its_state():
    first, batches = drq("joint-two"), frames_only(8)
    for batch in batches[:4]:
        first.update(batch)
    second = drq("joint-two")
    second.restore(copy.deepcopy(first.state()))
    for batch in batches[4:]:
        first.update(batch)
        second.update(batch)
    assert_equal(all_weights(first), all_weights(second))


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


def run(bench, **agent):
    bench.told["agent"] = TINY["agent"] | agent
    bench.write()
    done = subprocess.run(
        [sys.executable, "-m", "benchbench", "run", "tiny.yaml", "--device", "cpu"],
        cwd=bench.folder, env=bench.env, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def bench(tmp_path, tiny_data):
    return Bench(tmp_path, tiny_data)


@pytest.mark.slow
def test_a_suite_of_drq_bc_runs_to_its_report(bench):
    done = run(bench, algorithm="drq-bc")
    assert done.returncode == 0, done.stderr
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
    done = run(bench, algorithm="mine:Expected", encoder="mine:flat")
    assert done.returncode == 0, done.stderr
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
