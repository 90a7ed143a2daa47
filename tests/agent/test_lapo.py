"""The agent against independent transcriptions: the brief's loops, and LAPO's own code."""

import copy
import itertools

import pytest
import torch
from helpers.agents import (
    SETTINGS,
    SIZE,
    B,
    all_weights,
    assert_equal,
    make_agent,
    make_batches,
    noise_stream,
    weights,
)
from helpers.brief_loops import LOOPS, LR, Plain
from torch import nn
from torch.nn import functional as F

from benchbench.agent import networks
from benchbench.agent.lapo import AgentSpec
from benchbench.agent.networks import make_encoder, random_shift
from benchbench.routing import LOSSES, REGISTRY, Routing


@pytest.fixture
def float64():
    """In double precision rounding stays far below what a wrong formula does."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def train(agent, batches):
    """All of an agent's training, its variant's end of the encoder's included."""
    routing = agent.routing
    for update, batch in enumerate(batches):
        agent.follow(routing.at(update / len(batches)))
        agent.update(batch)


def largest_difference(variant, updates):
    """Between the agent's weights and those of the loop written out by hand."""
    agent = make_agent(variant)
    plain = Plain(agent)
    batches = make_batches(updates)
    LOOPS[variant](plain, batches, noise_stream("target-noise"), noise_stream("vae-noise"))
    train(agent, batches)
    ours = [p for ms in (agent.modules(), agent.target_modules()) for m in ms.values()
            for p in m.parameters()]  # fmt: skip
    pairs = zip(ours, plain.parameters(), strict=True)
    return max((mine - theirs).abs().max().item() for mine, theirs in pairs)


@pytest.mark.parametrize("variant", REGISTRY)
def test_every_variant_is_its_loop_written_out_by_hand(variant, float64):
    assert largest_difference(variant, 50) < 1e-11


@pytest.mark.parametrize("variant", REGISTRY)
def test_in_float32_one_update_differs_by_rounding_alone(variant):
    """Adam's first step is at most the rate, whatever the gradient: two computations of a gradient
    that is all rounding may take it in opposite directions. Any other weight agrees far better."""
    assert largest_difference(variant, 1) <= 2 * max(LR.values()) * (1 + 1e-3)


SAME = {"vae-only": "before", "leak": "after"}
"""Variants that must end in the very weights of another, by another road."""


def test_the_loops_differ_from_each_other():
    ends = {}
    for variant in REGISTRY.keys() - SAME.keys():
        agent = make_agent(variant)
        train(agent, make_batches(6))
        ends[variant] = torch.cat([agent.encoder(x).trunk[0].weight.detach() for x in LOSSES])
    for one, other in itertools.combinations(ends, 2):
        assert (ends[one] - ends[other]).abs().max() > 1e-5, (one, other)


@pytest.mark.parametrize(("one", "other"), SAME.items())
def test_two_roads_to_the_very_same_weights(one, other):
    agents = make_agent(one), make_agent(other)
    for batch in make_batches(25):
        for agent in agents:
            agent.update(batch)
    assert_equal(*map(all_weights, agents))


def test_before_really_computes_the_gradient_that_it_drops():
    agent = make_agent("before")
    seen = []
    vae_optimizer = agent.optimizers.by_name["vae"]
    wipe = vae_optimizer.zero_grad

    def spy():
        seen.append([p.grad.norm().item() for p in agent.obs_encoder.parameters()])
        wipe()
        assert all(p.grad is None for p in agent.obs_encoder.parameters())

    vae_optimizer.zero_grad = spy
    agent.update(make_batches(1)[0])
    assert len(seen) == 1
    assert all(norm > 0 for norm in seen[0])


def test_in_after_the_vae_leaves_the_encoders_gradient_untouched():
    agent = make_agent("after")
    kept = []
    vae_optimizer = agent.optimizers.by_name["vae"]
    step = vae_optimizer.step

    def grads():
        return [p.grad.clone() for p in agent.obs_encoder.parameters()]

    clear = vae_optimizer.zero_grad
    vae_optimizer.zero_grad = lambda: (kept.append(grads()), clear())
    vae_optimizer.step = lambda: (kept.append(grads()), step())
    agent.update(make_batches(1)[0])
    at_the_critic, at_the_vae = kept
    assert all(torch.equal(a, b) for a, b in zip(at_the_critic, at_the_vae, strict=True))
    assert any(g.any() for g in at_the_vae)


def test_a_frozen_encoder_never_moves_and_everything_else_does():
    agent = make_agent("frozen")
    start = all_weights(agent)
    for batch in make_batches(10):
        agent.update(batch)
    for name, value in all_weights(agent).items():
        assert torch.equal(value, start[name]) == name.startswith("obs_encoder"), name


def test_variants_of_a_pair_start_equal_and_draw_equal_noise():
    first = make_agent("before")
    batch = make_batches(1)[0]
    for variant in REGISTRY:
        agent = make_agent(variant)
        for loss in LOSSES:
            mine, others = agent.encoder(loss), first.encoder(loss)
            assert_equal(weights({"": mine}), weights({"": others}))
        heads, first_heads = agent.modules(), first.modules()
        del heads["obs_encoder"], first_heads["obs_encoder"]
        assert_equal(weights(heads), weights(first_heads))
        with first.noise_from(0), agent.noise_from(0):
            assert torch.equal(first.fix(batch).v_target_B, agent.fix(batch).v_target_B)
    again = make_agent("before").fix(batch)
    assert torch.equal(again.v_target_B, make_agent("after").fix(batch).v_target_B)


def test_a_variant_may_be_defined_anywhere_and_runs_by_the_same_loop():
    mine = Routing("mine", ("critic", "actor"), "applied", "detached", "applied")
    agent = make_agent(mine)
    before = weights({"e": agent.obs_encoder})
    agent.update(make_batches(1)[0])
    assert not torch.equal(before["e.trunk.0.weight"], agent.obs_encoder.trunk[0].weight)


# ------------------------------------------------------------ LAPO's own code, on states


class AuthorsVAE(nn.Module):
    """``ActorVAE`` of the authors' ``algos_vae.py``, reduced to what training calls."""

    def __init__(self, state_dim, action_dim, latent_dim, width):
        super().__init__()
        self.e1 = nn.Linear(state_dim + action_dim, width)
        self.e2, self.e3 = nn.Linear(width, width), nn.Linear(width, width)
        self.mean, self.log_var = nn.Linear(width, latent_dim), nn.Linear(width, latent_dim)
        self.d1 = nn.Linear(state_dim + latent_dim, width)
        self.d2, self.d3 = nn.Linear(width, width), nn.Linear(width, width)
        self.d4 = nn.Linear(width, action_dim)

    def forward(self, state, action, noise):
        z = F.relu(self.e1(torch.cat([state, action], 1)))
        z = F.relu(self.e3(F.relu(self.e2(z))))
        mean, log_var = self.mean(z), self.log_var(z)
        z = mean + torch.exp(log_var / 2) * noise
        return self.decode(state, z), mean, log_var

    def decode(self, state, z):
        a = F.relu(self.d1(torch.cat([state, z], 1)))
        return self.d4(F.relu(self.d3(F.relu(self.d2(a)))))


def copy_linears(source, target):
    """Copy all linear layers in the order in which they were made."""
    ours = [m for m in source.modules() if isinstance(m, nn.Linear)]
    theirs = [m for m in target.modules() if isinstance(m, nn.Linear)]
    for one, other in zip(ours, theirs, strict=True):
        other.load_state_dict(one.state_dict())
    return target


def test_on_states_it_is_the_authors_algorithm_number_for_number():
    spec = AgentSpec(
        action_dim=2, channels=0, size=0, proprio_dim=0, state_dim=5, min_value=-1, max_value=2
    )
    agent = make_agent("frozen", spec)
    s = SETTINGS
    vae = copy_linears(agent.actor_vae, AuthorsVAE(5, 2, 4, 16))
    actor, critic = copy.deepcopy(agent.actor.net), copy.deepcopy(agent.critic)
    vae_t, actor_t, critic_t = map(copy.deepcopy, (vae, actor, critic))
    optimizers = [
        torch.optim.Adam(m.parameters(), lr=lr)
        for m, lr in ((critic, s.critic_lr), (vae, s.vae_lr), (actor, s.actor_lr))
    ]
    noise_v, noise_z = noise_stream("target-noise"), noise_stream("vae-noise")

    def q(net, state, action):
        both = torch.cat([state, action], 1)
        return net.q1_net(both), net.q2_net(both)

    def get_target_q(state, noise=None):
        latent = s.max_latent_action * torch.tanh(actor_t(state))
        if noise is not None:
            latent = latent + (noise * 0.1).clamp(-0.2, 0.2)
        q1, q2 = q(critic_t, state, vae_t.decode(state, latent))
        return torch.min(q1, q2) * s.doubleq_min + torch.max(q1, q2) * (1 - s.doubleq_min)

    for batch in make_batches(30, state_dim=5):
        state, action, next_state = batch.obs, batch.action_BA, batch.next_obs
        reward, discount = batch.reward_B.view(-1, 1), batch.discount_B.view(-1, 1)
        with torch.no_grad():
            target_q = reward + discount * critic.v_net(next_state)
            target_v = get_target_q(state, next(noise_v))
        q1, q2 = q(critic, state, action)
        v_loss = F.mse_loss(critic.v_net(state), target_v.clamp(spec.min_value, spec.max_value))
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q) + v_loss
        optimizers[0].zero_grad()
        critic_loss.backward()
        optimizers[0].step()

        advantage = reward + discount * get_target_q(next_state) - critic.v_net(state)
        weight = torch.where(advantage > 0, s.expectile, 1 - s.expectile)
        recons, mu, log_var = vae(state, action, next(noise_z))
        recon_loss = F.mse_loss(recons, action, reduction="none").sum(1).view(-1, 1)
        kl = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1).view(-1, 1)
        optimizers[1].zero_grad()
        ((recon_loss + kl * s.kl_beta) * weight.detach()).mean().backward()
        optimizers[1].step()

        latent = s.max_latent_action * torch.tanh(actor(state))
        loss = -q(critic, state, vae_t.decode(state, latent))[0].mean()
        optimizers[2].zero_grad()
        loss.backward()
        optimizers[2].step()
        for net, target in ((critic, critic_t), (actor, actor_t), (vae, vae_t)):
            for p, t in zip(net.parameters(), target.parameters(), strict=True):
                t.data.copy_(s.tau * p.data + (1 - s.tau) * t.data)
        agent.update(batch)

    pairs = [(agent.critic, critic), (agent.actor_vae, vae), (agent.actor.net, actor)]
    pairs += [(agent.critic_target, critic_t), (agent.actor_vae_target, vae_t)]
    for ours, theirs in pairs:
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    probe = torch.randn(3, 5)
    acted = vae_t.decode(probe, s.max_latent_action * torch.tanh(actor(probe)))
    torch.testing.assert_close(agent.act(probe, torch.empty(3, 0)), acted, rtol=0, atol=2e-5)


# ------------------------------------------------------------ the pieces


def test_random_shift_is_drq_v2s_pad_and_crop():
    frames = make_batches(1)[0].obs
    pad, size = 3, SIZE
    ours = random_shift(frames, pad, torch.Generator().manual_seed(5))
    shift = torch.randint(-pad, pad + 1, (B, 2), generator=torch.Generator().manual_seed(5))
    padded = F.pad(frames.float(), (pad,) * 4, "replicate")
    for image, (dy, dx), expected in zip(ours, shift + pad, padded, strict=True):
        crop = expected[:, dy : dy + size, dx : dx + size]
        assert torch.equal(image.float(), crop)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_the_drqv2_encoder_has_v_d4rls_shapes():
    encoder = make_encoder("drqv2", 9, 84, 50)
    convs = [m for m in encoder.body if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convs] == [
        (32, (3, 3), (2, 2)), (32, (3, 3), (1, 1)), (32, (3, 3), (1, 1)), (32, (3, 3), (1, 1)),
    ]  # fmt: skip
    assert encoder.trunk[0].in_features == 32 * 35 * 35  # V-D4RL's repr_dim


def test_resnet18_has_the_papers_size():
    encoder = make_encoder("resnet18", 3, 84, 50)
    body = sum(p.numel() for p in encoder.body.parameters())
    assert body == 11_176_512  # torchvision's resnet18 without its last layer
    assert encoder(make_batches(1)[0].obs.repeat(1, 1, 6, 6)[..., :84, :84]).shape == (B, 50)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_pixels_are_scaled_and_centred_whatever_their_layout(layout):
    frames = make_batches(1)[0].obs.contiguous(memory_format=layout)
    seen = []
    for mean in (None, frames[0] / 255):
        encoder = make_encoder("small", 3, SIZE, 6, mean)
        encoder.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        encoder(frames)
    assert torch.allclose(seen[-1], frames / 255 - frames[:1] / 255)
    assert torch.allclose(seen[0], frames / 255 - 0.5)


def encoder_and_frames(bf16=False, batch=7, size=84):
    torch.manual_seed(0)
    encoder = make_encoder("drqv2", 9, size, 50, torch.rand(9, size, size), bf16)
    frames = torch.randint(0, 256, (batch, size, size, 9), dtype=torch.uint8)
    return encoder, frames.permute(0, 3, 1, 2)


def test_an_encoders_pass_in_parts_is_its_formula(monkeypatch):
    """Pixels less the mean image, maps flattened as they lie, with and without a graph."""
    encoder, obs = encoder_and_frames()
    maps = encoder.body(obs / 255.0 - encoder.mean_image)
    expected = encoder.trunk(torch.stack([m.permute(1, 2, 0).flatten() for m in maps]))
    assert torch.allclose(encoder(obs), expected, atol=1e-5)
    monkeypatch.setattr(networks, "CACHED_PIXELS", 3 * 84 * 84)  # parts of 3, 3 and 1
    with torch.no_grad():
        assert torch.allclose(encoder(obs), expected, atol=1e-5)


def test_bf16_rounds_the_features_and_leaves_parameters_and_gradients_in_float32():
    exact, obs = encoder_and_frames()
    rounded, _ = encoder_and_frames(bf16=True)
    features = rounded(obs)
    assert features.dtype == torch.float32
    error = (features - exact(obs)).abs().max().item()
    assert 0 < error < 0.05
    features.sum().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in rounded.parameters())
