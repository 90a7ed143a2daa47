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


def test_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3")
    for kind, options in (
        (sb3.SAC, {"learning_starts": 20, "batch_size": 16}),
        (sb3.TD3, {"learning_starts": 20, "batch_size": 16}),
        (sb3.PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 1}),
    ):
        model = kind("MlpPolicy", "Pendulum-v1", seed=0, device="cpu",
                     policy_kwargs={"net_arch": [16]}, **options)  # fmt: skip
        model.learn(64)
        train = model.train if kind is sb3.PPO else lambda m=model: m.train(1, 16)
        audit = benchbench.audit(model, train)
        assert audit.ok, audit
        if kind is not sb3.PPO:
            assert audit.routing["critic_loss"] == ["critic"]
            assert audit.routing["actor_loss"] == ["actor"]
        else:
            terms = next(e.terms for e in audit.events if e.terms)
            assert {"policy_loss", "value_loss"} <= {term.name for term in terms}


def test_d3rlpy():
    d3rlpy = pytest.importorskip("d3rlpy")
    import numpy as np

    draw, count = np.random.default_rng(0), 200
    data = d3rlpy.dataset.MDPDataset(
        draw.normal(size=(count, 4)).astype("f4"), draw.uniform(-1, 1, (count, 2)).astype("f4"),
        draw.normal(size=count).astype("f4"), (np.arange(count) % 20 == 19).astype("f4"),
    )  # fmt: skip
    for config in (d3rlpy.algos.SACConfig, d3rlpy.algos.CQLConfig, d3rlpy.algos.TD3PlusBCConfig):
        algo = config(batch_size=8).create(device="cpu:0")
        algo.build_with_dataset(data)
        audit = benchbench.audit(algo, lambda a=algo: a.update(data.sample_transition_batch(8)))
        assert audit.ok, audit
        assert audit.routing["loss.critic_loss"][0] == "q_funcs"


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


@pytest.mark.slow
@pytest.mark.parametrize("summed", [True, False])
def test_torchrl(summed):
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.data import Bounded
    from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import SACLoss, SoftUpdate

    class Q(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 1)

        def forward(self, observation, action):
            return self.net(torch.cat([observation, action], -1))

    net = nn.Sequential(nn.Linear(4, 4), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["loc", "scale"]), in_keys=["loc", "scale"],
        distribution_class=TanhNormal, spec=Bounded(-1, 1, (2,)),
    )  # fmt: skip
    loss = SACLoss(actor, ValueOperator(Q(), in_keys=["observation", "action"]))
    target = SoftUpdate(loss, eps=0.9)
    networks = {"actor": loss.actor_network_params, "qvalue": loss.qvalue_network_params}
    opts = {name: torch.optim.Adam(net.flatten_keys().values()) for name, net in networks.items()}
    opts["alpha"] = torch.optim.Adam([loss.log_alpha])

    def step():
        end = torch.zeros(8, 1, dtype=torch.bool)
        after = {"observation": x(), "reward": torch.randn(8, 1), "done": end, "terminated": end}
        batch = {"observation": x(), "action": torch.rand(8, 2) * 2 - 1, "next": after}
        out = loss(TensorDict(batch, [8]))
        for opt in opts.values():
            opt.zero_grad()
        qvalue_loss, actor_loss, alpha_loss = (out[f"loss_{name}"] for name in
                                               ("qvalue", "actor", "alpha"))  # fmt: skip
        if summed:
            (qvalue_loss + actor_loss + alpha_loss).backward()
        else:
            qvalue_loss.backward()
            actor_loss.backward()
            alpha_loss.backward()
        for opt in opts.values():
            opt.step()
        target.step()

    audit = benchbench.audit(loss, opts, step)
    assert audit.ok, audit
    trained = ["actor_network_params", "qvalue_network_params", "log_alpha"]
    by_loss = {"qvalue_loss": trained[1:2], "actor_loss": trained[:1], "alpha_loss": trained[2:]}
    if summed:
        (modules,) = audit.routing.values()  # the sum is one row: torchrl's graph hides its terms
        assert set(modules) == set(trained)
    else:
        assert audit.routing == by_loss
    assert [audit.moved[module] for module in trained] == [("actor",), ("qvalue",), ("alpha",)]


@pytest.mark.slow
def test_tianshou():
    pytest.importorskip("tianshou")
    import gymnasium
    import numpy as np
    from tianshou.algorithm import SAC
    from tianshou.algorithm.modelfree.sac import SACPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, ReplayBuffer
    from tianshou.utils.net.common import Net as Trunk
    from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
    from tianshou.utils.torch_utils import policy_within_training_step

    shape, adam = {"state_shape": (3,), "hidden_sizes": [16]}, AdamOptimizerFactory(lr=1e-3)
    actor = ContinuousActorProbabilistic(
        preprocess_net=Trunk(**shape), action_shape=(1,), unbounded=True, conditioned_sigma=True
    )
    critic = ContinuousCritic(preprocess_net=Trunk(**shape, action_shape=(1,), concat=True))
    space = gymnasium.spaces.Box(-2, 2, (1,))
    policy = SACPolicy(actor=actor, action_space=space)
    algorithm = SAC(policy=policy, policy_optim=adam, critic=critic, critic_optim=adam)
    draw, buffer = np.random.default_rng(0), ReplayBuffer(100)
    for _ in range(60):
        buffer.add(Batch(obs=draw.normal(size=3), act=draw.random(1), rew=0.1, terminated=False,
                         truncated=False, obs_next=draw.normal(size=3), info={}))  # fmt: skip

    def step():
        with policy_within_training_step(policy):
            algorithm.update(buffer=buffer, sample_size=8)

    audit = benchbench.audit(algorithm, step)
    assert audit.ok, audit
    assert audit.routing == {
        "critic_loss on critic": ["critic"],
        "critic_loss on critic2": ["critic2"],
        "actor_loss": ["policy"],
    }
    assert audit.moved["critic_old"] == audit.moved["critic2_old"] == ("code outside step()",)
