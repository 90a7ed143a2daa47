"""Probes, effective rank and errors of Q, against hand-made data and independent code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchbench.agent.protocol import Features
from benchbench.diagnostics.features import PENALTIES, effective_rank, moving, probe_r2
from benchbench.diagnostics.held_out import mean_r2, q_errors

RNG = np.random.default_rng


def data(seed=0, episodes=10, length=30, width=6):
    rng = RNG(seed)
    features = rng.normal(size=(episodes * length, width)) * [1, 10, 0.1, 1, 1, 1] + 5
    return features, np.repeat(np.arange(episodes), length), rng


def test_a_linear_target_is_read_and_noise_is_not():
    features, episodes, rng = data()
    weights = rng.normal(size=(6, 2)) / features.std(0)[:, None]
    targets = np.column_stack([features @ weights + 3, rng.normal(size=len(features))])
    new, _, _ = data(seed=1)
    truth = np.column_stack([new @ weights + 3, rng.normal(size=len(new))])
    r2 = probe_r2(features, targets, episodes, new, truth)
    assert r2.shape == (3,)
    assert (r2[:2] > 0.999).all()
    assert -0.2 < r2[2] < 0.02


def test_r2_is_what_it_should_be_under_known_noise():
    """Half of the variance is noise that no probe can know: R² is 1/2."""
    features, episodes, rng = data(episodes=40, length=50)
    signal = (features[:, 0] - 5) + (features[:, 3] - 5)
    noise = rng.normal(size=(2, len(signal))) * np.sqrt(2)
    new, _, _ = data(seed=1, episodes=40, length=50)
    truth = (new[:, 0] - 5) + (new[:, 3] - 5) + noise[1]
    r2 = probe_r2(features, (signal + noise[0])[:, None], episodes, new, truth[:, None])
    assert r2[0] == pytest.approx(0.5, abs=0.05)


def test_it_agrees_with_scikit_learns_own_search():
    features, episodes, rng = data(seed=3, length=12)  # ten episodes: folds of equal size
    targets = np.column_stack([features[:, :2] @ [0.5, 0.03], features[:, 4], features[:, 5]])
    targets += rng.normal(size=targets.shape) * [0.1, 1.0, 20.0]
    new, _, _ = data(seed=4, length=12)
    truth = np.column_stack([new[:, :2] @ [0.5, 0.03], new[:, 4], new[:, 5]])
    truth += rng.normal(size=truth.shape) * [0.1, 1.0, 20.0]
    found = probe_r2(features, targets, episodes, new, truth)
    chosen = set()
    for column in range(3):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": PENALTIES},
            cv=GroupKFold(5), scoring=make_scorer(mean_squared_error, greater_is_better=False),
        ).fit(features, targets[:, column], groups=episodes)  # fmt: skip
        chosen.add(search.best_params_["ridge__alpha"])
        predicted = search.predict(new)
        expected = (
            1
            - ((predicted - truth[:, column]) ** 2).sum()
            / ((truth[:, column] - truth[:, column].mean()) ** 2).sum()
        )
        assert found[column] == pytest.approx(expected, abs=1e-6)
    assert len(chosen) > 1  # each target has a penalty of its own


def test_what_only_tells_episodes_apart_is_not_rewarded():
    """Features that name the episode, and a target that is a constant of the episode.

    Within the episodes a probe would look perfect; on others it knows nothing, and a penalty that
    was chosen frame by frame would trust it.
    """
    rng = RNG(0)
    episodes = np.repeat(np.arange(20), 30)
    constant = rng.normal(size=30)
    codes = rng.normal(size=(30, 40))
    features = codes[episodes] + 0.01 * rng.normal(size=(600, 40))
    targets = (constant[episodes] + 0.1 * rng.normal(size=600))[:, None]
    new_episodes = np.repeat(np.arange(20, 30), 30)
    new = codes[new_episodes] + 0.01 * rng.normal(size=(300, 40))
    truth = constant[new_episodes][:, None]
    plain = make_pipeline(StandardScaler(), Ridge(min(PENALTIES)))
    within = plain.fit(features[::2], targets[::2]).score(features[1::2], targets[1::2])
    across = probe_r2(features, targets, episodes, new, truth)[0]
    assert within > 0.9
    assert across < 0.2

    # The penalty's choice sees whole episodes: it is the largest, as nothing carries over, and
    # the fit is the one that this penalty gives.
    plain = make_pipeline(StandardScaler(), Ridge(max(PENALTIES))).fit(features, targets[:, 0])
    residual = ((plain.predict(new) - truth[:, 0]) ** 2).sum()
    r2 = 1 - residual / ((truth - truth.mean()) ** 2).sum()
    assert across == pytest.approx(r2, abs=1e-6)


def test_constants_and_too_few_episodes():
    features, episodes, _ = data()
    targets = np.column_stack([np.ones(len(features)), features[:, 0]])
    r2 = probe_r2(features, targets, episodes, features, targets)
    assert np.isnan(r2[0])
    assert r2[1] > 0.99
    dead = np.zeros_like(features)  # a dead encoder tells nothing, and that is a number
    assert probe_r2(dead, targets[:, 1:], episodes, dead, targets[:, 1:])[0] == pytest.approx(0)
    with pytest.raises(ValueError, match="k-fold"):
        probe_r2(features, targets, np.zeros(len(features)), features, targets)


@pytest.mark.parametrize(
    ("singular", "rank"),
    [
        ([1, 1, 1, 1], 4),
        ([1, 0, 0, 0], 1),
        ([98, 1, 1, 0], 2),  # 98 % and 1 % are 99 %
        ([97, 1, 1, 1], 3),
        ([99, 1, 0, 0], 1),
        ([60, 30, 9.5, 0.5], 3),
        ([0, 0, 0, 0], 0),
    ],
)
def test_effective_rank_by_hand(singular, rank):
    """The smallest k with the k largest singular values at 99 % of the sum of all (δ = 0.01)."""
    left, _ = np.linalg.qr(RNG(0).normal(size=(20, 4)))
    right, _ = np.linalg.qr(RNG(1).normal(size=(4, 4)))
    features = left @ np.diag(np.array(singular, dtype=float)) @ right
    assert effective_rank(features) == rank
    assert effective_rank(7 * features) == rank


class StubAgent:
    """Q1, Q2 and V stand in an observation's three numbers; each Q grows with the action."""

    def features(self, obs, proprio):
        return Features(obs, obs, obs)

    def q(self, feature, action):
        return feature[:, 0] + action[:, 0], feature[:, 1] + action[:, 0]

    def bootstrap(self, next_features):
        return next_features.critic[:, 2]


def stub_batch(q1, q2, next_v, action, reward, discount):
    count = len(q1)
    obs, next_obs = torch.zeros(count, 3), torch.zeros(count, 3)
    obs[:, 0], obs[:, 1], next_obs[:, 2] = (torch.tensor(x) for x in (q1, q2, next_v))
    return SimpleNamespace(
        obs=obs, proprio_BP=obs[:, :0], next_obs=next_obs, next_proprio_BP=obs[:, :0],
        action_BA=torch.tensor(action)[:, None], reward_B=torch.tensor(reward),
        discount_B=torch.tensor(discount),
    )  # fmt: skip


def test_errors_of_q_by_hand():
    batch = stub_batch(
        q1=[1.0, 2.0, 0.0], q2=[2.0, 1.0, 4.0], next_v=[2.0, 4.0, 9.0],
        action=[0.0, 1.0, 0.0], reward=[0.0, 1.0, 1.0], discount=[0.5, 0.5, 0.0],
    )  # fmt: skip
    returns = np.array([0.0, 2.0, 4.0])
    sigma = np.sqrt(8 / 3)
    found = q_errors(StubAgent(), batch, returns)
    # Q1 = 1, 3, 0; Q2 = 2, 2, 4; targets 1, 3, 1; min Q = 1, 2, 0; minus returns 1, 0, -4.
    assert found["td_error"] == pytest.approx(np.sqrt((0 + 0 + 1 + 1 + 1 + 9) / 6) / sigma)
    assert found["q_behaviour_error"] == pytest.approx(np.sqrt((1 + 0 + 16) / 3) / sigma)
    assert found["q_behaviour_bias"] == pytest.approx(-1 / sigma)
    assert found["q_behaviour_spearman"] == pytest.approx(-0.5)  # ranks 2, 3, 1 and 1, 2, 3
    assert stats.spearmanr([1, 2, 0], returns).statistic == pytest.approx(-0.5)


def test_errors_have_no_unit_where_nothing_varies():
    same = stub_batch([1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.9, 0.9])
    assert set(q_errors(StubAgent(), same, np.array([2.0, 2.0])).values()) == {None}
    flat = q_errors(StubAgent(), same, np.array([0.0, 2.0]))
    assert flat["q_behaviour_spearman"] is None
    assert flat["q_behaviour_bias"] == 0


def test_columns_that_stand_still_within_episodes_are_not_probed():
    episodes = np.repeat([0, 1, 2], 4)
    states = np.column_stack([episodes, np.arange(12), np.full(12, 3.0)])
    assert moving([0, 1, 2], states, episodes) == [1]
    assert moving([0, 1], states[::4], episodes[::4]) == [0, 1]  # no episode has two rows


def test_a_hopeless_probe_is_not_averaged():
    assert mean_r2(np.array([0.5, -44.0, np.nan, -0.5])) == 0.0
    assert mean_r2(np.array([-44.0])) is None
