"""Each kind of fault and each harmless look-alike, in several forms: right verdict, right cure."""

import pytest
from helpers.actor_critic import Agent, actor_first, adam, cat, turn, x
from helpers.audited import kinds

pytestmark = pytest.mark.usefixtures("same_numbers")

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
