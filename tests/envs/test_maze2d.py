"""D4RL's Maze2D in MuJoCo: D4RL's model, rules and controller, on today's package alone."""

import io
import math

import numpy as np
import pytest
from helpers.simulators import needs_bullet

from benchbench.data.sources.maze2d import WaypointController
from benchbench.envs import d4rl, make_pixel_env, maze2d, proprio_columns

IDS = [
    f"maze2d-{maze}{kind}-{version}"
    for maze, version in (("open", "v0"), ("umaze", "v1"), ("medium", "v1"), ("large", "v1"))
    for kind in ("", "-dense")
]
MAZES = list(maze2d.LAYOUTS)


def make(env_id="maze2d-umaze-v1", size=32, action_repeat=1):
    return make_pixel_env(env_id, size, action_repeat)


def held_actions(count, seed=0):
    """Actions held for ten steps each, so that the ball gets somewhere and meets walls."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count // 10 + 1, 2))
    return np.repeat(drawn, 10, axis=0)[:count]


def d4rl_spec(maze):
    d4rl.load()
    from d4rl.pointmaze import maze_model

    names = {"open": "OPEN", "umaze": "U_MAZE", "medium": "MEDIUM_MAZE", "large": "LARGE_MAZE"}
    return getattr(maze_model, names[maze])


def d4rl_model(maze):
    import mujoco

    spec = d4rl_spec(maze)
    from d4rl.pointmaze import maze_model

    text = io.StringIO()
    maze_model.point_maze(spec).root.write(text)
    return mujoco.MjModel.from_xml_string(text.getvalue())


LOOKS = ("mat_", "tex_", "site_", "name_", "names", "nnames", "nbuffer", "nmat", "ntex", "nsite",
         "signature", "geom_matid", "geom_rgba", "nname")  # fmt: skip
"""What our model leaves out: materials, textures, sites, and where names lie in memory."""


@needs_bullet
@pytest.mark.parametrize("maze", MAZES)
def test_the_model_is_d4rls_but_for_its_looks(maze):
    import mujoco

    assert "\\".join(maze2d.LAYOUTS[maze]) == d4rl_spec(maze)
    theirs, ours = d4rl_model(maze), mujoco.MjModel.from_xml_string(maze2d.model_xml(maze))
    compared = 0
    for name in dir(theirs):
        value = getattr(theirs, name)
        if name.startswith(("_", *LOOKS)) or not isinstance(value, (np.ndarray, int, float)):
            continue
        assert np.array_equal(value, getattr(ours, name)), name
        compared += 1
    assert compared > 200
    for name in ("timestep", "iterations", "integrator", "cone", "solver", "tolerance"):
        assert getattr(theirs.opt, name) == getattr(ours.opt, name)
    assert np.array_equal(theirs.opt.gravity, ours.opt.gravity)


@needs_bullet
@pytest.mark.parametrize("maze", MAZES)
def test_a_run_is_d4rls_to_the_bit(maze):
    """D4RL's ``step`` by hand on D4RL's model: clip, set_state with its forward pass, one step."""
    import mujoco

    model = d4rl_model(maze)
    data = mujoco.MjData(model)
    env = make(next(i for i in IDS if f"-{maze}-" in i))
    env.reset(0)
    env.set_state(*env.qpos_qvel(), np.zeros(2))
    data.qpos[:], data.qvel[:] = env.qpos_qvel()
    for action in held_actions(1500):
        data.qvel[:] = np.clip(data.qvel, -5.0, 5.0)
        mujoco.mj_forward(model, data)
        data.ctrl[:] = action
        mujoco.mj_step(model, data)
        env.step(action)
        assert np.array_equal(env.state(), np.concatenate([data.qpos, data.qvel]).astype("f4"))


@needs_bullet
@pytest.mark.parametrize("maze", MAZES)
def test_the_controller_acts_as_d4rls(maze, monkeypatch):
    spec = d4rl_spec(maze)
    from d4rl.pointmaze.waypoint_controller import WaypointController as Theirs

    # Their grid draws a move of probability 1 at random; left out, both draw the same jitter.
    monkeypatch.setattr(np.random, "choice", lambda moves, p: list(moves)[int(np.argmax(p))])
    np.random.seed(5)
    theirs = Theirs(spec)
    ours = WaypointController(maze2d.wall_cells(maze), np.random.RandomState(5))
    env, random = make(next(i for i in IDS if f"-{maze}-" in i)), np.random.default_rng(1)
    env.reset(1)
    env.set_state(*env.qpos_qvel(), np.zeros(2))
    target, reached = env.draw_target(random), 0
    for step in range(4000):
        state = env.state().astype(np.float64)
        expected, there = theirs.get_action(state[:2], state[2:], target)
        action, is_there = ours.get_action(state[:2], state[2:], target)
        assert np.array_equal(action, expected)
        assert is_there == there
        env.step(np.clip(action + 0.5 * random.standard_normal(2), -1, 1))
        if there or step % 300 == 299:
            target, reached = env.draw_target(random), reached + there
    assert reached > 5


@pytest.mark.parametrize("env_id", IDS)
def test_each_maze_plays_and_pays_as_its_id_says(env_id):
    env = make(env_id, 16)
    env.reset(3)
    steps, ended = 0, False
    while not ended:
        before = env.state()
        reward, terminal, ended = env.step(np.array([0.3, -0.2]))
        distance = [np.linalg.norm(s[:2] - env.goal) for s in (env.state(), before)]
        paid = [math.exp(-d) if "dense" in env_id else float(d <= 0.5) for d in distance]
        assert reward == pytest.approx(paid[0], abs=1e-5)
        assert env.data_reward() == pytest.approx(paid[1], abs=1e-5)
        assert not terminal
        steps += 1
    assert steps == env.max_episode_steps == maze2d.MAZE_STEPS[maze2d.maze_of(env_id)]


def test_an_episode_depends_on_its_seed_only():
    def run(env, seed):
        env.reset(seed)
        found = [(env.state().tobytes(), env.frame().tobytes())]
        for action in held_actions(60):
            env.step(action)
            found.append((env.state().tobytes(), env.frame().tobytes()))
        return found

    env = make()
    first = run(env, 7)
    run(env, 1)
    env.set_state(np.array([2.0, 3.0]), np.array([1.0, 0.0]), np.zeros(2))
    assert run(env, 7) == first == run(make(), 7)
    assert run(env, 8) != first


def test_starts_are_spread_over_all_free_cells_as_in_d4rl():
    env = make("maze2d-open-v0")
    starts = np.array([(env.reset(seed), env.state())[1] for seed in range(400)])
    cells = np.round(starts[:, :2])
    assert np.abs(starts[:, :2] - cells).max() <= 0.1
    assert {tuple(cell) for cell in cells} == {(x, y) for x in (1, 2, 3) for y in range(1, 6)}
    assert starts[:, 2:].std() == pytest.approx(0.1, rel=0.1)


def test_the_ball_stays_clear_of_the_walls_that_are_painted():
    """Seen from qpos, walls are 0.2 nearer than their indices say; the picture shows them so."""
    env = make("maze2d-umaze-v1")
    env.reset(0)
    env.set_state(*env.qpos_qvel(), np.zeros(2))
    walls = np.argwhere(maze2d.wall_cells("umaze")) + maze2d.CELL_SHIFT
    nearest = np.inf
    for action in held_actions(3000, seed=2):
        env.step(action)
        gap = np.maximum(np.abs(env.state()[:2] - walls) - 0.5, 0.0)
        nearest = min(nearest, np.hypot(*gap.T).min())
    assert 0.05 < nearest < 0.11  # touched, at the ball's radius of 0.1


def test_speed_is_clipped_before_a_step():
    env = make("maze2d-open-v0")
    env.reset(0)
    slow, fast = ([2.0, 2.0], [5.0, 0.0]), ([2.0, 2.0], [50.0, 0.0])
    found = []
    for qpos, qvel in (slow, fast):
        env.set_state(np.array(qpos), np.array(qvel), np.zeros(2))
        env.step(np.zeros(2))
        found.append(env.state())
    assert np.array_equal(*found)


def test_a_stored_row_can_be_continued():
    env = make("maze2d-medium-v1")
    env.reset(3)
    env.set_state(*env.qpos_qvel(), np.zeros(2))
    actions, states, stored = held_actions(300, seed=5), [], []
    for action in actions:
        states.append(env.state())
        stored.append(env.qpos_qvel())
        env.step(action)
    states.append(env.state())
    for row in range(0, 280, 20):
        env.set_state(*stored[row], np.zeros(2))
        assert np.array_equal(env.state(), states[row])
        for ahead in range(20):
            _, _, timeout = env.step(actions[row + ahead])
            assert not timeout
            bound = 1e-5 if ahead == 0 else 1e-4
            assert np.abs(env.state() - states[row + ahead + 1]).max() < bound


def test_an_action_repeat_sums_the_rewards_and_stops_at_the_limit():
    one, two = make("maze2d-open-v0"), make("maze2d-open-v0", action_repeat=4)
    one.reset(5)
    two.reset(5)
    assert two.max_episode_steps == 38  # of 150 steps, the last two of the last four are cut
    ended = False
    while not ended:
        action = np.array([0.1, -0.1])
        paid = data = 0.0
        for _ in range(4):
            reward, _, cut = one.step(action)
            paid, data = paid + reward, data + one.data_reward()
            if cut:
                break
        reward, _, ended = two.step(action)
        assert (reward, two.data_reward(), ended) == (paid, data, cut)
        assert np.array_equal(one.state(), two.state())


def test_actions_outside_the_range_are_clipped():
    env, found = make("maze2d-open-v0"), []
    for scale in (1.0, 7.0):
        env.reset(0)
        env.step(np.array([scale, -scale]))
        found.append(env.state())
    assert np.array_equal(*found)


def test_the_proprio_columns_are_the_mazes():
    env = make()
    env.reset(0)
    columns = proprio_columns("maze2d-umaze-v1", ("velocity", "position"), env.state_names)
    assert columns == (2, 3, 0, 1)
    assert np.array_equal(env.proprio(("velocity", "position")), env.state()[[2, 3, 0, 1]])


def test_scores_are_d4rls():
    # d4rl.infos: random 0.01, expert 20.66 on the open maze
    env = make("maze2d-open-v0")
    assert env.normalized_score(0.01) == 0.0
    assert env.normalized_score(20.66) == 100.0
    assert env.normalized_score(120.0) == pytest.approx(581.06, abs=0.01)


@needs_bullet
def test_the_table_of_references_is_d4rls():
    from benchbench.envs import d4rl_reference as table
    from benchbench.suite.environments import KNOWN_ENVS

    d4rl.load()
    import d4rl as package
    from d4rl import infos

    checked = 0
    for env_id in KNOWN_ENVS:
        ours = env_id
        if env_id.startswith("bullet-") and "maze" not in env_id:
            ours, env_id = env_id.removesuffix("-v0"), env_id.replace("-v0", "-medium-v0")
        if env_id not in infos.REF_MIN_SCORE:
            assert env_id.startswith("vd4rl:")
            continue
        for return_ in (-3.0, 17.5, 1234.5):
            expected = package.get_normalized_score(env_id, return_) * 100.0
            assert table.normalized_score(ours, return_) == expected
        if not env_id.startswith("bullet-"):
            assert table.dataset_url(env_id) == infos.DATASET_URLS[env_id]
        checked += 1
    assert checked == 8 + 8 + 20
    for maze, steps in table.MAZE_STEPS.items():
        assert d4rl.make_env(f"bullet-maze2d-{maze}-v0").spec.max_episode_steps == steps
