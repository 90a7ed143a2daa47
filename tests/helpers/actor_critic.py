"""A small agent of encoder, critic, VAE and actor, for tests of the audit."""

import torch
from torch import nn

import benchbench


def adam(*modules, lr=1e-3):
    return torch.optim.Adam([p for m in modules for p in m.parameters()], lr=lr)


def cat(*tensors):
    return torch.cat(tensors, 1)


class Agent:
    """An encoder, an actor and a critic of action and features, each with an optimizer."""

    def __init__(self):
        self.encoder, self.actor = nn.Linear(4, 4), nn.Linear(4, 2)
        self.critic, self.head = nn.Linear(6, 1), nn.Linear(4, 3)
        self.encoder_opt, self.actor_opt = adam(self.encoder), adam(self.actor)
        self.critic_opt, self.head_opt = adam(self.critic), adam(self.head)
        self.both_opt = adam(self.encoder, self.critic)

    def audit(self, step, modules, optimizers, **options):
        return benchbench.audit(
            {name: getattr(self, name) for name in modules.split()},
            {name: getattr(self, name) for name in optimizers.split()},
            lambda: step(self),
            **options,
        )

    def q(self, features, action=None):
        return self.critic(cat(features, self.actor(features) if action is None else action))


def x(n=4):
    return torch.randn(8, n)


def turn(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def note_kinds(audit):
    return {finding.kind for finding in audit.notes}


def actor_first(a):
    obs = x()
    a.actor_opt.zero_grad()
    actor_loss = -a.q(obs).mean()
    actor_loss.backward()
    a.actor_opt.step()
    critic_loss = a.q(obs, a.actor(obs).detach()).square().mean()
    critic_loss.backward()
    a.critic_opt.step()
    a.critic_opt.zero_grad()
