"""The audit on frameworks' loops: real ones where they install, else what behaves alike."""

import copy
import warnings

import pytest
import torch
from torch import nn

import benchbench


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, obs):
        return self.head(torch.tanh(self.encoder(obs)))


def x():
    return torch.randn(8, 4)


TRAINED = {"encoder", "head"}


# ------------------------------------------------------------ torch itself


def test_lbfgs_evaluates_its_closure_several_times_a_step():
    net = Net()
    opt, obs = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4), x()

    def step():
        def closure():
            opt.zero_grad()
            head_loss = (net(obs) - 1).square().mean()
            head_loss.backward()
            return head_loss

        opt.step(closure)

    audit = benchbench.audit(net, {"opt": opt}, step)
    assert audit.ok, audit
    assert audit.routing == {"head_loss": ["encoder", "head"]}
    per_step = sum(e.kind == "backward" and e.step == 1 for e in audit.events)
    assert per_step > 1


def test_lbfgs_under_audit_trains_bit_for_bit_as_without():
    nets = []
    for audited in (False, True):
        torch.manual_seed(1)
        net, obs = Net(), x()
        opt = torch.optim.LBFGS(net.parameters(), max_iter=3)

        def closure(net=net, opt=opt, obs=obs):
            opt.zero_grad()
            loss = (net(obs) - 1).square().mean()
            loss.backward()
            return loss

        if audited:
            benchbench.audit(net, {"opt": opt}, lambda opt=opt, c=closure: opt.step(c))
        else:
            for _ in range(3):
                opt.step(closure)
        nets.append(net)
    assert all(torch.equal(*pair) for pair in zip(*(n.parameters() for n in nets), strict=True))


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        net = Net()
        wrapped = nn.parallel.DistributedDataParallel(net)
        opt = torch.optim.Adam(wrapped.parameters())

        def step():
            head_loss = wrapped(x()).square().mean()
            opt.zero_grad()
            head_loss.backward()
            opt.step()

        audit = benchbench.audit({"net": wrapped}, {"opt": opt}, step)
        assert audit.ok, audit
        assert audit.routing == {"head_loss": ["net"]}
    finally:
        torch.distributed.destroy_process_group()


def test_a_compiled_module():
    """Whole networks compiled with the backend that traces them as inductor does, no C++ needed."""
    critic, actor = Net(), nn.Linear(4, 4)
    compiled = torch.compile(critic, backend="aot_eager")
    critic_opt = torch.optim.Adam(critic.parameters())
    actor_opt = torch.optim.Adam(actor.parameters())

    def step():
        critic_loss = compiled(x()).square().mean()
        critic_opt.zero_grad()
        critic_loss.backward()
        critic_opt.step()
        actor_loss = -compiled(actor(x())).mean()
        actor_opt.zero_grad()
        actor_loss.backward()
        actor_opt.step()

    optimizers = {"critic_opt": critic_opt, "actor_opt": actor_opt}
    audit = benchbench.audit({"critic": critic, "actor": actor}, optimizers, step)
    assert audit.ok, audit
    parts = {"encoder": critic.encoder, "head": critic.head, "actor": actor}
    audit = benchbench.audit(parts, optimizers, step)
    assert audit.warnings == [], audit  # in one compiled region, so unknown by which way
    assert {u.kind for u in audit.unknown} <= {"unknown path"}


# ------------------------------------------------------------ stand-ins that behave alike


class Wrapper:
    """As Lightning's and d3rlpy's: no torch optimizer itself, and drives one."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    @property
    def param_groups(self):
        return self._optimizer.param_groups

    def zero_grad(self):
        self._optimizer.zero_grad()

    def step(self, closure=None):
        return self._optimizer.step(closure) if closure else self._optimizer.step()


class Accumulating(torch.optim.Optimizer):
    """As accelerate's: a subclass that is not initialised, and that acts every second time."""

    def __init__(self, optimizer):
        self.optimizer, self.calls = optimizer, 0

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def _acts(self):
        return self.calls % 2 == 0

    def step(self, closure=None):
        self.calls += 1
        if self._acts:
            self.optimizer.step()

    def zero_grad(self, set_to_none=True):
        if self._acts:
            self.optimizer.zero_grad()


@pytest.mark.parametrize("named", ["wrapper", "inner", "both"])
@pytest.mark.parametrize("kind", [Wrapper, Accumulating])
def test_an_optimizer_that_drives_another(kind, named):
    net = Net()
    inner = torch.optim.Adam(net.parameters())
    outer = kind(inner)
    optimizers = {"wrapper": {"opt": outer}, "inner": {"opt": inner},
                  "both": {"outer": outer, "opt": inner}}[named]  # fmt: skip

    def step():
        (net(x()).square().mean() / 2).backward()
        outer.step()
        outer.zero_grad()

    audit = benchbench.audit(net, optimizers, step)
    assert audit.warnings == [], audit
    assert audit.unknown == [], audit


def test_automatic_optimisation_with_a_closure_through_a_wrapper():
    """As Lightning does: training_step, zero_grad and backward all within optimizer.step."""
    net = Net()
    opt = Wrapper(torch.optim.Adam(net.parameters()))

    def step():
        def closure():
            loss = net(x()).square().mean()
            opt.zero_grad()
            loss.backward()
            return loss

        opt.step(closure)

    audit = benchbench.audit(net, {"opt": opt}, step)
    assert audit.ok, audit
    assert {m for modules in audit.routing.values() for m in modules} == TRAINED


class OffPolicy:
    """As stable-baselines3 and tianshou: networks and optimizers deep within an agent."""

    class Part:
        def __init__(self, module):
            self.net, self.optim = module, torch.optim.Adam(module.parameters())

    def __init__(self):
        self.parts = {"actor": self.Part(nn.Linear(4, 2)), "critic": self.Part(nn.Linear(6, 1))}
        self.critic_target = copy.deepcopy(self.parts["critic"].net)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=0.1)

    def update(self):
        actor, critic = self.parts["actor"], self.parts["critic"]
        obs = x()
        alpha_loss = (self.log_alpha.exp() - 2).square().sum()
        q = critic.net(torch.cat([obs, torch.randn(8, 2)], 1))
        critic_loss = (q - 1).square().mean()
        action = actor.net(obs)
        actor_loss = (self.log_alpha.exp() * action.square().mean()
                      - critic.net(torch.cat([obs, action], 1)).mean())  # fmt: skip
        for loss, optimizer in ((alpha_loss, self.alpha_optimizer), (actor_loss, actor.optim),
                                (critic_loss, critic.optim)):  # fmt: skip
            for p in [*critic.net.parameters()] if loss is critic_loss else []:
                p.grad = None
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
        for optimizer in (self.alpha_optimizer, actor.optim, critic.optim):
            optimizer.step()
        with torch.no_grad():
            for old, new in zip(
                self.critic_target.parameters(), critic.net.parameters(), strict=True
            ):
                old.lerp_(new, 0.1)


def test_modules_and_optimizers_deep_within_an_agent_are_found():
    agent = OffPolicy()
    audit = benchbench.audit(agent, agent.update)
    assert set(audit.modules) == {"actor.net", "critic.net", "critic_target", "log_alpha"}
    assert set(audit.seen.stepped) == {"actor.optim", "critic.optim", "alpha_optimizer"}
    assert audit.moved["critic_target"] == ("code outside step()",)
    assert audit.routing["critic_loss"] == ["critic.net"]


# ------------------------------------------------------------ the frameworks, where they install


@pytest.mark.parametrize("automatic", [True, False])
def test_lightning(automatic):
    lightning = pytest.importorskip("lightning")
    warnings.simplefilter("ignore")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.automatic_optimization = Net(), automatic

        def training_step(self, batch, _):
            head_loss = self.net(batch[0]).square().mean()
            if automatic:
                return head_loss
            optimizer = self.optimizers()

            def closure():
                optimizer.zero_grad()
                self.manual_backward(head_loss)
                return head_loss

            optimizer.step(closure)
            return None

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    module = Module()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 4)), 8)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with benchbench.watch(module) as watch:

        class Steps(lightning.Callback):
            def on_train_batch_end(self, *args):
                watch.next_step()

        trainer.callbacks.append(Steps())
        trainer.fit(module, data)
    assert watch.audit.ok, watch.audit
    assert watch.audit.steps == 4
    assert {m for modules in watch.audit.routing.values() for m in modules} == TRAINED


@pytest.mark.parametrize("wrapped", [True, False])
def test_accelerate(wrapped):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    inner = torch.optim.Adam((net := Net()).parameters())
    net, opt = accelerator.prepare(net, inner)

    def step():
        with accelerator.accumulate(net):
            head_loss = net(x()).square().mean()
            accelerator.backward(head_loss)
            opt.step()
            opt.zero_grad()

    audit = benchbench.audit({"net": net}, {"opt": opt if wrapped else inner}, step)
    assert audit.ok, audit
    assert audit.routing == {"head_loss": ["net"]}
    assert audit.ledger[0].factor == 0.5
