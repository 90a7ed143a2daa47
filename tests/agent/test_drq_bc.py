"""V-D4RL's DrQ+BC by its formulas, and under each routing."""

import copy

import pytest
import torch
from helpers.agents import (
    CPU,
    SIZE,
    all_weights,
    assert_equal,
    noise_stream,
    stream,
)
from helpers.drq import DRQ, DRQ_SPEC, DRQ_VARIANTS, LR, frames_only
from torch.nn import functional as F

from benchbench.agent.drq_bc import DrQBC
from benchbench.agent.networks import random_shift
from benchbench.diagnostics.ledger import Ledger, check_routing
from benchbench.routing import REGISTRY


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
