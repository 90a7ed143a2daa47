"""Training loops that tests audit, and what they look for in an audit."""

import torch
from torch import nn
from torch.nn import functional as F

import benchbench


class Toy:
    """The brief's three modules, with whatever optimizers a test gives them."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.obs_encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
        self.actor_vae = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
        self.obs, self.action = torch.randn(12, 6), torch.randn(12, 2)
        self.target_q = torch.randn(12, 1)
        self.modules = {
            "obs_encoder": self.obs_encoder, "critic": self.critic, "actor_vae": self.actor_vae,
        }  # fmt: skip

    def optimize(self, critic, vae, kind=torch.optim.Adam):
        """Optimizers over lists of modules, by the brief's names."""
        self.critic_optimizer, self.actorvae_optimizer = (
            kind([p for m in modules for p in m.parameters()], lr=0.01) if modules else None
            for modules in (critic, vae)
        )
        self.optimizers = {
            "critic_optimizer": self.critic_optimizer,
            "actorvae_optimizer": self.actorvae_optimizer,
        }
        return self

    def q_error(self, features=None):
        features = self.obs_encoder(self.obs) if features is None else features
        return F.mse_loss(self.critic(features), self.target_q)

    def recon(self, features=None):
        features = self.obs_encoder(self.obs) if features is None else features
        return F.mse_loss(self.actor_vae(features), self.action)

    def parameters(self):
        return [p for m in self.modules.values() for p in m.parameters()]

    def weights(self):
        return [p.detach().clone() for p in self.parameters()]

    def audit(self, step, **options):
        return benchbench.audit(self.modules, self.optimizers, step, **options)


def before_toy(kind=torch.optim.Adam):
    toy = Toy()
    return toy.optimize([toy.critic], [toy.actor_vae, toy.obs_encoder], kind)


def after_toy(kind=torch.optim.Adam):
    toy = Toy()
    return toy.optimize([toy.critic, toy.obs_encoder], [toy.actor_vae], kind)


def before_step(toy):
    """The brief's first loop."""
    critic_loss = toy.q_error()
    toy.critic_optimizer.zero_grad()
    critic_loss.backward()
    toy.critic_optimizer.step()
    vae_loss = toy.recon()
    toy.actorvae_optimizer.zero_grad()
    vae_loss.backward()
    toy.actorvae_optimizer.step()


def after_step(toy):
    """The brief's second loop."""
    critic_loss = toy.q_error()
    toy.critic_optimizer.zero_grad()
    critic_loss.backward()
    toy.critic_optimizer.step()
    vae_loss = toy.recon(toy.obs_encoder(toy.obs).detach())
    toy.actorvae_optimizer.zero_grad()
    vae_loss.backward()
    toy.actorvae_optimizer.step()


def texts(findings):
    return [str(finding) for finding in findings]


def line_of(audit, loss, module):
    found = [line for line in audit.ledger if (line.loss, line.module) == (loss, module)]
    return found[0] if found else None


def norm(gradients):
    return float(sum(g.double().square().sum() for g in gradients)) ** 0.5


def kinds(audit):
    return [warning.kind for warning in audit.warnings]


def only(audit, kind):
    assert kinds(audit) == [kind], texts(audit.warnings)
    return str(audit.warnings[0])
