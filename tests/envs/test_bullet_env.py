"""D4RL's PyBullet bodies through a camera: one seed is one episode, and a row can be continued."""

import numpy as np
import pytest
from helpers.simulators import needs_bullet

from benchbench.core.errors import UserError
from benchbench.envs import bullet_camera, d4rl, imaged_columns, make_pixel_env, proprio_columns
from benchbench.envs.bullet import BulletPixelEnv, state_names

pytestmark = needs_bullet

BODIES = ("hopper", "halfcheetah", "walker2d", "ant")


@pytest.fixture(scope="module", params=BODIES)
def env(request):
    made = BulletPixelEnv(f"bullet-{request.param}-v0", 32)
    yield made
    made.close()


def play(env, seed, count=60):
    """The shipped policy's states, stored rows, actions, rewards and ends, and the frames."""
    env.reset(seed)
    act = env.shipped_policy()
    told = []
    for _ in range(count):
        row = (env.state(), env.frame(), *env.qpos_qvel())
        action = np.clip(act(row[0]), -1, 1).astype(np.float32)
        told.append((*row, action, *env.step(action)))
        if any(told[-1][-2:]):
            break
    return told


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for row, again in zip(one, other, strict=True)
        for a, b in zip(row, again, strict=True)
    )


def test_an_episode_depends_on_its_seed_only(env):
    first = play(env, 7)
    play(env, 1, 200)
    env.set_state(first[5][2], first[5][3], first[4][4])
    env.step(np.ones(env.action_dim))
    assert same(play(env, 7), first)
    fresh = BulletPixelEnv(env.env_id, 32)
    assert same(play(fresh, 7), first)
    fresh.close()
    assert not same(play(env, 8), first)


def test_states_rewards_and_ends_are_those_of_d4rls_environment(env):
    plain = d4rl.make_env(env.env_id)
    assert len(env.state_names) == plain.observation_space.shape[0]
    plain.seed(4)
    obs = plain.reset()
    for state, _, _, _, action, reward, terminal, _ in play(env, 4):
        assert np.array_equal(state, obs.astype(np.float32))
        obs, paid, done, _ = plain.step(action.astype(np.float64))
        assert (reward, terminal) == (paid, done)
    plain.close()


def test_drawing_does_not_touch_the_simulator(env):
    drawn = play(env, 2)
    env.reset(2)
    for state, *_, action, _, _, _ in drawn:
        assert np.array_equal(env.state(), state)
        env.step(action)


def test_a_stored_row_can_be_continued(env):
    told = play(env, 3, 120)
    gaps = []
    for row in range(1, len(told) - 5, 7):
        env.set_state(told[row][2], told[row][3], told[row - 1][4])
        assert np.array_equal(env.state(), told[row][0])
        assert np.array_equal(env.frame(), told[row][1])
        for later in range(row, row + 5):
            paid, _, timeout = env.step(told[later][4])
            assert not timeout
            gaps.append([abs(paid - told[later][5]), np.abs(env.state() - told[later + 1][0]).max()]
                        if later + 1 < len(told) else [0, 0])  # fmt: skip
    assert np.median(gaps, axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert np.quantile(gaps, 0.9, axis=0) == pytest.approx([0, 0], abs=1e-3)


def test_an_episode_is_cut_at_1000_steps_and_a_continued_one_is_not(env):
    env.reset(0)
    env._steps_left = 1
    assert env.step(np.zeros(env.action_dim))[1:] == (False, True)
    env.set_state(*env.qpos_qvel(), None)
    assert not env.step(np.zeros(env.action_dim))[2]
    assert env.max_episode_steps == d4rl.make_env(env.env_id).spec.max_episode_steps == 1000


def test_a_fallen_hopper_is_terminal_and_stands_no_longer():
    env = BulletPixelEnv("bullet-hopper-v0", 16)
    env.reset(0)
    ends = []
    while not any(ends[-1:]):
        ends.append(env.step(np.ones(3))[1])
    assert len(ends) < 200
    env.close()


def test_action_repeat_sums_the_rewards():
    single = BulletPixelEnv("bullet-ant-v0", 16)
    double = BulletPixelEnv("bullet-ant-v0", 16, action_repeat=2)
    assert double.max_episode_steps == 500
    single.reset(1)
    double.reset(1)
    for action in np.random.default_rng(0).uniform(-1, 1, (10, 8)):
        paid = [single.step(action)[0] for _ in range(2)]
        assert double.step(action)[0] == sum(paid)
        assert np.array_equal(single.state(), double.state())
    single.close()
    double.close()


@pytest.mark.parametrize("body", BODIES)
def test_the_capsules_are_where_pybullet_has_the_body(body):
    camera = bullet_camera.BulletCamera(body, 32)
    random = np.random.default_rng(0)
    base = [0.3, -0.2, 1.0, *np.array([0.1, 0.2, 0.3, 0.9]) / np.sqrt(0.95)]
    pose = [*(base if camera.is_free else []), *random.uniform(-0.5, 0.5, len(camera.joints))]
    starts, ends = camera._capsules(np.array(pose))
    p = camera._client
    p.performCollisionDetection()
    # PyBullet's boxes hold the capsules, with a rim; those of one link share one.
    for link in set(camera._links):
        its = [k for k, other in enumerate(camera._links) if other == link]
        low, high = p.getAABB(camera._body, link)
        radii = camera._radii[its, None]
        lowest = (np.minimum(starts[its], ends[its]) - radii).min(axis=0)
        highest = (np.maximum(starts[its], ends[its]) + radii).max(axis=0)
        assert (lowest >= np.array(low) - 1e-3).all()
        assert (highest <= np.array(high) + 1e-3).all()
        if len(its) == 1:
            middle = (lowest + highest) / 2
            assert middle == pytest.approx((np.array(low) + high) / 2, abs=1e-3)


@pytest.mark.parametrize("size", [32, 84])
def test_each_limb_has_a_colour_that_shows(env, size):
    camera = bullet_camera.BulletCamera(env.env_id.split("-")[1], size)
    frames = [camera.frame(row[2][: len(env._positions())]) for row in play(env, 0, 30)[5::6]]
    for part, colour in camera._view.colours.items():
        if not part.endswith("_leg"):
            near = [np.abs(frame.astype(int) - colour).sum(axis=-1).min() for frame in frames]
            assert min(near) < 60, part


def test_one_camera_serves_all_environments_of_a_body_and_outlives_them(env):
    env.reset(0)
    alone = env.frame()
    other = make_pixel_env(env.env_id, env.size)
    assert other._camera is env._camera
    other.reset(1)
    assert not np.array_equal(other.frame(), alone)
    other.close()
    assert np.array_equal(env.frame(), alone)


def test_the_floor_goes_back_as_the_body_goes_on():
    camera = bullet_camera.BulletCamera("hopper", 64)
    pose = np.zeros(len(camera.joints))
    still = camera.frame(pose)
    pixel = camera._view.span / 64
    pose[0] = 4 * pixel
    moved = camera.frame(pose)
    assert np.array_equal(moved[:50], still[:50])  # the body stays in the middle
    assert np.array_equal(moved[-1, :-4], still[-1, 4:])
    pose[0] = 0.1 * pixel
    assert not np.array_equal(camera.frame(pose), still)


def test_names_and_groups_of_the_state():
    assert state_names("hopper") == (
        "z", "sin_target", "cos_target", "v_x", "v_y", "v_z", "roll", "pitch",
        "thigh", "w_thigh", "leg", "w_leg", "foot", "w_foot", "contact_foot",
    )  # fmt: skip
    hopper, names = "bullet-hopper-v0", state_names("hopper")
    assert proprio_columns(hopper, ("joints", "joint-velocity"), names) == (8, 10, 12, 9, 11, 13)
    assert proprio_columns(hopper, ("velocity",), names) == (3, 4, 5, 9, 11, 13)
    assert imaged_columns(hopper, ("velocity", "contacts"), names) == [0, 1, 2, 6, 7, 8, 10, 12]
    with pytest.raises(UserError, match=r"bullet-hopper-v0 has no 'speed'"):
        proprio_columns(hopper, ("speed",), names)


def test_scores_are_d4rls():
    env = make_pixel_env("bullet-ant-v0", 16)
    # d4rl.infos: 373.705955 is random and 2650.495 expert
    assert env.normalized_score(2650.495) == pytest.approx(100)
    assert env.normalized_score(373.705955) == pytest.approx(0)
    env.close()
