"""Each kind of fault and each harmless look-alike, in several forms: right verdict, right cure."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import benchbench


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


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


def kinds(audit):
    return [finding.kind for finding in audit.warnings]


def note_kinds(audit):
    return {finding.kind for finding in audit.notes}


# ------------------------------------------------------------ a step that is forgotten


def head_is_zeroed(a):
    a.encoder_opt.zero_grad()
    a.head_opt.zero_grad()
    head_loss = a.head(a.encoder(x())).square().mean()
    head_loss.backward()
    a.encoder_opt.step()


def head_is_not_even_zeroed(a):
    a.encoder_opt.zero_grad()
    head_loss = a.head(a.encoder(x())).square().mean()
    head_loss.backward()
    a.encoder_opt.step()


def head_is_zeroed_after(a):
    head_loss = a.head(a.encoder(x())).square().mean()
    head_loss.backward()
    a.encoder_opt.step()
    a.head_opt.zero_grad()
    a.encoder_opt.zero_grad()


@pytest.mark.parametrize("step", [head_is_zeroed, head_is_not_even_zeroed, head_is_zeroed_after])
def test_a_forgotten_step_is_not_taken_for_passing_through(step):
    audit = Agent().audit(step, "encoder head", "encoder_opt head_opt")
    assert kinds(audit) == ["no step"]
    assert audit.warnings[0].module == "head"
    assert "call head_opt.step()" in str(audit.warnings[0])
    assert "(not head_opt)" in str(audit.seen)


def test_the_holder_that_never_steps_is_to_step_and_not_to_be_changed():
    def step(a):
        a.encoder_opt.zero_grad()
        turn(a.head_opt, a.head(a.encoder(x())).square().mean())

    audit = Agent().audit(step, "encoder head", "encoder_opt head_opt")
    assert kinds(audit) == ["no step"]
    assert str(audit.warnings[0]).endswith("call encoder_opt.step() after the backward pass")


# ------------------------------------------------------------ gradients that ride along


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


def both_backward_then_both_steps(a):
    obs = x()
    a.actor_opt.zero_grad()
    a.critic_opt.zero_grad()
    critic_loss = a.q(obs, x(2)).square().mean()
    critic_loss.backward()
    actor_loss = -a.q(obs).mean()
    actor_loss.backward()
    a.critic_opt.step()
    a.actor_opt.step()


def zeroed_before_both(a):
    obs = x()
    a.critic_opt.zero_grad()
    a.actor_opt.zero_grad()
    actor_loss = -a.q(obs).mean()
    actor_loss.backward()
    a.actor_opt.step()
    critic_loss = a.q(obs, x(2)).square().mean()
    critic_loss.backward()
    a.critic_opt.step()


def critic_first_and_zeroed_after(a):
    obs = x()
    critic_loss = a.q(obs, x(2)).square().mean()
    critic_loss.backward()
    a.critic_opt.step()
    a.critic_opt.zero_grad()
    a.actor_opt.zero_grad()
    actor_loss = -a.q(obs).mean()
    actor_loss.backward()
    a.actor_opt.step()


@pytest.mark.parametrize(
    "step",
    [actor_first, both_backward_then_both_steps, zeroed_before_both,
     critic_first_and_zeroed_after],
)  # fmt: skip
def test_the_actors_gradient_that_trains_the_critic(step):
    audit = Agent().audit(step, "actor critic", "actor_opt critic_opt")
    (warning,) = audit.warnings
    assert warning.kind in ("rides along", "stale")
    assert (warning.loss, warning.module) == ("actor_loss", "critic")
    assert "critic_opt" in str(warning)


def test_another_losss_gradient_on_the_encoder_that_joins_the_critics_step():
    def step(a):
        a.both_opt.zero_grad()
        a.head_opt.zero_grad()
        obs = x()
        head_loss = a.head(a.encoder(obs)).square().mean()
        head_loss.backward()
        a.head_opt.step()
        critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
        critic_loss.backward()
        a.both_opt.step()

    audit = Agent().audit(step, "encoder critic head", "both_opt head_opt")
    assert [(w.kind, w.loss, w.module) for w in audit.warnings] == [
        ("rides along", "head_loss", "encoder")
    ]


def test_a_summed_loss_whose_actor_part_trains_the_critic():
    def step(a):
        obs = x()
        critic_loss = a.q(obs, x(2)).square().mean()
        actor_loss = -a.q(obs).mean()
        a.critic_opt.zero_grad()
        a.actor_opt.zero_grad()
        (critic_loss + actor_loss).backward()
        a.critic_opt.step()
        a.actor_opt.step()

    audit = Agent().audit(step, "actor critic", "actor_opt critic_opt")
    assert [(w.kind, w.module) for w in audit.warnings] == [("rides along", "critic")]
    assert str(audit.warnings[0]).startswith("actor_loss, a summand of critic_loss + actor_loss")
    a = Agent()
    a.one_opt = adam(a.actor, a.critic, a.head)

    def shared(a):  # PPO's: one optimizer, heads on a shared trunk
        features = a.critic(cat(a.actor(x()), x()))
        pi_loss, v_loss = features.mean(), features.square().mean() + a.head(x()).mean()
        turn(a.one_opt, pi_loss + 0.5 * v_loss)

    assert a.audit(shared, "actor critic head", "one_opt").ok


def test_two_calls_in_one_line_and_one_call_in_a_loop_are_told_apart():
    def one_line(a):
        obs = x()
        turn(a.critic_opt, a.q(obs, x(2)).square().mean())
        turn(a.actor_opt, -a.q(obs).mean())

    def loop(a):
        obs = x()
        for opt, make in ((a.critic_opt, lambda: a.q(obs, x(2)).square().mean()),
                          (a.actor_opt, lambda: -a.q(obs).mean())):  # fmt: skip
            loss = make()
            opt.zero_grad(set_to_none=False)
            loss.backward()
            opt.step()

    for step in (one_line, loop):
        audit = Agent().audit(step, "actor critic", "actor_opt critic_opt")
        assert audit.ok, audit
        assert len(audit.seen.losses) == 2


def test_a_side_path_that_rides_along():
    def step(a):
        obs = x()
        a.actor_opt.zero_grad()
        actor_loss = -a.critic(cat(a.encoder(obs), a.actor(obs))).mean()
        actor_loss.backward()
        a.actor_opt.step()
        critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
        critic_loss.backward()
        a.both_opt.step()
        a.both_opt.zero_grad()

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    assert {(w.kind, w.module) for w in audit.warnings} == {
        ("rides along", "encoder"), ("rides along", "critic"),
    }  # fmt: skip


def encoder_optimizer_takes_the_sum(a):
    obs = x()
    for optimizer in (a.encoder_opt, a.critic_opt, a.head_opt):
        optimizer.zero_grad()
    critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
    critic_loss.backward()
    a.critic_opt.step()
    head_loss = a.head(a.encoder(obs)).square().mean()
    head_loss.backward()
    a.head_opt.step()
    a.encoder_opt.step()


def all_backward_then_all_step(a):
    obs = x()
    for optimizer in (a.encoder_opt, a.critic_opt, a.head_opt):
        optimizer.zero_grad()
    critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
    head_loss = a.head(a.encoder(obs)).square().mean()
    critic_loss.backward()
    head_loss.backward()
    for optimizer in (a.encoder_opt, a.critic_opt, a.head_opt):
        optimizer.step()


@pytest.mark.parametrize("step", [encoder_optimizer_takes_the_sum, all_backward_then_all_step])
def test_losses_that_are_meant_to_add_up_do_not_ride_along(step):
    audit = Agent().audit(step, "encoder critic head", "encoder_opt critic_opt head_opt")
    assert audit.ok, audit
    assert audit.routing == {
        "critic_loss": ["encoder", "critic"], "head_loss": ["encoder", "head"],
    }  # fmt: skip


# ------------------------------------------------------------ held, and reached by nothing


def test_a_detached_module_in_a_shared_optimizer():
    def step(a):
        turn(a.both_opt, a.q(a.encoder(x()).detach(), x(2)).square().mean())

    audit = Agent().audit(step, "encoder critic", "both_opt")
    assert [(w.kind, w.module) for w in audit.warnings] == [("unreached", "encoder")]
    assert str(audit.warnings[0]).startswith("both_opt holds encoder, and no loss reaches it")
    assert [line.moved for line in audit.ledger if line.module == "encoder"] == [()]


def test_a_layer_that_is_never_used():
    head = nn.ModuleDict({"used": nn.Linear(4, 1), "spare": nn.Linear(4, 1)})
    opt = adam(head)
    audit = benchbench.audit(
        {"head": head}, {"opt": opt}, lambda: turn(opt, head["used"](x()).square().mean())
    )
    assert kinds(audit) == ["unreached"]
    assert "opt holds head (spare.weight, spare.bias)" in str(audit.warnings[0])


def test_a_layer_behind_dead_activations():
    encoder, head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1)
    nn.init.constant_(encoder[0].bias, -1e3)
    opt = adam(encoder, head)
    audit = benchbench.audit(
        {"encoder": encoder, "head": head}, {"opt": opt},
        lambda: turn(opt, (head(encoder(x())) - 1).square().mean()),
    )  # fmt: skip
    assert ("unreached", "encoder") in [(w.kind, w.module) for w in audit.warnings]
    assert "zero throughout" in str(audit.warnings[0])


def target_step(critic, target, opt, clear_to_none=True):
    def step():
        with torch.no_grad():
            goal = target(x())
        critic_loss = (critic(x()) - goal).square().mean()
        opt.zero_grad(set_to_none=clear_to_none)
        critic_loss.backward()
        opt.step()
        with torch.no_grad():
            for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                old.lerp_(new, 0.1)

    return step


def test_a_target_network_inside_adamw():
    critic = nn.Linear(4, 1)
    target = copy.deepcopy(critic)
    opt = torch.optim.AdamW([*critic.parameters(), *target.parameters()], lr=1e-2)
    modules = {"critic": critic, "critic_target": target}
    audit = benchbench.audit(modules, {"opt": opt}, target_step(critic, target, opt))
    assert [(w.kind, w.module) for w in audit.warnings] == [("unreached", "critic_target")]
    assert "leave it out of opt" in str(audit.warnings[0])
    assert audit.moved["critic_target"] == ("code outside step()",)
    for p in target.parameters():
        p.grad = torch.zeros_like(p)  # as zero_grad(set_to_none=False) leaves them: decay acts
    audit = benchbench.audit(modules, {"opt": opt}, target_step(critic, target, opt, False))
    assert set(audit.moved["critic_target"]) == {"opt", "code outside step()"}
    frozen = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    audit = benchbench.audit(modules, {"opt": frozen}, target_step(critic, target, frozen))
    assert audit.ok


def test_parameters_put_in_later():
    body, extra = nn.Linear(4, 1), nn.Linear(4, 1)
    opt, calls = adam(body), itertools.count()

    def step():
        if next(calls) == 1:
            opt.add_param_group({"params": list(extra.parameters())})
        turn(opt, body(x()).square().mean())

    audit = benchbench.audit({"body": body, "extra": extra}, {"opt": opt}, step)
    assert ("unreached", "extra") in [(w.kind, w.module) for w in audit.warnings]

    net = nn.Sequential(nn.Linear(4, 4))
    late = adam(net)
    net.append(nn.Linear(4, 1))  # after the optimizer was made
    audit = benchbench.audit(
        {"net": net}, {"late": late}, lambda: turn(late, net(x()).square().mean())
    )
    assert kinds(audit) == ["unheld gradient"]
    assert "net (1.weight, 1.bias), which is in no optimizer" in str(audit.warnings[0])


# ------------------------------------------------------------ two optimizers, one gradient


def test_one_gradient_that_two_optimizers_step_along():
    """CURL's contrastive step: encoder_optimizer and cpc_optimizer both hold the encoder."""
    a = Agent()
    a.cpc_opt = adam(a.encoder, a.head)

    def step(a):
        cpc_loss = a.head(a.encoder(x())).square().mean()
        a.encoder_opt.zero_grad()
        a.cpc_opt.zero_grad()
        cpc_loss.backward()
        a.encoder_opt.step()
        a.cpc_opt.step()

    audit = a.audit(step, "encoder head", "encoder_opt cpc_opt")
    assert kinds(audit) == ["stepped twice"]
    assert str(audit.warnings[0]).startswith(
        "encoder_opt and cpc_opt both step along one gradient of cpc_loss on encoder"
    )


# ------------------------------------------------------------ what is not finite, or not there


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite(bad):
    def step(a):
        turn(a.head_opt, a.head(x()).square().mean() * bad)

    audit = Agent().audit(step, "head", "head_opt")
    assert "not finite" in kinds(audit)
    assert not audit.ok
    assert audit.to_dict()["ledger"][0]["computed"] is None
    audit.to_json()


def test_windows_in_which_nothing_was_booked_are_never_all_right():
    a = Agent()
    nothing = a.audit(lambda a: None, "head", "head_opt")
    assert "no backward" in kinds(nothing)
    other = nn.Linear(4, 1)
    elsewhere = a.audit(lambda a: other(x()).mean().backward(), "head", "head_opt")
    assert "nothing booked" in kinds(elsewhere)

    def only_step(a):
        a.head_opt.step()

    for audit in (nothing, elsewhere, a.audit(only_step, "head", "head_opt")):
        assert not audit.ok
        assert "no warnings" not in str(audit)
        assert "no warnings" not in audit.to_markdown()


def test_a_gradient_that_no_optimizer_uses_is_not_all_right():
    a = Agent()
    audit = benchbench.audit({"head": a.head}, {}, lambda: a.head(x()).square().mean().backward())
    assert not audit.ok


def test_an_optimizer_that_was_not_seen_to_step_is_unknown_and_the_window_is_lengthened():
    calls = itertools.count(1)

    def step(a):
        critic_loss = a.q(x(), x(2)).square().mean()
        turn(a.critic_opt, critic_loss)
        if next(calls) % 7 == 0:
            head_loss = a.head(x()).square().mean()
            turn(a.head_opt, head_loss)

    audit = Agent().audit(step, "critic head", "critic_opt head_opt")
    assert audit.ok
    assert audit.steps == 14
    calls = itertools.count(1)
    short = Agent().audit(step, "critic head", "critic_opt head_opt", max_steps=3)
    assert not short.ok
    assert [u.kind for u in short.unknown] == ["not seen"]
    assert "no warnings" not in str(short)


# ------------------------------------------------------------ by-products on side paths


def sac_ae(a, actor_input, critic_features, freeze=False):
    obs = x()
    critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
    turn(a.both_opt, critic_loss)
    if freeze:
        a.critic.requires_grad_(False)
    actor_loss = -a.critic(cat(critic_features(obs), a.actor(actor_input(obs)))).mean()
    a.critic.requires_grad_(True)
    turn(a.actor_opt, actor_loss)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_side_path_through_the_critic_is_a_by_product(freeze):
    def step(a):
        sac_ae(a, lambda o: a.encoder(o).detach(), a.encoder, freeze)

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    if not freeze:
        assert note_kinds(audit) == {"by-product", "passed through"}
        assert audit.warnings == []
        assert audit.ok
    else:  # the frozen critic is in the graph by the weights that its operations keep
        assert audit.warnings == [], audit


def test_a_weight_that_has_a_loss_of_its_own_is_a_by_product():
    """CQL's and SAC's temperature: it weighs a loss, and its own loss trains it."""
    a = Agent()
    a.log_alpha = torch.zeros(1, requires_grad=True)
    a.alpha_opt = torch.optim.Adam([a.log_alpha])

    def step(a):
        critic_loss = (a.log_alpha.exp() * a.q(x(), x(2)).square()).mean()
        turn(a.critic_opt, critic_loss)
        alpha_loss = (a.log_alpha.exp() - 2).square().sum()
        turn(a.alpha_opt, alpha_loss)

    audit = a.audit(step, "critic log_alpha", "critic_opt alpha_opt")
    assert audit.ok, audit
    assert note_kinds(audit) == {"by-product"}


def test_features_that_the_trained_actor_reads_are_no_by_product():
    def step(a):
        sac_ae(a, a.encoder, lambda o: a.encoder(o).detach())

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    assert [(w.kind, w.loss, w.module) for w in audit.warnings] == [
        ("dropped", "actor_loss", "encoder")
    ]
    assert "before any step: detach encoder from actor_loss, as critic_loss trains it" in str(
        audit.warnings[0]
    )


def test_a_by_product_on_a_module_that_nothing_trains_is_a_warning():
    def step(a):
        obs = x()
        critic_loss = a.q(a.encoder(obs).detach(), x(2)).square().mean()
        turn(a.critic_opt, critic_loss)
        a.encoder_opt.zero_grad()
        actor_loss = -a.critic(cat(a.encoder(obs), a.actor(obs))).mean()
        turn(a.actor_opt, actor_loss)

    audit = Agent().audit(step, "encoder actor critic", "critic_opt actor_opt encoder_opt")
    assert ("no step", "encoder") in [(w.kind, w.module) for w in audit.warnings]


# ------------------------------------------------------------ the window's ends


@pytest.mark.parametrize(("every", "first"), [(e, f) for e in (2, 3, 4) for f in range(e)])
def test_accumulation_over_calls_wherever_the_window_starts(every, first):
    calls = itertools.count(first)

    def step(a):
        head_loss = a.head(a.encoder(x())).square().mean() / every
        head_loss.backward()
        if next(calls) % every == every - 1:
            for optimizer in (a.head_opt, a.encoder_opt):
                optimizer.step()
                optimizer.zero_grad()

    audit = Agent().audit(step, "encoder head", "head_opt encoder_opt")
    assert audit.ok, audit
    assert all(line.left_over == 0 for line in audit.ledger)


@pytest.mark.parametrize(("every", "first"), [(e, f) for e in (2, 3) for f in range(e)])
@pytest.mark.parametrize("actor_first", [False, True])
def test_delayed_updates_with_given_names(every, first, actor_first):
    calls = itertools.count(first)

    def step(a):
        obs = x()

        def update_actor():
            if next(calls) % every == 0:
                turn(a.actor_opt, -a.q(obs).mean())

        if actor_first:
            update_actor()
        turn(a.critic_opt, a.q(obs, x(2)).square().mean())
        if not actor_first:
            update_actor()

    names = ["pi", "td"] if actor_first else ["td", "pi"]
    audit = Agent().audit(step, "actor critic", "actor_opt critic_opt", losses=names)
    assert audit.ok, audit
    audit.assert_routing({"td": ["critic"], "pi": ["actor"]})


def test_given_names_for_one_line_that_runs_several_times():
    def step(a):
        for loss, optimizer in ((a.head(x()), a.head_opt), (a.actor(x()), a.actor_opt)):
            turn(optimizer, loss.square().mean())

    audit = Agent().audit(step, "actor head", "actor_opt head_opt", losses=["h", "a"])
    audit.assert_routing({"h": ["head"], "a": ["actor"]})


# ------------------------------------------------------------ recomputation


def pcgrad(a, project):
    parameters = list(a.encoder.parameters())
    kept = []
    for loss in (a.head(a.encoder(x())).square().mean(), a.actor(a.encoder(x())).mean()):
        a.encoder_opt.zero_grad()
        loss.backward()
        kept.append([p.grad.clone() for p in parameters])
    for p, g, h in zip(parameters, *kept, strict=True):
        p.grad = project(g, h)
    a.encoder_opt.step()
    for optimizer in (a.head_opt, a.actor_opt):
        optimizer.step()
        optimizer.zero_grad()


def test_gradients_that_are_cleared_and_put_back_projected_are_no_losses():
    a = Agent()
    audit = a.audit(
        lambda a: pcgrad(a, lambda g, h: 0.7 * g + 1.3 * h),
        "encoder head actor", "encoder_opt head_opt actor_opt",
    )  # fmt: skip
    assert audit.warnings == [], audit
    assert "recombined" in note_kinds(audit)
    unlike = a.audit(
        lambda a: pcgrad(a, lambda g, h: torch.where(g * h > 0, g + h, torch.zeros_like(g))),
        "encoder head actor", "encoder_opt head_opt actor_opt",
    )  # fmt: skip
    assert unlike.warnings == [], unlike  # not understood, so neither a warning nor all right
    assert {u.kind for u in unlike.unknown} == {"unknown gradient"}


def test_a_backward_pass_for_a_look_at_the_gradient_only():
    def step(a):
        obs = x()
        head_loss = a.head(a.encoder(obs)).square().mean()
        head_loss.backward(retain_graph=True)  # logs its norm
        a.both.zero_grad()
        a.both.zero_grad()
        total_loss = head_loss + a.actor(a.encoder(obs)).mean() * 0
        total_loss.backward()
        a.both.step()

    a = Agent()
    a.both = adam(a.encoder, a.head, a.actor)
    audit = a.audit(step, "encoder head", "both")
    assert [w for w in audit.warnings if w.kind == "dropped"] == [], audit


def test_a_dropped_gradient_within_a_reentrant_checkpoint():
    """Its way is known from the backward pass that the checkpoint runs."""

    def step(a):
        obs = x()
        critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
        turn(a.both_opt, critic_loss)
        features = checkpoint(a.encoder, obs.requires_grad_(), use_reentrant=True)
        actor_loss = -a.critic(cat(features, a.actor(obs.detach()))).mean()
        turn(a.actor_opt, actor_loss)

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    assert audit.warnings == [], audit


# ------------------------------------------------------------ who moved the weights


def test_a_learning_rate_of_zero():
    a = Agent()
    a.head_opt = adam(a.head, lr=0.0)
    audit = a.audit(lambda a: turn(a.head_opt, a.head(x()).square().mean()), "head", "head_opt")
    assert kinds(audit) == ["not moved"]
    assert audit.moved["head"] == ()


@pytest.mark.parametrize("functional", [False, True])
def test_hand_written_sgd(functional):
    a = Agent()

    def step():
        head_loss = a.head(x()).square().mean()
        parameters = list(a.head.parameters())
        if functional:
            grads = torch.autograd.grad(head_loss, parameters)
        else:
            head_loss.backward()
            grads = [p.grad for p in parameters]
        for p, g in zip(parameters, grads, strict=True):
            p.data -= 0.1 * g
            p.grad = None

    audit = benchbench.audit({"head": a.head}, {}, step)
    assert audit.ok, audit
    assert audit.moved["head"] == ("code outside step()",)
    assert audit.routing == {"head_loss": ["head"]}


def test_hand_written_momentum_is_unknown_and_no_warning():
    a = Agent()
    momentum = [torch.zeros_like(p) for p in a.head.parameters()]

    def step():
        head_loss = a.head(x()).square().mean()
        head_loss.backward()
        with torch.no_grad():
            for p, m in zip(a.head.parameters(), momentum, strict=True):
                p.sub_(m.mul_(0.9).add_(p.grad), alpha=0.1)
                p.grad = None

    audit = benchbench.audit({"head": a.head}, {}, step)
    assert audit.warnings == []
    assert {u.kind for u in audit.unknown} == {"unknown gradient"}


def test_autograd_grad_that_the_code_puts_into_grad():
    def step(a):
        head_loss = a.head(a.encoder(x())).square().mean()
        parameters = [*a.head.parameters(), *a.encoder.parameters()]
        for p, g in zip(parameters, torch.autograd.grad(head_loss, parameters), strict=True):
            p.grad = g
        a.head_opt.step()
        a.encoder_opt.step()

    audit = Agent().audit(step, "encoder head", "head_opt encoder_opt")
    assert audit.ok, audit
    assert audit.routing == {"head_loss": ["encoder", "head"]}


# ------------------------------------------------------------ names and rows


def test_what_two_modules_share_has_a_row_of_its_own():
    encoder, pi, q = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 1)
    actor, critic = nn.Sequential(encoder, pi), nn.Sequential(encoder, q)
    opt = adam(encoder, pi, q)

    def step():
        critic_loss = critic(x()).square().mean()
        actor_loss = actor(x()).square().mean()
        turn(opt, critic_loss + actor_loss)

    audit = benchbench.audit({"actor": actor, "critic": critic}, {"opt": opt}, step)
    assert audit.ok
    assert set(audit.modules) == {"actor", "critic", "actor ∩ critic"}
    terms = next(e.terms for e in audit.events if e.terms)
    norms = {term.name: set(term.norms) for term in terms}
    assert norms == {
        "critic_loss": {"critic", "actor ∩ critic"}, "actor_loss": {"actor", "actor ∩ critic"},
    }  # fmt: skip


def test_scaled_losses_keep_their_name_and_norm():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(a):
        torch.manual_seed(3)
        critic_loss = a.q(x(), x(2)).square().mean()
        a.critic_opt.zero_grad()
        scaler.scale(critic_loss).backward()
        scaler.unscale_(a.critic_opt)
        scaler.step(a.critic_opt)
        scaler.update()
        head_loss = a.head(x()).square().mean()
        a.head_opt.zero_grad()
        (head_loss / 4).backward()
        a.head_opt.step()

    a = Agent()
    twin = copy.deepcopy(a)
    audit = a.audit(step, "critic head", "critic_opt head_opt", steps=2)
    assert audit.ok
    torch.manual_seed(3)
    loss = twin.q(x(), x(2)).square().mean()
    grads = torch.autograd.grad(loss, list(twin.critic.parameters()))
    norm = float(sum(g.double().square().sum() for g in grads)) ** 0.5
    lines = {line.loss: line for line in audit.ledger}
    assert lines["critic_loss"].computed == pytest.approx(norm, rel=1e-5)
    assert lines["critic_loss"].factor == 1024
    assert lines["head_loss"].factor == 0.25


def test_a_step_that_the_scaler_leaves_out_is_a_note():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    calls = itertools.count()

    def step(a):
        head_loss = a.head(x()).square().mean()
        if next(calls) == 1:
            head_loss = head_loss * float("inf")
        a.head_opt.zero_grad()
        scaler.scale(head_loss).backward()
        scaler.step(a.head_opt)
        scaler.update()

    audit = Agent().audit(step, "head", "head_opt", steps=4)
    assert audit.ok, audit
    assert note_kinds(audit) == {"skipped step"}
    assert "head_opt.step() skipped" in [str(event) for event in audit.events]
