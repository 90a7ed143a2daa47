"""Roll-outs from stored rows, against plain loops and sums by hand."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.diagnosed import ON
from helpers.suites import tiny_cell as cell

from benchbench.cell.devices import Device
from benchbench.cell.train import CellRun
from benchbench.data.sampler import stack_rows
from benchbench.data.store import open_dataset, prepare
from benchbench.diagnostics.evaluation import starts
from benchbench.diagnostics.held_out import least_q, own_return_errors
from benchbench.envs import make_pixel_env
from benchbench.envs.evaluate import RollOuts, Start
from benchbench.envs.pool import Pool

pytestmark = pytest.mark.usefixtures("tiny_data")


# ------------------------------------------------------------------ roll-outs


def replay(dataset, rows):
    """A policy that takes the data's own actions, and notes what it was shown."""
    seen = []

    def policy(frames, states, proprio):
        seen.append((frames, states))
        return dataset.actions[rows + len(seen)]

    return policy, seen


def roll_outs(one, dataset, rows, horizon, discount):
    make = partial(make_pixel_env, one.env, one.pixels.size, one.action_repeat)
    return RollOuts(
        Pool(make, len(rows), proprio=one.proprio), starts(one, dataset, rows), horizon=horizon,
        discount=discount, stack=one.pixels.stack, spacing=one.pixels.spacing,
    )  # fmt: skip


@pytest.mark.parametrize("action_repeat", [1, 3])
def test_the_rewards_of_a_replayed_row_are_the_datas_own_to_the_step(action_repeat):
    """The data's actions, taken again in the simulator, collect the data's discounted rewards."""
    one = cell(env={"action_repeat": action_repeat}, pixels={"stack": 2, "spacing": 3})
    prepare(one.data, lambda done, total: None)
    dataset = open_dataset(one.data)
    horizon, discount = 40, 0.97
    rewards = dataset.rewards.astype(np.float64)
    paid = np.convolve(rewards, np.ones(horizon))[horizon - 1 :][: len(dataset)]
    varied = np.flatnonzero((paid > 2) & (paid < 0.8 * horizon * action_repeat))
    rows = np.random.default_rng(0).choice(varied[varied < len(dataset) - horizon], 12)
    rows[0] = 0  # it has no row before it
    policy, seen = replay(dataset, rows)
    returns, missing = roll_outs(one, dataset, rows, horizon, discount).returns(policy)
    expected = np.array(
        [sum(discount**k * rewards[row + k] for k in range(horizon)) for row in rows]
    )
    assert np.ptp(expected) > 1
    # A hit of a wall is not restored to the bit; one reward in hundreds may fall the other way.
    assert (np.abs(returns - expected) < 1e-6).mean() > 0.9
    shifted = np.array(
        [sum(discount**k * rewards[row + 1 + k] for k in range(horizon)) for row in rows]
    )
    assert np.abs(returns - shifted).max() > 0.1  # one step later would be another quantity
    assert (missing == discount**horizon).all()

    # What the policy is shown first is what the sampler shows of the next row.
    frames, states = seen[0]
    table = stack_rows(dataset.step_in_episode, 2, 3)
    for index, row in enumerate(rows):
        if dataset.timeouts[row]:
            continue
        older, newest = dataset.frames[table[row + 1]]
        assert states[index] == pytest.approx(dataset.states[row + 1], abs=0.1)
        if action_repeat == 1 and table[row + 1][0] <= row:
            assert np.array_equal(frames[index][..., :3], older)
        assert np.abs(frames[index][..., 3:].astype(int) - newest).mean() < 2


def plain_return(run_, row, horizon):
    """One roll-out, one environment, nothing shared with the code under test but the simulator."""
    dataset, one = run_.dataset, run_.cell
    env = make_pixel_env(one.env, one.pixels.size)
    last = dataset.actions[row - 1] if row else np.zeros(2)
    env.set_state(dataset.qpos[row], dataset.qvel[row], last)
    first = row - dataset.step_in_episode[row]
    frames, action, total = list(dataset.frames[first : row + 1]), dataset.actions[row], 0.0
    for step in range(horizon):
        near = np.linalg.norm(env.state()[:2] - env.goal) <= 0.5
        total += one.agent.discount**step * near
        env.step(action)
        frames.append(env.frame())
        stacked = np.concatenate([frames[max(0, len(frames) - 2)], frames[-1]], axis=2)
        action = run_.policy(stacked[None], env.state()[None], env.state()[None, 2:])[0]
    env.close()
    return total


def test_own_returns_are_those_of_a_plain_loop_with_one_environment():
    run_ = CellRun(
        cell(seed=1, diagnose=ON | {"q_pairs": 20}, evaluate={"episodes": 3}),
        Device("cpu"),
        on_update=lambda updates: None,
        checkpoints=None,
        on_alive=lambda: None,
    )
    for _ in range(5):
        run_.agent.update(run_.sampler.sample())
    measures = run_.measures
    assert set(measures.q_rows).isdisjoint(run_.sampler.train_rows)
    expected = np.array([plain_return(run_, row, 30) for row in measures.q_rows])
    assert np.ptp(expected) > 0
    found = measures.own_return_errors(run_.agent)
    q = least_q(run_.agent, run_.sampler.batch(measures.q_rows))
    sigma = measures.held_out.score.returns.std()
    assert found["q_error"] == pytest.approx(np.sqrt(((q - expected) ** 2).mean()) / sigma)
    assert found["q_bias"] == pytest.approx((q - expected).mean() / sigma)
    assert found["q_tail"] == pytest.approx(0.9**30 * 1 / (1 - 0.9) / sigma)
    run_.evaluator.close()


class Countdown:
    """Pays 1, 2, 3, … and ends for good after ``length`` steps."""

    can_reset = True

    def set_state(self, qpos, qvel, last_action):
        self.length, self.now, self.taken = int(qpos[0]), 0, [last_action]

    def step(self, action):
        self.now += 1
        self.taken.append(action)
        assert self.now <= self.length
        return -1.0, self.now == self.length, self.now == 2

    def data_reward(self):
        return float(self.now)

    def state(self):
        return np.array([self.now])

    def proprio(self, names):
        return np.zeros(0)


def test_a_terminal_ends_a_roll_out_and_a_timeout_does_not():
    def start(length):
        return Start(np.array([length]), np.zeros(1), "before", "first", np.empty(0), 0, 0)

    envs = [Countdown(), Countdown()]
    played = RollOuts(
        Pool(iter(envs).__next__, 2, pixels=False), [start(3), start(99), start(1)], horizon=4,
        discount=0.5, stack=1, spacing=1,
    )  # fmt: skip
    returns, missing = played.returns(lambda frames, states, proprio: ["own"] * len(states))
    assert list(returns) == [1 + 1 + 0.75, 1 + 1 + 0.75 + 0.5, 1]
    assert list(missing) == [0, 0.0625, 0]
    assert envs[1].taken == ["before", "first", "own", "own", "own"]
    with pytest.raises(ValueError, match="put back"):
        RollOuts(
            Pool(lambda: SimpleNamespace(can_reset=False), 1), [], horizon=1, discount=0.5, stack=1,
            spacing=1,
        )  # fmt: skip


def test_errors_against_own_returns_by_hand():
    q, returns = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 7.0])
    found = own_return_errors(q, returns, np.array([0.0, 3.0, 4.0]), sigma=2.0)
    assert found["q_error"] == pytest.approx(np.sqrt((0 + 4 + 16) / 3) / 2)
    assert found["q_bias"] == pytest.approx(-2 / 2)
    assert found["q_spearman"] == pytest.approx(1)
    assert found["q_slope"] == pytest.approx(3)
    assert found["q_tail"] == pytest.approx(np.sqrt(25 / 3) / 2)
    assert set(own_return_errors(q, returns, q, 0.0).values()) == {None}
    flat = own_return_errors(np.ones(3), returns, q, 1.0)
    assert (flat["q_slope"], flat["q_spearman"]) == (None, None)
    assert own_return_errors(q, np.ones(3), q, 1.0)["q_spearman"] is None
