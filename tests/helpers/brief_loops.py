"""The training loops, written out by hand in plain PyTorch: an independent reference.

Nothing here comes from benchbench but the initial weights. The networks are functions of weight
lists; the losses are transcribed from LAPO's ``algos_vae.py``; each variant is a loop in the words
of the brief, with plain ``torch.optim.Adam`` optimizers, ``zero_grad``, ``backward`` and ``step``.
Features are computed anew whenever a loss asks for them.
"""

import copy

import torch
from torch.nn import functional as F

LR = {"encoder": 1e-3, "critic": 2e-3, "vae": 3e-3, "actor": 4e-3}


class Plain:
    """The eight modules of an agent, copied, and LAPO's formulas over them."""

    def __init__(self, agent):
        names = ("obs_encoder", "critic", "actor_vae", "actor")
        for name in names:
            setattr(self, name, copy.deepcopy(getattr(agent, name)))
            setattr(self, f"{name}_target", copy.deepcopy(getattr(agent, f"{name}_target")))
        self.names = names
        self.settings, self.spec = agent.settings, agent.spec

    def parameters(self):
        return [
            p
            for suffix in ("", "_target")
            for name in self.names
            for p in getattr(self, name + suffix).parameters()
        ]

    def encode(self, obs, proprio, reader, target=False):
        encoder = self.obs_encoder_target if target else self.obs_encoder
        if isinstance(encoder, torch.nn.ModuleDict):  # separate encoders
            encoder = encoder[reader]
        return torch.cat([encoder(obs), proprio], dim=1)

    def target_q(self, obs, proprio, latent):
        vae_feature = self.encode(obs, proprio, "vae", target=True)
        action = self.actor_vae_target.decoder(torch.cat([vae_feature, latent], 1))
        both = torch.cat([self.encode(obs, proprio, "critic", target=True), action], 1)
        q1, q2 = self.critic_target.q1_net(both), self.critic_target.q2_net(both)
        weight = self.settings.doubleq_min
        return torch.min(q1, q2) * weight + torch.max(q1, q2) * (1 - weight)

    def critic_loss(self, batch, noise, detach_encoder, detach_q=False, detach_v=False):
        obs, proprio = batch.obs, batch.proprio_BP
        with torch.no_grad():
            next_v = self.critic.v_net(self.encode(batch.next_obs, batch.next_proprio_BP, "critic"))
            target_q = batch.reward_B[:, None] + batch.discount_B[:, None] * next_v
            latent = self.actor_target(self.encode(obs, proprio, "actor", target=True))
            latent = latent + (noise * 0.1).clamp(-0.2, 0.2)
            target_v = self.target_q(obs, proprio, latent)
            target_v = target_v.clamp(self.spec.min_value, self.spec.max_value)
        feature = self.encode(obs, proprio, "critic")
        if detach_encoder:
            feature = feature.detach()
        both = torch.cat([feature.detach() if detach_q else feature, batch.action_BA], 1)
        return (
            F.mse_loss(self.critic.q1_net(both), target_q)
            + F.mse_loss(self.critic.q2_net(both), target_q)
            + F.mse_loss(self.critic.v_net(feature.detach() if detach_v else feature), target_v)
        )

    def vae_loss(self, batch, noise, detach_encoder, weighted=True):
        feature = self.encode(batch.obs, batch.proprio_BP, "vae")
        if detach_encoder:
            feature = feature.detach()
        with torch.no_grad():
            next_obs, next_proprio = batch.next_obs, batch.next_proprio_BP
            latent = self.actor_target(self.encode(next_obs, next_proprio, "actor", target=True))
            next_q = self.target_q(next_obs, next_proprio, latent)
            q = batch.reward_B[:, None] + batch.discount_B[:, None] * next_q
            value = self.critic.v_net(self.encode(batch.obs, batch.proprio_BP, "critic"))
            expectile = self.settings.expectile
            weights = torch.where(q - value > 0, expectile, 1 - expectile)
        hidden = F.relu(self.actor_vae.encoder(torch.cat([feature, batch.action_BA], 1)))
        mean, log_var = self.actor_vae.mean(hidden), self.actor_vae.log_var(hidden)
        z = mean + torch.exp(log_var / 2) * noise
        recons = self.actor_vae.decoder(torch.cat([feature, z], 1))
        recon_loss = F.mse_loss(recons, batch.action_BA, reduction="none").sum(1).view(-1, 1)
        kl = -0.5 * torch.sum(1 + log_var - mean**2 - log_var.exp(), dim=1).view(-1, 1)
        loss = recon_loss + kl * self.settings.kl_beta
        return (loss * weights if weighted else loss).mean()

    def actor_loss(self, batch, detach_encoder=True, detach_critic_features=False):
        obs, proprio = batch.obs, batch.proprio_BP
        actor_feature = self.encode(obs, proprio, "actor")
        critic_feature = self.encode(obs, proprio, "critic")
        if detach_encoder:
            actor_feature = actor_feature.detach()
        if detach_encoder or detach_critic_features:
            critic_feature = critic_feature.detach()
        latent = self.actor(actor_feature)
        with torch.no_grad():
            vae_feature = self.encode(obs, proprio, "vae", target=True)
        action = self.actor_vae_target.decoder(torch.cat([vae_feature, latent], 1))
        return -self.critic.q1_net(torch.cat([critic_feature, action], 1)).mean()

    def move_targets(self):
        tau = self.settings.tau
        for name in self.names:
            pairs = zip(
                getattr(self, name).parameters(),
                getattr(self, f"{name}_target").parameters(),
                strict=True,
            )
            for param, target in pairs:
                target.data.copy_(tau * param.data + (1 - tau) * target.data)


def adam(*groups):
    return torch.optim.Adam([{"params": list(m.parameters()), "lr": lr} for m, lr in groups])


def before(net, batches, critic_noise, vae_noise, detach_critic=False):
    """The brief's first loop: the critic's gradient on the encoder is wiped before any step."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]), (net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=detach_critic)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def after(net, batches, critic_noise, vae_noise, detach_vae=True):
    """The brief's second loop: the encoder is the critic optimizer's, detached for the VAE."""
    critic_optimizer = adam((net.critic, LR["critic"]), (net.obs_encoder, LR["encoder"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=detach_vae)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def vae_only(net, batches, critic_noise, vae_noise):
    """'before' with the critic detached: the VAE alone trains the encoder."""
    before(net, batches, critic_noise, vae_noise, detach_critic=True)


def joint_sum(net, batches, critic_noise, vae_noise):
    """The encoder has an optimizer of its own and moves along the sum of both gradients."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    encoder_optimizer = adam((net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        encoder_optimizer.zero_grad()
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        encoder_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def joint_two(net, batches, critic_noise, vae_noise):
    """Both optimizers hold the encoder, and each steps it along its own loss."""
    critic_optimizer = adam((net.critic, LR["critic"]), (net.obs_encoder, LR["encoder"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]), (net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def frozen(net, batches, critic_noise, vae_noise):
    """Nobody trains the encoder."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=True)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=True)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def separate(net, batches, critic_noise, vae_noise):
    """Each network has an encoder of its own, in its own optimizer, trained by its own loss."""
    encoders = net.obs_encoder
    critic_optimizer = adam((net.critic, LR["critic"]), (encoders["critic"], LR["encoder"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]), (encoders["vae"], LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]), (encoders["actor"], LR["encoder"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer, detach_encoder=False, detach_critic_features=True)


def one_critic_term(**cut):
    """'after', with one part of the critic loss cut off from the encoder."""

    def loop(net, batches, critic_noise, vae_noise):
        critic_optimizer = adam((net.critic, LR["critic"]), (net.obs_encoder, LR["encoder"]))
        actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
        actor_optimizer = adam((net.actor, LR["actor"]))
        for batch in batches:
            critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False, **cut)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
            vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=True)
            actorvae_optimizer.zero_grad()
            vae_loss.backward()
            actorvae_optimizer.step()
            _policy_step(net, batch, actor_optimizer)

    return loop


def vae_unweighted(net, batches, critic_noise, vae_noise):
    """The VAE learns with its weights; the encoder follows the loss without them."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]), (net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=True)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        noise = next(vae_noise)
        unweighted = net.vae_loss(batch, noise, detach_encoder=False, weighted=False)
        encoder_grads = torch.autograd.grad(unweighted, list(net.obs_encoder.parameters()))
        actorvae_optimizer.zero_grad()
        net.vae_loss(batch, noise, detach_encoder=True).backward()
        for parameter, grad in zip(net.obs_encoder.parameters(), encoder_grads, strict=True):
            parameter.grad = grad
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def bpr(net, batches, critic_noise, vae_noise):
    """'vae-unweighted' for three tenths of the batches, then an encoder that stands still."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    encoder_optimizer = adam((net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for k, batch in enumerate(batches):
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=True)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        noise = next(vae_noise)
        imitates = k < 0.3 * len(batches)
        if imitates:
            encoder_optimizer.zero_grad()
            net.vae_loss(batch, noise, detach_encoder=False, weighted=False).backward()
        actorvae_optimizer.zero_grad()
        net.vae_loss(batch, noise, detach_encoder=True).backward()
        actorvae_optimizer.step()
        if imitates:
            encoder_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def actor_too(net, batches, critic_noise, vae_noise):
    """'after', and the policy's optimizer holds and steps the encoder as well."""
    critic_optimizer = adam((net.critic, LR["critic"]), (net.obs_encoder, LR["encoder"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    actor_optimizer = adam((net.actor, LR["actor"]), (net.obs_encoder, LR["encoder"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=True)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer, detach_encoder=False)


def leak(net, batches, critic_noise, vae_noise):
    """'after' without the detach: the VAE's gradient waits in .grad for the next zero_grad."""
    after(net, batches, critic_noise, vae_noise, detach_vae=False)


def leak_stale(net, batches, critic_noise, vae_noise):
    """The same with the encoder cleared right after its step: the leak joins the next one."""
    critic_optimizer = adam((net.critic, LR["critic"]), (net.obs_encoder, LR["encoder"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        net.critic.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        net.obs_encoder.zero_grad()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def pcgrad(net, batches, critic_noise, vae_noise):
    """Yu et al. 2020, algorithm 1, with the critic's and the VAE's gradients as the two tasks."""
    critic_optimizer = adam((net.critic, LR["critic"]))
    actorvae_optimizer = adam((net.actor_vae, LR["vae"]))
    encoder_optimizer = adam((net.obs_encoder, LR["encoder"]))
    actor_optimizer = adam((net.actor, LR["actor"]))
    parameters = list(net.obs_encoder.parameters())
    for batch in batches:
        critic_loss = net.critic_loss(batch, next(critic_noise), detach_encoder=False)
        grads = torch.autograd.grad(critic_loss, parameters, retain_graph=True)
        g_critic = torch.cat([g.flatten() for g in grads])
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        vae_loss = net.vae_loss(batch, next(vae_noise), detach_encoder=False)
        grads = torch.autograd.grad(vae_loss, parameters, retain_graph=True)
        g_vae = torch.cat([g.flatten() for g in grads])
        actorvae_optimizer.zero_grad()
        vae_loss.backward()
        actorvae_optimizer.step()
        one, other = g_critic.clone(), g_vae.clone()
        if g_critic @ g_vae < 0:
            one = g_critic - (g_critic @ g_vae) / (g_vae @ g_vae) * g_vae
            other = g_vae - (g_vae @ g_critic) / (g_critic @ g_critic) * g_critic
        parts = (one + other).split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()
        encoder_optimizer.step()
        _policy_step(net, batch, actor_optimizer)


def _policy_step(net, batch, actor_optimizer, **detach):
    actor_loss = net.actor_loss(batch, **detach)
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()
    net.move_targets()


LOOPS = {
    "before": before,
    "after": after,
    "vae-only": vae_only,
    "joint-sum": joint_sum,
    "joint-two": joint_two,
    "frozen": frozen,
    "separate": separate,
    "q-only": one_critic_term(detach_v=True),
    "v-only": one_critic_term(detach_q=True),
    "vae-unweighted": vae_unweighted,
    "actor-too": actor_too,
    "leak": leak,
    "leak-stale": leak_stale,
    "pcgrad": pcgrad,
    "bpr": bpr,
}
