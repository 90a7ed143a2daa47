"""The maze through a camera: one seed is one episode, and a frame shows what matters."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.simulators import needs_bullet

from benchbench.core.errors import UserError
from benchbench.envs import bullet_maze, d4rl, imaged_columns, make_pixel_env, proprio_columns
from benchbench.envs.d4rl_reference import normalized_score

pytestmark = needs_bullet

UMAZE = "bullet-maze2d-umaze-v0"
STATE = ("x", "y", "vx", "vy")
MAZES = [f"bullet-maze2d-{name}-v0" for name in ("open", "umaze", "medium", "large")]


@pytest.fixture
def umaze():
    env = make_pixel_env(UMAZE, 32)
    yield env
    env.close()


def actions(count, seed=0):
    """Actions held for ten steps each, so that the ball gets somewhere and meets walls."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count // 10 + 1, 2))
    return np.repeat(drawn, 10, axis=0)[:count]


def run(env, seed, count=120):
    env.reset(seed)
    states, frames, rewards = [env.state()], [env.frame()], []
    for action in actions(count):
        rewards.append(env.step(action))
        states.append(env.state())
        frames.append(env.frame())
    return np.array(states), np.array(frames), rewards


def test_an_episode_depends_on_its_seed_only(umaze):
    first = run(umaze, 7)
    run(umaze, 1, 300)
    umaze.set_state([2.0, 2.0], [1.0, 0.0], [0.5, 0.5])
    again = run(umaze, 7)
    fresh = make_pixel_env(UMAZE, 32)
    elsewhere = run(fresh, 7)
    fresh.close()
    for other in (again, elsewhere):
        assert np.array_equal(first[0], other[0])
        assert np.array_equal(first[1], other[1])
        assert first[2] == other[2]
    assert not np.array_equal(first[0], run(umaze, 8)[0])


def test_the_states_and_rewards_are_those_of_d4rls_environment(umaze):
    plain = d4rl.make_env(UMAZE).unwrapped
    for seed in (3, 4):
        plain.seed(seed)
        umaze.reset(seed)
        assert np.array_equal(umaze.state(), plain.reset().astype(np.float32))
        for action in actions(100, seed):
            obs, reward, _, _ = plain.step(action)
            assert umaze.step(action)[0] == reward
            assert np.array_equal(umaze.state(), obs.astype(np.float32))
    plain.close()


def pixels_of(frame, colour):
    return int((frame == np.array(colour, dtype=np.uint8)).all(axis=-1).sum())


@pytest.mark.parametrize("size", [32, 84])
@pytest.mark.parametrize("env_id", MAZES)
def test_floor_walls_goal_and_ball_can_be_told_apart(env_id, size):
    env = make_pixel_env(env_id, size)
    env.reset(1)  # a start away from the goal
    frame = env.frame()
    env.close()
    assert frame.shape == (size, size, 3)
    assert frame.dtype == np.uint8
    for colour, least in (
        (bullet_maze.FLOOR, size**2 // 8),
        (bullet_maze.WALL, size**2 // 8),
        (bullet_maze.GOAL, 4),
    ):
        assert pixels_of(frame, colour) >= least, colour
    red, green, blue = np.moveaxis(frame.astype(int), -1, 0)
    # In the large maze at 32 pixels the ball is 1.8 pixels wide: shades of red, none of it pure.
    assert (red - np.maximum(green, blue) > 60).sum() >= 3


def test_rows_of_the_frame_go_along_x_and_columns_along_y():
    # The U maze, as D4RL writes it: '#####', '#GOO#', '###O#', '#OOO#', '#####'
    walls = np.array(
        [[c == "#" for c in row] for row in ("#####", "#GOO#", "###O#", "#OOO#", "#####")]
    )
    view = bullet_maze.TopDownCamera(
        walls, (1, 1), 38
    )  # 10 pixels a cell, 0.4 cells of rim: 4 pixels
    frame = view.frame((3.0, 2.0))

    def cell(x, y):
        return tuple(frame[4 + 10 * (x - 1) + 5, 4 + 10 * (y - 1) + 5])

    assert cell(1, 1) == bullet_maze.GOAL
    assert cell(1, 2) == cell(2, 3) == cell(3, 1) == bullet_maze.FLOOR
    assert cell(2, 1) == cell(2, 2) == bullet_maze.WALL
    assert cell(3, 2) == bullet_maze.BALL
    assert tuple(frame[0, 0]) == tuple(frame[37, 20]) == bullet_maze.WALL


def test_drawing_only_the_balls_window_gives_the_whole_picture():
    walls = np.ones((9, 12), bool)
    walls[1:8, 1:11] = False
    view = bullet_maze.TopDownCamera(walls, (4, 4), 48)
    for x, y in np.random.default_rng(0).uniform((0.6, 0.6), (7.4, 10.4), (40, 2)):
        difference = np.abs(view.frame((x, y)).astype(int) - view.whole_frame((x, y)))
        # The renderer may round a sample on the ball's rim the other way: a sixteenth of a pixel.
        assert difference.max() <= 2 * 256 / bullet_maze.SUPERSAMPLING**2
        assert (difference.max(axis=-1) > 0).sum() <= 8


def test_motion_of_a_tenth_of_a_pixel_shows():
    walls = np.ones((5, 5), bool)
    walls[1:4, 1:4] = False
    view = bullet_maze.TopDownCamera(walls, (1, 1), 32)
    step = 0.1 * 3.8 / 32
    pictures = [view.frame((2 + k * step, 3.0)) for k in range(11)]
    assert len({picture.tobytes() for picture in pictures}) >= 4


def test_one_camera_serves_all_environments_of_a_maze_and_outlives_them(umaze):
    alone = run(umaze, 7)[1]
    other, larger = make_pixel_env(UMAZE, 32), make_pixel_env(UMAZE, 48)
    assert other._camera is umaze._camera is not larger._camera
    umaze.reset(7)
    other.reset(8)
    taken = zip(actions(120), actions(120, seed=1), strict=True)
    side_by_side = [umaze.frame()]
    for action, another in taken:
        umaze.step(action)
        other.step(another)
        other.frame()
        side_by_side.append(umaze.frame())
    assert np.array_equal(side_by_side, alone)
    other.close()
    assert np.array_equal(umaze.frame(), alone[-1])


def test_a_cameras_world_is_ended_before_python_takes_itself_apart():
    """Else BulletClient's own ending, which needs a module that is gone by then, complains."""
    code = """
import atexit
kept = []
atexit.register(lambda: print(kept[0]._client))  # the first to be registered is the last to run
from benchbench.envs.d4rl import empty_world
kept.append(empty_world())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "-1"
    assert "Exception" not in ended.stderr


def test_a_closed_environment_ends_its_world():
    import pybullet

    env = make_pixel_env(UMAZE, 32)
    world = env._env._p
    client = world._client
    assert world.stepSimulation is world.stepSimulation  # bound once, unlike BulletClient's own
    assert pybullet.isConnected(client)
    env.close()
    assert not pybullet.isConnected(client)


def test_a_stored_row_can_be_continued(umaze):
    umaze.reset(3)
    held = actions(300, seed=5)
    states, stored = [], []
    for action in held:
        states.append(umaze.state())
        stored.append(umaze.qpos_qvel())
        umaze.step(action)
    errors, later = [], []
    for row in range(1, 270, 3):
        umaze.set_state(*stored[row], held[row - 1])
        assert umaze.state() == pytest.approx(states[row], abs=1e-6)
        for k in range(20):
            umaze.step(held[row + k])
            if k == 0:
                errors.append(np.abs(umaze.state() - states[row + 1]).max())
        later.append(np.abs(umaze.state() - states[row + 20]).max())
    assert np.quantile(errors, 0.9) < 1e-5
    assert np.quantile(later, 0.9) < 1e-4
    assert max(errors) < 0.1


def test_the_observation_is_one_step_late(umaze):
    """As maze.py says of the physics: an action shows in the observation after the next."""
    ends = []
    for second in ([1.0, 0.0], [-1.0, 0.0]):
        umaze.reset(0)
        umaze.step([0.0, 0.0])
        umaze.step(second)
        late = umaze.state()
        umaze.step([0.0, 0.0])
        ends.append((late, umaze.state()))
    assert np.array_equal(ends[0][0], ends[1][0])
    assert ends[0][1][0] > ends[1][1][0]


def test_action_repeat_sums_rewards_and_stops_at_the_limit():
    single, repeated = make_pixel_env(MAZES[0], 16), make_pixel_env(MAZES[0], 16, action_repeat=4)
    single.reset(5)
    repeated.reset(5)
    assert (single.max_episode_steps, repeated.max_episode_steps) == (150, 38)  # 37 · 4 + 2 = 150
    total = 0.0
    for step, action in enumerate(actions(38)):
        rewards = [single.step(action) for _ in range(4 if step < 37 else 2)]
        reward, terminal, timeout = repeated.step(action)
        total += reward
        assert reward == sum(r for r, _, _ in rewards)
        assert np.array_equal(single.state(), repeated.state())
        assert (terminal, timeout) == (False, step == 37)
        assert rewards[-1][2] == timeout
    assert repeated.normalized_score(total) == normalized_score(MAZES[0], total)
    single.close()
    repeated.close()


def test_an_unknown_proprio_is_refused_by_name(umaze):
    assert proprio_columns(UMAZE, ("velocity", "position"), STATE) == (2, 3, 0, 1)
    assert np.array_equal(umaze.proprio(("velocity",)), umaze.state()[2:])
    with pytest.raises(UserError, match=r"'speed'; choose one of position, velocity"):
        proprio_columns(UMAZE, ("speed",), STATE)


def test_state_probes_leave_out_what_stands_beside_the_image():
    env = "bullet-maze2d-open-v0"
    assert imaged_columns(env, (), STATE) == [0, 1, 2, 3]
    assert imaged_columns(env, ("velocity",), STATE) == [0, 1]
    assert imaged_columns(env, ("velocity", "position"), STATE) == []
