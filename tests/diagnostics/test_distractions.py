"""What is measured of distractions: probe, filtering, and the second evaluation of a cell."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.suites import TIMES, TINY

from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.data.batch import Batch
from benchbench.data.store import open_dataset
from benchbench.diagnostics import reference_encoder as oracle
from benchbench.diagnostics.held_out import HeldOut, Rows, filtering
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

SEEN = {"tint": {"strength": 0.5}}


def cell(variant="after", distract=None, unseen=None, oracle_updates=0):
    told = copy.deepcopy(TINY) | {"variants": [variant]}
    told["pixels"] |= {"distract": distract}
    told["evaluate"] |= {"distract": unseen, "every": 12}
    told["diagnose"] |= {"q_pairs": 4, "q_horizon": 5, "oracle_updates": oracle_updates}
    return expand(Suite.model_validate(told))[0]


def test_filtering_by_hand():
    features, twins = np.array([[1.0], [2.0]]), np.array([[-1.0], [2.0]])
    near = (2**2 + 0) / 2
    far = (2**2 + 1**2 + 3**2 + 0) / 4  # of all four pairs
    assert filtering(features, twins) == pytest.approx(near / far)
    states = np.random.default_rng(0).normal(size=(4000, 3))
    noise = np.random.default_rng(1).normal(size=(2, 4000, 3))
    assert filtering(states, states) == 0
    assert filtering(states + noise[0], states + noise[1]) == pytest.approx(1 / 2, abs=0.03)
    assert filtering(noise[0], noise[1]) == pytest.approx(1, abs=0.03)
    assert filtering(7 * noise[0] + 3, 7 * noise[1] + 3) == pytest.approx(1, abs=0.03)
    assert filtering(np.ones((5, 2)), np.ones((5, 2))) is None


class _Reader:
    """An agent whose features are what its "pictures" hold."""

    class Encoder(torch.nn.Linear):
        def forward(self, obs):
            return obs.flatten(1).float()

    def __init__(self):
        self.encoder = self.Encoder(1, 1)

    def probed(self):
        return self.encoder

    def features(self, obs, proprio_BP):
        flat = obs.flatten(1).float()
        return type("F", (), {"critic": flat, "vae": flat, "actor": flat})

    def q(self, features, action_BA):
        return features[:, 0], features[:, 0]

    def bootstrap(self, features):
        return features.critic[:, 0]


def rows(seed, count=300):
    """Pictures that hold the state and the distraction side by side, and nothing of the action."""
    rng = np.random.default_rng(seed)
    state, distraction = rng.normal(size=(2, count, 2))
    obs = torch.from_numpy(np.concatenate([state, distraction], 1)).view(count, 4, 1, 1)
    nothing, zeros = torch.zeros(count, 0), torch.zeros(count)
    action = torch.from_numpy(rng.normal(size=(count, 2)))
    batch = Batch(obs, nothing, action, zeros, zeros, obs, nothing)
    return Rows(batch, state, state[:, 0], np.arange(count) // 30, np.zeros(count), distraction)


def test_the_probe_for_distractions_reads_them_and_the_others_stay_what_they_are():
    fit, score = rows(0), rows(1)
    swapped = torch.roll(score.batch.obs, 2, dims=1)  # a state where the distraction was
    unseen = replace(score.batch, obs=swapped)
    told = HeldOut(fit, score, twin=score.batch.obs, unseen=unseen).measure(_Reader())
    assert told["state_r2"] > 0.99
    assert told["distract_r2"] > 0.99
    assert told["return_r2"] > 0.99
    assert told["action_r2"] < 0.1
    assert told["filtering"] == 0
    for name in ("unseen_state_r2", "unseen_return_r2"):
        assert told[name] is None or told[name] < 0  # none: far below -1
    assert told["unseen_q_behaviour_error"] > 1
    assert "unseen_distract_r2" not in told
    plain = HeldOut(*(Rows(r.batch, r.states, r.returns, r.episodes, r.times, np.empty((300, 0)))
                      for r in (fit, score))).measure(_Reader())  # fmt: skip
    assert "distract_r2" not in plain
    assert {plain[name] == told[name] for name in plain} == {True}


@pytest.fixture(scope="module")
def ran(data_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        run = lambda one: run_cell(one, Device("cpu"), lambda done: None)  # noqa: E731
        return {
            "seen": run(cell("after", SEEN)),
            "both": run(cell("after", SEEN, {"tint": {"strength": 1}})),
        }


def test_a_second_evaluation_adds_columns_and_changes_no_other(ran, tiny_data):
    seen, both = ran["seen"], ran["both"]
    added = {name for name in both["evaluations"][-1] if name.startswith("unseen_")}
    assert added == {
        "unseen_score", "unseen_returns", "unseen_state_r2", "unseen_return_r2",
        "unseen_action_r2", "unseen_q_error", "unseen_q_behaviour_error",
    }  # fmt: skip
    for one, other in zip(seen["evaluations"], both["evaluations"], strict=True):
        assert {k: other[k] for k in one if k != "key"} == {
            k: v for k, v in one.items() if k != "key"
        }
    weights = [rows["cells"][0]["final_weights"] for rows in (seen, both)]
    assert weights[0] == weights[1]
    last = both["evaluations"][-1]
    assert last["unseen_state_r2"] != last["state_r2"]
    assert last["unseen_q_error"] is not None
    assert 0 < last["filtering"] < 2
    assert last["distract_r2"] is not None


def test_it_is_the_same_again_and_pictures_matter(ran, tiny_data):
    again = run_cell(cell("after", SEEN), Device("cpu"), lambda done: None)
    for table in ("evaluations", "training", "features"):
        assert again[table] == ran["seen"][table]
    one, other = again["cells"][0], ran["seen"]["cells"][0]
    assert {k: v for k, v in one.items() if k not in TIMES} == {
        k: v for k, v in other.items() if k not in TIMES
    }
    clean = run_cell(cell("after"), Device("cpu"), lambda done: None)
    assert clean["cells"][0]["initial_weights"] == one["initial_weights"]
    assert clean["cells"][0]["final_weights"] != one["final_weights"]
    assert "distract_r2" not in clean["evaluations"][-1]


def test_a_rating_is_of_the_distractions_and_kept(tiny_data):
    plain, tinted = cell(oracle_updates=3), cell(distract=SEEN, oracle_updates=3)
    assert oracle.stored_rating(tinted) is None
    dataset = open_dataset(tinted.data)
    rating = oracle.rate(tinted, dataset, torch.device("cpu"))
    assert rating == oracle.stored_rating(tinted)
    known = rating.trained is not None and rating.untrained is not None  # not far below -1
    assert np.isnan(rating.room) if not known else rating.room == rating.trained - rating.untrained
    assert oracle.stored_rating(plain) is None
    least = -1.0 if rating.untrained is None else rating.untrained
    assert oracle.rate(plain, dataset, torch.device("cpu")).untrained > least
    assert np.isnan(oracle.Rating(None, 0.5).room)
