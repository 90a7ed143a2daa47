"""Batches: stacks, returns and z-scores against numbers worked out by hand and d4rl's own."""

import re

import numpy as np
import pytest
import torch
from helpers.simulators import needs_bullet
from helpers.transitions import REWARDS, SMALL, dataset, sampler

from benchbench.data.returns import known, returns_to_go, rewards_left, why_unknown
from benchbench.data.sampler import Normalizer, n_step_returns, stack_rows
from benchbench.envs import d4rl

# Two episodes: rows 0 to 4, cut by a timeout; rows 5 to 8, ended for good; then a tail, 9 to 11.


@needs_bullet
def test_one_step_transitions_are_d4rls_own():
    data = dataset(np.random.default_rng(1).uniform(0, 1, 60), terminals=[25], timeouts=[9, 40])
    theirs = d4rl.qlearning_dataset(
        {
            "observations": data.states, "actions": data.actions, "rewards": data.rewards,
            "terminals": data.terminals, "timeouts": data.timeouts,
        }
    )  # fmt: skip
    ours = sampler(data, observation="state", discount=0.9)
    rows = ours.transitions(np.arange(60))
    batch = ours.batch(rows)
    z = ours.state_normalizer.normalize
    assert np.array_equal(batch.obs, z(theirs["observations"]))
    assert np.array_equal(batch.action_BA, ours.action_normalizer.normalize(theirs["actions"]))
    assert batch.reward_B.numpy() * ours.reward_scale == pytest.approx(theirs["rewards"])
    assert np.array_equal(batch.discount_B == 0, theirs["terminals"])
    # After a terminal D4RL names the next episode's first row; here the row itself is named.
    lives = ~theirs["terminals"]
    assert np.array_equal(batch.next_obs[lives], z(theirs["next_observations"])[lives])


def test_the_last_row_before_a_cut_is_no_transition():
    drawn = sampler(SMALL)
    assert drawn.train_rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert drawn.transitions(np.array([11, 3, 4, 8])).tolist() == [3, 8]
    for row in (4, 11):
        with pytest.raises(ValueError, match="no next observation"):
            drawn.batch(np.array([row]))


def test_three_step_returns_by_hand():
    """γ = ½, rewards divided by their largest, 10."""
    batch = sampler(SMALL, n_step=3).batch(np.array([0, 2, 3, 5, 6, 7, 8, 9]))
    expected = [
        (0, 1 + 2 / 2 + 3 / 4, 1 / 8, 3),
        (2, 3 + 4 / 2, 1 / 4, 4),  # a cut after two steps: row 4 has no transition, but a state
        (3, 4, 1 / 2, 4),
        (5, 6 + 7 / 2 + 8 / 4, 1 / 8, 8),
        (6, 7 + 8 / 2 + 10 / 4, 0, 8),  # the third step is the terminal one
        (7, 8 + 10 / 2, 0, 8),
        (8, 10, 0, 8),
        (9, 9 + 8 / 2, 1 / 4, 11),  # the data set ends
    ]
    for position, (row, total, discount, follows) in enumerate(expected):
        assert batch.reward_B[position] == pytest.approx(total / 10), row
        assert batch.discount_B[position] == discount, row
        assert batch.next_obs[position, -1, 0, 0] == follows, row


def test_returns_longer_than_any_episode_are_those_of_whole_episodes():
    """And are found at once: the loop is over steps."""
    flags = np.array([False, False, True])
    rewards = np.array([1.0, 2.0, 4.0])
    returns, discounts, _ = n_step_returns(rewards, flags, np.array([True] * 3), 2**62, 0.5)
    assert returns.tolist() == [1 + 1 + 1, 2 + 2, 4]
    assert discounts.tolist() == [0, 0, 0]


def test_stacks_do_not_reach_over_an_episodes_start():
    rows = stack_rows(SMALL.step_in_episode, stack=3, spacing=2)
    assert rows[[0, 1, 3, 4, 5, 6, 8, 9]].tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 3], [0, 2, 4], [5, 5, 5], [5, 5, 6], [5, 6, 8], [9, 9, 9],
    ]  # fmt: skip


def test_a_pixel_batch_holds_the_stack_oldest_first_and_channels_last():
    colourful = dataset(REWARDS, timeouts=[4])
    colourful.frames[...] = np.random.default_rng(0).integers(0, 255, colourful.frames.shape)
    batch = sampler(colourful, spacing=2).batch(np.array([3, 7]))
    assert batch.obs.shape == (2, 9, 8, 8)
    assert batch.obs.dtype == torch.uint8
    assert batch.obs.is_contiguous(memory_format=torch.channels_last)
    for position, rows in enumerate([(0, 1, 3), (5, 5, 7)]):
        for place, row in enumerate(rows):
            shown = batch.obs[position, 3 * place : 3 * place + 3].permute(1, 2, 0)
            assert np.array_equal(shown, colourful.frames[row])


def test_a_large_batch_is_stacked_as_its_rows_one_by_one():
    """A few at a time on a CPU; 37 are neither one part nor whole parts."""
    colourful = dataset(REWARDS, timeouts=[4])
    colourful.frames[...] = np.random.default_rng(0).integers(0, 255, colourful.frames.shape)
    draw = sampler(colourful, spacing=2)
    rows = np.random.default_rng(1).choice(draw.train_rows, 37)
    batch = draw.batch(rows)
    for position, row in enumerate(rows):
        alone = draw.batch(np.array([row]))
        assert torch.equal(batch.obs[position], alone.obs[0])
        assert torch.equal(batch.next_obs[position], alone.next_obs[0])


def test_proprio_is_the_named_columns_z_scored_and_may_be_none():
    drawn = sampler(SMALL)
    batch = drawn.batch(np.array([1, 2]))
    assert np.array_equal(
        batch.proprio_BP, drawn.proprio_normalizer.normalize(SMALL.states[[1, 2], 2:])
    )
    assert np.array_equal(batch.next_proprio_BP[0], batch.proprio_BP[1])
    bare = sampler(SMALL, proprio=()).sample()
    assert bare.proprio_BP.shape == bare.next_proprio_BP.shape == (8, 0)


def test_statistics_come_from_the_training_rows_only():
    rows = np.arange(5)
    drawn = sampler(SMALL, rows)
    assert drawn.reward_scale == 5
    assert (drawn.min_reward, drawn.max_reward) == (0.2, 1.0)
    assert drawn.state_normalizer.mean == pytest.approx(SMALL.states[:5].mean(axis=0))
    assert set(drawn.sample().obs[:, -1, 0, 0].tolist()) <= {0, 1, 2, 3}
    assert drawn.batch(np.array([5])).reward_B == pytest.approx(6 / 5)  # held out, same scale


def test_z_scores_by_hand_and_back():
    """LAPO's: (x - mean) / (std + 1e-6); a constant column stays finite."""
    z = Normalizer.of(np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32))
    scores = z.normalize(np.array([[4.0, 5.0]]))
    assert scores == pytest.approx(np.array([[2 / (1 + 1e-6), 0.0]]))
    assert scores.dtype == np.float32
    assert z.unnormalize(scores) == pytest.approx(np.array([[4.0, 5.0]]))


@pytest.mark.parametrize(
    ("rewards", "scale"),
    [([0, 0, 2, 4], 4), ([-3, -1, -2, -8], 8), ([-3, 0, -1, -2], 3), ([0, 0, 0, 0], 1)],
)
def test_rewards_are_divided_by_their_largest(rewards, scale):
    assert sampler(dataset(rewards)).reward_scale == scale


def test_the_random_stream_can_be_kept_and_continued():
    one, other = sampler(SMALL), sampler(SMALL)
    first = one.sample().reward_B
    assert torch.equal(first, other.sample().reward_B)
    kept = one.state()
    expected = [one.sample().reward_B for _ in range(3)]
    assert not all(torch.equal(first, e) for e in expected)
    one.restore(kept)
    assert all(torch.equal(one.sample().reward_B, e) for e in expected)
    assert not torch.equal(first, sampler(SMALL, seed=1).sample().reward_B)


def test_all_transitions_are_drawn_about_equally_often():
    drawn = sampler(SMALL, observation="pixels", batch_size=20_000).sample()
    counts = np.bincount(drawn.obs[:, -1, 0, 0].numpy(), minlength=12)
    assert counts[[4, 11]].tolist() == [0, 0]
    # Ten rows of 2,000 each; the standard deviation is 42.
    assert np.abs(counts[[0, 1, 2, 3, 5, 6, 7, 8, 9, 10]] - 2000).max() < 5 * 42


def test_returns_to_go_by_hand():
    returns = returns_to_go(SMALL, discount=0.5, scale=10.0)[[2, 4, 7, 10]]
    remaining = rewards_left(SMALL)[[2, 4, 7, 10]]
    assert returns == pytest.approx([(3 + 4 / 2 + 5 / 4) / 10, 0.5, (8 + 10 / 2) / 10, 1.15])
    assert remaining.tolist() == [3, 1, 2, 2]


def test_returns_of_one_continuous_run_go_on_behind_its_cuts():
    data = dataset([1, 2, 3, 4], timeouts=[1], continuous=True)
    returns, remaining = returns_to_go(data, discount=0.5, scale=1.0), rewards_left(data)
    assert returns == pytest.approx([1 + 1 + 3 / 4 + 4 / 8, 2 + 3 / 2 + 4 / 4, 3 + 2, 4])
    assert remaining.tolist() == [4, 3, 2, 1]


def test_a_return_is_known_where_its_missing_tail_weighs_a_twentieth_at_most_or_there_is_none():
    # Five rewards to the cut: 0.5 ** 5 < 0.05, 0.5 ** 4 is not. Rows 5 to 8 end for good.
    assert np.flatnonzero(known(SMALL, 0.5)).tolist() == [0, 5, 6, 7, 8]


def test_episodes_cut_too_early_are_told_with_the_discount_that_would_do():
    cut = dataset(np.ones(30), timeouts=[9, 19, 29])
    told = why_unknown("my-robot", cut, 0.9)
    assert "at agent.discount 0.9 it takes 29 steps, and the longest has 10" in told
    cure = float(re.search(r"about (0\.\d+)", told)[1])
    assert known(cut, cure).sum() == 3 * 6  # the first six of ten: 0.549 ** 5 < 0.05
    assert "take more data" in why_unknown("my-robot", SMALL, 0.5)


def test_the_mean_image_is_the_training_frames_mean():
    mean = sampler(SMALL, rows=np.array([0, 1, 2, 3]), stack=2).mean_image()
    assert mean.shape == (6, 8, 8)
    assert mean[:3].numpy() == pytest.approx((0 + 0 + 1 + 2) / 4 / 255)  # the frame before
    assert mean[3:].numpy() == pytest.approx((0 + 1 + 2 + 3) / 4 / 255)
