"""The audit on the loops of reinforcement learning frameworks, each where it installs."""

import pytest
import torch
from torch import nn

import benchbench


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def x():
    return torch.randn(8, 4)


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
