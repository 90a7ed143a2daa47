"""D4RL's MuJoCo bodies through a camera: the simulator is D4RL's, and a frame shows a state."""

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from helpers.simulators import needs_renderer

from benchbench.core.errors import UserError
from benchbench.envs import JOINTS, gl, mujoco, mujoco_camera, mujoco_draw
from benchbench.envs.mujoco import TASKS, MujocoPixelEnv
from benchbench.suite.environments import EPISODE_STEPS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BODIES = list(TASKS)
STEPS = {"hopper": 0.008, "halfcheetah": 0.05, "walker2d": 0.008, "ant": 0.05}
TOP_SPEEDS = {"hopper": 4.0, "halfcheetah": 14.0, "walker2d": 6.0, "ant": 7.0}


@pytest.fixture(params=BODIES)
def env(request):
    made = MujocoPixelEnv(f"{request.param}-medium-v2", 64)
    yield made
    made.close()


def actions(env, count, seed=0):
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count // 5 + 1, env.action_dim))
    return 0.5 * np.repeat(drawn, 5, axis=0)[:count]


def run(env, seed, count=40):
    env.reset(seed)
    told = [(env.state().tobytes(), env.frame().tobytes())]
    for action in actions(env, count):
        told.append((env.step(action), env.state().tobytes(), env.frame().tobytes()))
        if any(told[-1][0][1:]):
            break
    return told


def test_an_episode_depends_on_its_seed_only(env):
    first = run(env, 7)
    run(env, 1)
    env.set_state(*env.qpos_qvel(), None)
    assert run(env, 7) == first
    assert run(env, 8) != first
    fresh = MujocoPixelEnv(env.env_id, 64)
    assert run(fresh, 7) == first
    fresh.close()


def test_states_rewards_and_ends_are_gymnasiums(env):
    body = mujoco.body_of(env.env_id)
    with mujoco_camera.unlogged():
        plain = gymnasium.make(f"{TASKS[body]}-v4")
    assert plain.spec.max_episode_steps == env.max_episode_steps == EPISODE_STEPS
    for seed in (3, 4):
        env.reset(seed)
        assert np.array_equal(env.state(), plain.reset(seed=seed)[0].astype(np.float32))
        for action in actions(env, 120, seed):
            obs, reward, terminal, timeout, _ = plain.step(action)
            assert env.step(action) == (reward, terminal, timeout)
            assert env.data_reward() == reward
            assert np.array_equal(env.state(), obs.astype(np.float32))
            if terminal:
                break
    plain.close()


def test_a_stored_row_can_be_continued(env):
    starts, at = [], []
    env.reset(3)
    held = 0.2 * actions(env, 200, seed=5)  # the hopper stands for some 45 steps
    for action in held:
        starts.append(env.qpos_qvel())
        at.append(env.state())
        if env.step(action)[1]:
            break
    assert len(starts) > 25
    later, following = [], []
    for row in range(0, len(starts) - 21, 7):
        env.set_state(*starts[row], held[row - 1])
        assert np.array_equal(env.state(), at[row])
        for k in range(20):
            env.step(held[row + k])
            if k == 0:
                following.append(np.abs(env.qpos_qvel()[0] - starts[row + 1][0]).max())
        later.append(np.abs(env.qpos_qvel()[0] - starts[row + 20][0]).max())
    assert max(following) < 1e-6
    assert np.quantile(later, 0.8) < 1e-4


def test_a_continued_row_has_no_time_limit():
    env = MujocoPixelEnv("halfcheetah-medium-v2", 16)
    env.reset(0)
    still = np.zeros(6)
    cuts = [env.step(still)[1:] for _ in range(1000)]
    assert cuts[-1] == (False, True)
    assert not any(any(cut) for cut in cuts[:-1])
    env.set_state(*env.qpos_qvel(), still)
    assert env.step(still)[1:] == (False, False)
    env.close()


def test_action_repeat_sums_rewards_until_the_fall():
    single, repeated = (MujocoPixelEnv("hopper-expert-v2", 16, repeat) for repeat in (1, 4))
    assert (single.max_episode_steps, repeated.max_episode_steps) == (1000, 250)
    single.reset(5)
    repeated.reset(5)
    action, terminal = np.array([1.0, -1.0, 1.0]), False
    while not terminal:
        expected = 0.0
        for _ in range(4):
            reward, terminal, _ = single.step(action)
            expected += reward
            if terminal:
                break
        assert repeated.step(action) == (expected, terminal, False)
        assert np.array_equal(single.state(), repeated.state())
    single.close()
    repeated.close()


def test_scores_are_d4rls():
    """The reference returns of Fu et al. 2020 for the hopper: random -20.27, expert 3234.3."""
    env = MujocoPixelEnv("hopper-medium-v2", 16)
    assert env.normalized_score(-20.272305) == pytest.approx(0)
    assert env.normalized_score(3234.3) == pytest.approx(100)
    env.close()


def test_state_names_are_as_many_as_columns_and_proprio_names_part_of_them(env):
    env.reset(0)
    assert len(env.state_names) == len(set(env.state_names)) == len(env.state())
    qpos, qvel = env.qpos_qvel()
    body = mujoco.body_of(env.env_id)
    assert np.array_equal(mujoco.observation_of(body, qpos[None], qvel[None])[0], env.state())
    assert np.array_equal(env.proprio(("position", "velocity")), env.state())
    assert len(env.proprio(("velocity",))) == len(qvel)
    assert env.proprio((env.state_names[2],)) == env.state()[2]
    assert set(mujoco.proprio_groups(env.env_id)) == {"position", "velocity", *env.state_names}


@pytest.mark.parametrize("size", [64, 84])
@pytest.mark.parametrize("body", BODIES)
def test_every_limb_is_in_the_picture_in_its_own_colour(body, size):
    simulator = mujoco.make_simulator(body)
    simulator.reset(seed=0)
    posed = simulator.init_qpos.copy()
    posed[-len(JOINTS[body]) :] += np.random.default_rng(1).uniform(-0.4, 0.4, len(JOINTS[body]))
    simulator.close()
    frame = mujoco_camera.shared_camera(body, size).frame(posed).astype(float)
    assert frame.shape == (size, size, 3)
    length = np.linalg.norm(frame, axis=-1, keepdims=True)
    hues = frame / np.maximum(length, 1)
    for name, colour in mujoco_camera.LOOKS[body].colours.items():
        wanted = np.array(colour) / np.linalg.norm(colour)
        alike = (hues @ wanted > 0.985) & (length[..., 0] > 40)
        assert alike.sum() >= 8 * (size / 64) ** 2, name


def test_the_ant_stays_in_the_picture_whatever_it_does():
    """Upright, fallen over or at the top of a jump; D4RL ends its episodes above 1 metre."""
    camera, rng = mujoco_camera.shared_camera("ant", 64), np.random.default_rng(0)
    cut = 0
    for _ in range(200):
        turn = rng.normal(size=4)
        hips, ankles = rng.uniform(-0.6, 0.6, 4), rng.uniform(0.5, 1.7, 4) * [1, -1, -1, 1]
        joints = np.column_stack([hips, ankles]).reshape(-1)
        qpos = [0, 0, rng.uniform(0.3, 1.0), *(turn / np.linalg.norm(turn)), *joints]
        frame = camera.frame(np.array(qpos)).astype(int)
        edge = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
        cut += np.ptp(edge, axis=1).max() > 30  # the ground is grey
    assert cut < 10


@pytest.mark.parametrize("body", BODIES)
def test_the_grounds_motion_shows_and_nothing_of_the_way_covered(body):
    simulator = mujoco.make_simulator(body)
    still = simulator.init_qpos.copy()
    simulator.close()
    camera = mujoco_camera.shared_camera(body, 64)
    look = mujoco_camera.LOOKS[body]

    def at(x):
        return camera.frame(np.concatenate([[x], still[1:]])).astype(int)

    pixel = 2 * look.distance * np.tan(np.radians(look.view / 2)) / 64
    moved = np.abs(at(pixel / 2) - at(0.0)).max(axis=-1)
    assert (moved > 8).sum() > 40
    assert np.array_equal(at(0.0), at(40 * look.period))
    # A step is less than half the ground's repeat, so that it cannot be mistaken for one back.
    assert TOP_SPEEDS[body] * STEPS[body] < look.period / 2


def test_a_frame_is_the_same_from_every_camera_process_and_order(tmp_path):
    """Drawn live, drawn again after others, and drawn by one and by two spawned processes."""
    env = MujocoPixelEnv("walker2d-medium-v2", 32)
    env.reset(2)
    live, qpos = [], []
    for action in actions(env, 30):
        live.append(env.frame())
        qpos.append(env.qpos_qvel()[0])
        env.step(action)
    env.close()
    qpos = np.tile(qpos, (40, 1))  # 1,200 rows: three pieces
    told = {}
    for workers in (1, 2):
        path = tmp_path / f"{workers}.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (len(qpos), 32, 32, 3)).flush()
        told[workers] = []
        mujoco_draw.draw_frames(
            "walker2d", qpos, path, lambda *row, w=workers: told[w].append(row), workers=workers
        )
        assert np.array_equal(np.load(path), np.tile(live, (40, 1, 1, 1)))
    assert told[1] == told[2] == [(500, 1200), (1000, 1200), (1200, 1200)]


def test_drawing_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "frames.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (700, 16, 16, 3)).flush()
    qpos = np.zeros((700, 6))
    qpos[:, 1] = 1.25

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mujoco_draw.draw_frames("hopper", qpos, path, stop, workers=1)
    drawn = np.load(path)
    assert drawn[:500].any(axis=(1, 2, 3)).all()
    assert not drawn[500:].any()
    mujoco_draw.draw_frames("hopper", qpos, path, lambda *_: None, first=600, workers=1)
    drawn = np.load(path)
    assert not drawn[500:600].any()
    assert np.array_equal(drawn[600:], drawn[:100])


PROGRAM = """
import os
{before}
from benchbench.envs import d4rl
from benchbench.envs.mujoco_camera import shared_camera
import numpy as np
from benchbench.core.errors import UserError
try:
    if d4rl.is_installed():
        d4rl.load()  # imports mujoco and dm_control, before anybody asks for a picture
    print(shared_camera("hopper", 16).frame(np.array([0, 1.25, 0, 0, 0, 0])).mean() > 0)
except UserError as error:
    print(error)
"""


def drawn_by(before, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        env=clean | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert process.stderr == ""
    return process.stdout.strip()


@needs_renderer
def test_frames_are_drawn_whatever_was_imported_first():
    assert drawn_by("") == "True"


def test_a_renderer_that_does_not_work_is_one_sentence_with_its_cure():
    assert "apt-get install" in drawn_by("", MUJOCO_GL="osmesa") or gl.has_osmesa()
    nothing = "from benchbench.envs import gl; gl.has_egl = gl.has_osmesa = lambda: False"
    told = drawn_by(f"os.environ.pop('DISPLAY', None); {nothing}")
    assert told.startswith("MuJoCo cannot draw here: there is neither EGL nor OSMesa; install one")


def test_what_the_user_chose_stays(monkeypatch):
    monkeypatch.setattr(gl, "_library", lambda renderer: renderer)  # as if both were there
    for stated in ("osmesa", "egl", "glfw"):
        monkeypatch.setenv("MUJOCO_GL", stated)
        assert gl.choose() == stated == os.environ["MUJOCO_GL"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MuJoCo draws without either")
def test_a_renderer_that_is_none_is_refused_before_mujoco_is_imported(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "eagle")
    with pytest.raises(UserError, match="MUJOCO_GL=eagle: is no renderer; set it to egl, osmesa"):
        gl.choose()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MuJoCo draws without either")
def test_osmesa_stands_in_where_egl_is_not(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(gl, "has_egl", lambda: False)
    monkeypatch.setattr(gl, "has_osmesa", lambda: True)
    assert gl.choose() == "osmesa"
