"""What is measured beside the score, against loops, Gram matrices and sums by hand."""

import numpy as np
import pytest
import torch
from helpers.agents import make_agent, make_batches
from helpers.diagnosed import ON, flat
from helpers.suites import tiny_cell as cell
from torch import nn
from torch.nn import functional as F

from benchbench.agent.networks import make_encoder
from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.core.statistics import linear_cka
from benchbench.diagnostics.features import dormant_share, encode
from benchbench.diagnostics.signals import Signals, encoder_signals
from benchbench.envs.maze2d import Maze2dPixelEnv
from benchbench.results.failures import of_error

pytestmark = pytest.mark.usefixtures("tiny_data")


def run(one):
    return run_cell(one, Device("cpu"), lambda done: None)


# ------------------------------------------------------------------ units and features


class Stub(nn.Module):
    """Two ReLU layers whose activity is written in the weights, and an output."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        first = self.relu(x * torch.tensor([1.0, -1.0, 0.02, 3.0]))
        second = F.relu(first[:, :2, None, None].expand(-1, -1, 2, 2) * 1.0)
        return second.mean((2, 3)) - torch.tensor([1.0, 0.0])


def test_dormant_units_by_hand():
    """Over 1, 1, 1, 1 the first layer gives 1, 0, 0.02, 3: its mean is 1.005, and τ of it 0.025."""
    features, activity = encode(Stub(), torch.ones(600, 4))
    assert features.tolist() == [[0.0, 0.0]] * 600
    assert activity[0] == pytest.approx([1, 0, 0.02, 3])
    assert activity[1] == pytest.approx([1, 0])
    assert activity[2] == pytest.approx([0, 0])
    # Two of the first layer, one of the second, and both of the silent output.
    assert dormant_share(activity) == 5 / 8
    assert dormant_share(activity[:1], tau=0.0) == 1 / 4
    assert dormant_share([np.array([0.025, 1.975])]) == 1 / 2  # the bound belongs to it
    assert dormant_share([np.array([0.026, 1.974])]) == 0


def test_features_that_are_no_numbers_are_a_divergence_and_not_tried_again():
    with pytest.raises(FloatingPointError, match="output is not a finite number") as raised:
        encode(Stub(), torch.full((3, 4), torch.nan))
    assert of_error(raised.value).kind == "diverged"


@pytest.mark.parametrize(("kind", "relus"), [("small", 3), ("drqv2", 4), ("resnet18", 17)])
def test_every_relu_of_an_encoder_is_seen_and_nothing_is_changed(kind, relus):
    encoder = make_encoder(kind, 3, 32, 10)
    obs = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8)
    if kind == "resnet18":
        obs = obs[:3]
    features, activity = encode(encoder, obs)
    assert len(activity) == relus + 1
    with torch.no_grad():
        assert features == pytest.approx(encoder(obs).numpy(), abs=1e-5)
        body = encoder.body(obs / 255.0 - 0.5)
    if kind != "resnet18":  # there the average comes last
        assert activity[-2] == pytest.approx(body.mean((0, 2, 3)).numpy(), abs=1e-5)
    assert activity[-1] == pytest.approx(np.abs(features).mean(0), abs=1e-6)


@pytest.mark.parametrize(("size", "count"), [(48, 500), (84, 300)])
def test_large_pictures_count_each_layer_once(size, count):
    """Against forward hooks on one pass with a graph, which an encoder never splits."""
    encoder = make_encoder("small", 3, size, 10)
    with torch.no_grad():
        encoder.body[0].bias[:4] = -100.0  # four channels of the first layer sleep
    obs = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    seen = []
    for layer in encoder.body:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _, __, out: seen.append(out.mean((0, 2, 3))))
    output = encoder(obs)
    expected = [layer.detach().numpy() for layer in (*seen, output.abs().mean(0))]
    features, activity = encode(encoder, obs)
    assert features == pytest.approx(output.detach().numpy(), abs=1e-5)
    assert len(activity) == len(expected) == 4
    for found, known in zip(activity, expected, strict=True):
        assert found == pytest.approx(known, rel=1e-4, abs=1e-6)
    assert dormant_share(activity[:1]) == 4 / 16


def gram_cka(x, y):
    """Kornblith et al. 2019, eq. 3 and 4: HSIC of the centred Gram matrices."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = x @ x.T, y @ y.T

    def hsic(a, b):
        return np.trace(a @ centre @ b @ centre) / (n - 1) ** 2

    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_linear_cka_is_the_gram_matrices():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)) + 3, rng.normal(size=(40, 9))
    y[:, :3] += x[:, :3]
    assert linear_cka(x, y) == pytest.approx(gram_cka(x, y))
    assert 0.1 < linear_cka(x, y) < 0.9
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(x, -7 * x @ rotation + 2) == pytest.approx(1)
    assert linear_cka(x.astype(np.float32), y) == pytest.approx(linear_cka(y, x))
    assert linear_cka(x, np.ones((40, 2))) is None
    # One column each: the squared correlation.
    r = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    assert linear_cka(x[:, :1], y[:, :1]) == pytest.approx(r**2)
    with pytest.raises(ValueError, match="40 and of 39"):
        linear_cka(x, y[1:])


@pytest.mark.parametrize("variant", ["before", "q-only", "v-only", "separate"])
def test_the_critics_gradient_splits_into_its_terms(variant):
    agent, batch = make_agent(variant), make_batches(1)[0]
    found = encoder_signals(agent, batch, seed=3)
    parameters = list(agent.encoder("critic").parameters())
    with agent.noise_from(3):
        fixed = agent.fix(batch)
        features = agent.features(fixed.obs, batch.proprio_BP)
        loss, info = agent.critic_loss(features, batch, fixed)
    q1, q2 = agent.critic.q(features.critic, batch.action_BA)
    q_loss = ((q1 - fixed.td_target_B) ** 2 + (q2 - fixed.td_target_B) ** 2).mean()
    v_loss = ((agent.critic.v(features.critic) - fixed.v_target_B) ** 2).mean()
    assert q_loss.item() == pytest.approx(info["q_loss"].item(), rel=1e-5)
    assert v_loss.item() == pytest.approx(info["v_loss"].item(), rel=1e-5)
    q, v, whole = (
        flat(torch.autograd.grad(part, parameters, retain_graph=True))
        for part in (q_loss, v_loss, loss)
    )
    assert found["grad_q"] == pytest.approx(q.norm().item(), rel=1e-4)
    assert found["grad_v"] == pytest.approx(v.norm().item(), rel=1e-4)
    seen = {"q-only": q, "v-only": v}.get(variant, q + v)
    assert found["grad_critic"] == pytest.approx(seen.norm().item(), rel=1e-4)
    assert torch.allclose(whole, seen, atol=1e-6)
    assert (found["grad_cosine"] is None) == (variant == "separate")
    assert (found["moved_critic"], found["moved_vae"]) == (None, None)


def test_a_way_along_a_losss_descent_has_cosine_one():
    agent, batch = make_agent("before"), make_batches(1)[0]
    parameters = list(agent.obs_encoder.parameters())
    with agent.noise_from(3):
        fixed = agent.fix(batch)
        loss, _ = agent.critic_loss(agent.features(fixed.obs, batch.proprio_BP), batch, fixed)
    descent = -flat(torch.autograd.grad(loss, parameters))
    now = flat(parameters)
    earlier = {"critic": now - 0.1 * descent, "vae": now + 0.1 * descent}
    found = encoder_signals(agent, batch, 3, earlier)
    assert found["moved_critic"] == pytest.approx(1, abs=1e-5)
    assert found["moved_vae"] == pytest.approx(-found["grad_cosine"], abs=1e-5)
    same = encoder_signals(agent, batch, 3, {"critic": now, "vae": now})
    assert (same["moved_critic"], same["moved_vae"]) == (None, None)


@pytest.mark.parametrize("every", [30, 60])
def test_the_way_is_of_the_last_fifty_updates(every):
    agent, batch = make_agent("joint-sum"), make_batches(1)[0]
    signals, samples, weights = Signals(agent, every), {}, []
    for update in range(61):
        weights.append(flat(agent.obs_encoder.parameters()))
        if signals.due(update):
            sample = signals.before_update(update, batch, 7)
            if sample is not None:
                samples[update] = sample
                if update == 60:
                    earlier = dict.fromkeys(("critic", "vae"), weights[10])
                    expected = encoder_signals(agent, batch, 7, earlier)
        agent.update(batch)
    assert list(samples) == list(range(0, 61, every))
    for update in list(samples)[:-1]:  # none of these has fifty updates before it
        assert samples[update]["moved_critic"] is None
    assert samples[60] == expected
    assert abs(expected["moved_critic"]) > 1e-4


# ------------------------------------------------------------------ in a cell's life


@pytest.fixture(scope="module")
def ran(data_home):
    """Two variants of a pair with all measures, and one without them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        rows = {variant: run(cell(variant, diagnose=ON)) for variant in ("before", "after")}
        return rows | {"off": run(cell("after"))}


OWN = ("q_error", "q_bias", "q_spearman", "q_slope", "q_tail")


def test_roll_outs_come_at_their_cadence_and_at_the_end(ran):
    """Evaluations 0, 5, 10, 12: every second one, not the untrained, and the last."""
    for row in ran["after"]["evaluations"]:
        assert (set(OWN) <= set(row)) == (row["update"] in (10, 12))
        assert 0 <= row["dormant"] <= 1
    assert all(not set(OWN) & set(row) for row in ran["off"]["evaluations"])
    assert ran["after"]["cells"][0]["oracle_state_r2"] is not None
    assert ran["off"]["cells"][0]["oracle_state_r2"] is None
    tails = {ran[v]["evaluations"][-1]["q_tail"] for v in ("before", "after")}
    assert len(tails) == 1


def test_measures_leave_training_and_evaluation_as_they_are(ran):
    on, off = ran["after"], ran["off"]
    assert on["cells"][0]["final_weights"] == off["cells"][0]["final_weights"]
    for one, other in zip(on["evaluations"], off["evaluations"], strict=True):
        shared = set(other) - {"key"}
        assert {name: one[name] for name in shared} == {name: other[name] for name in shared}
    assert [r | {"key": 0} for r in on["training"]] == [r | {"key": 0} for r in off["training"]]


def test_measures_are_the_same_when_run_again(ran):
    again = run(cell("after", diagnose=ON))
    for table in ("evaluations", "training", "features"):
        assert again[table] == ran["after"][table]


def test_features_stand_on_the_same_held_out_rows_for_all_variants(ran):
    before, after = ran["before"]["features"], ran["after"]["features"]
    assert [r["row"] for r in before] == [r["row"] for r in after]
    assert len({r["row"] for r in after}) == len(after) == 200
    assert {r["update"] for r in after} == {12}
    assert {len(r["values"]) for r in after} == {8}
    similar = linear_cka(*([r["values"] for r in rows] for rows in (before, after)))
    assert 0 < similar < 1


def test_where_the_simulator_cannot_be_put_back_nothing_is_made_up(monkeypatch):
    monkeypatch.setattr(Maze2dPixelEnv, "can_reset", False)
    rows = run(cell("frozen", diagnose=ON))
    assert all(not set(OWN) & set(row) for row in rows["evaluations"])


def test_states_have_own_returns_too_and_no_features():
    rows = run(cell("frozen", observation="state", env={"proprio": []}, diagnose=ON))
    assert np.isfinite(rows["evaluations"][-1]["q_error"])
    assert rows["features"] == []
    assert rows["cells"][0]["oracle_state_r2"] is None
    assert rows["training"][-1]["grad_q"] is None
