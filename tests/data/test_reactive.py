"""The reactive recipe: the same bytes for the same identity, and parts that are what they say."""

import json

import h5py
import numpy as np
import pytest
from helpers.made_sets import columns_of, hashes
from helpers.simulators import needs_bullet
from pydantic import ValidationError

from benchbench.data.sources.reactive import make as make_set
from benchbench.data.store import open_dataset, prepare
from benchbench.envs.bullet import BulletPixelEnv
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import ReactiveData, data_for

pytestmark = needs_bullet

HOPPER = "bullet-hopper-v0"
MIX = {"random": 0.2, "expert": 0.5, "noisy-1.0": 0.3}
COUNT = 3001


def identity(seed=0, env=HOPPER, action_repeat=1, **settings):
    source = ReactiveData(**{"transitions": COUNT, "seed": seed, "mix": MIX} | settings)
    return DataIdentity.of(env, source, 16, action_repeat)


def make(folder, **settings):
    folder.mkdir()
    make_set(identity(**settings), folder, lambda done, total: None)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "set")


@pytest.fixture(scope="module")
def columns(made):
    return columns_of(made)


@pytest.fixture(scope="module")
def card(made):
    return json.loads((made / "card.json").read_text())


def test_the_same_identity_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    reordered = dict(sorted(MIX.items()))
    assert identity(mix=reordered).key == identity().key
    assert identity(mix=reordered) == identity()
    assert hash(identity(mix=reordered)) == hash(identity())
    assert hashes(make(tmp_path / "again", mix=reordered)) == hashes(made)
    assert identity(seed=1).key != identity().key
    assert not set(hashes(make(tmp_path / "other", seed=1)).values()) & set(hashes(made).values())


def test_rows_replayed_give_the_columns_and_the_frames(made, columns):
    frames = np.load(made / "frames.npy", mmap_mode="r")
    env = BulletPixelEnv(HOPPER, 16)
    ends = columns["terminals"] | columns["timeouts"]
    for first in (0, 1 + int(ends.argmax())):
        env.set_state(columns["infos/qpos"][first], columns["infos/qvel"][first], None)
        for row in range(first, first + 5):
            assert np.array_equal(env.frame(), frames[row])
            assert np.array_equal(env.state(), columns["observations"][row])
            paid, terminal, _ = env.step(columns["actions"][row])
            assert paid == pytest.approx(columns["rewards"][row], abs=1e-5)
            assert terminal == columns["terminals"][row]
    env.close()


def test_episodes_are_whole_but_the_last_and_shares_are_met_within_one(columns):
    part = columns["infos/part"]  # by name: expert, noisy, random
    ends = columns["terminals"] | columns["timeouts"]
    assert ends[-1]
    assert (columns["terminals"] & columns["timeouts"]).sum() == 0
    lasts = np.flatnonzero(ends)
    assert all(ends[row] for row in np.flatnonzero(np.diff(part)))  # a part's episodes are its own
    lengths = np.diff([-1, *lasts])
    cut = columns["timeouts"][lasts]
    assert (lengths[:-1][cut[:-1]] == 1000).all()
    assert np.abs(np.bincount(part) / COUNT - (0.5, 0.3, 0.2)).max() <= 1000 / COUNT
    assert np.abs(columns["actions"]).max() == 1.0


def test_the_card_says_what_each_part_is(columns, card):
    ends = columns["terminals"] | columns["timeouts"]
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])
    returns = np.add.reduceat(columns["rewards"].astype(float), starts)
    parts = {told["policy"]: told for told in card["parts"]}
    assert list(parts) == ["expert", "noisy-1.0", "random"]
    for index, (name, told) in enumerate(parts.items()):
        its = returns[:-1][columns["infos/part"][starts][:-1] == index]
        assert told["share"] == MIX[name]
        assert told["transitions"] == (columns["infos/part"] == index).sum()
        assert told["mean_return"] == pytest.approx(its.mean())
        # d4rl.infos: 20.058972 is random and 1441.806 expert
        expected = 100 * (its.mean() - 20.058972) / (1441.8059623430963 - 20.058972)
        assert told["normalized_score_mean"] == pytest.approx(expected)
    assert sum(told["episodes"] for told in parts.values()) == card["episodes"]
    assert parts["expert"]["normalized_score_mean"] > 150
    assert parts["random"]["normalized_score_mean"] == pytest.approx(0, abs=3)
    assert {"d4rl", "pybullet", "numpy"} <= set(card["versions"])


def test_with_an_action_repeat_a_row_holds_its_action_for_so_many_steps(tmp_path):
    folder = make(tmp_path / "set", mix={"random": 1.0}, action_repeat=2, transitions=1000)
    assert json.loads((folder / "card.json").read_text())["episode_steps"] == 500
    with h5py.File(folder / "transitions.hdf5") as file:
        data = {name: file[name][:] for name in ("observations", "actions", "rewards")}
        start = file["infos/qpos"][0], file["infos/qvel"][0], None
    env = BulletPixelEnv(HOPPER, 16, action_repeat=2)
    env.set_state(*start)
    for row in range(5):
        assert np.array_equal(env.state(), data["observations"][row])
        assert env.step(data["actions"][row])[0] == pytest.approx(data["rewards"][row], abs=1e-5)
    env.close()


def test_a_prepared_set_opens_with_all_that_a_row_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    wanted = identity(env="bullet-ant-v0", mix={"random": 1.0}, transitions=1000)
    prepare(wanted, lambda done, total: None)
    dataset = open_dataset(wanted)
    env = BulletPixelEnv("bullet-ant-v0", 16)
    env.set_state(dataset.qpos[7], dataset.qvel[7], dataset.actions[6])
    env.step(dataset.actions[7])
    assert env.state() == pytest.approx(dataset.states[8], abs=1e-6)
    env.close()


@pytest.mark.parametrize("body", ["halfcheetah", "walker2d"])
def test_a_shipped_policy_that_does_not_walk_is_never_called_expert(body):
    env = f"bullet-{body}-v0"
    for part in ("expert", "noisy-0.3"):
        with pytest.raises(ValueError, match=rf"{env} has no '{part}', because .* write shipped"):
            data_for(env, ReactiveData(mix={part: 1.0}))
    assert data_for(env, None).mix == {"shipped": 1.0}
    assert data_for(HOPPER, None).mix == {"expert": 1.0}
    with pytest.raises(ValueError, match="called expert"):
        data_for(HOPPER, ReactiveData(mix={"shipped": 1.0}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mix": {"expert": 0.5}}, "add up to 0.5"),
        ({"mix": {"medium": 1.0}}, "should match pattern"),
        ({"mix": {"expert": 0.5, "random": 0.5}, "transitions": 1999}, "2 parts need 2000"),
    ],
)
def test_a_mix_that_cannot_be_made_is_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        ReactiveData(**settings)
