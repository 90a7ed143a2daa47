"""D4RL's PyBullet mazes, seen from above: ``bullet-maze2d-{open,umaze,medium,large}-v0``.

What the simulator does, as measured (d4rl 1.1, pybullet 3.2.7):

- An observation is late by one step. D4RL reads the ball's position from a cache that PyBullet
  refreshes at the *start* of a step, so the observation after an action shows where the ball was
  before it, and the action shows in the observation after the next. The velocity is the difference
  of two such positions over 0.0165 s: exactly the ball's velocity at the position shown.
- Hence a row's observation is the simulator's state only together with the action of the row
  before, and :meth:`MazePixelEnv.set_state` takes both.
- The environment pays a step for the observation after it; D4RL's data sets, relabelled, pay a row
  for its own observation. :meth:`MazePixelEnv.data_reward` is the second.
- After a reset the first velocity reads 0, while the ball moves at about 0.1·N(0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache, partial

import numpy as np

from benchbench.envs import MAZE_PROPRIO, d4rl
from benchbench.envs.d4rl import empty_world, quicken
from benchbench.envs.d4rl_reference import MAZE_STEPS, normalized_score

STATE_NAMES = ("x", "y", "vx", "vy")

GOAL_RADIUS = 0.5
"""Within it of the goal an observation is worth 1."""

_WALL = 10  # d4rl.pointmaze.maze_model.WALL
_POSITION_OFFSET = 1.0  # the simulator's position is the observation's plus one
_LINK_OFFSET = 1.2  # from the base of D4RL's particle to the ball, with both joints at 0


class MazePixelEnv:
    """One maze and its camera; see :class:`benchbench.envs.PixelEnv` for the public face.

    The reward is D4RL's sparse one: 1 for each simulator step that ends within ``GOAL_RADIUS`` of
    the goal. Episodes end by the time limit only, so ``terminal`` is always False.
    """

    action_dim = 2
    state_names: tuple[str, ...] = STATE_NAMES
    can_reset = True

    def __init__(self, env_id: str, size: int, action_repeat: int = 1) -> None:
        self.env_id = env_id
        self.size = size
        self.action_repeat = action_repeat
        self._limit = MAZE_STEPS[env_id.split("-")[2]]
        self.max_episode_steps = math.ceil(self._limit / action_repeat)
        self._env = d4rl.make_env(env_id).unwrapped
        quicken(self._env._p)
        self.maze_spec: str = self._env.str_maze_spec
        self.goal = np.array(self._env._target, dtype=np.float64)
        walls = np.asarray(self._env.maze_arr) == _WALL
        self._camera = shared_camera(
            tuple(map(tuple, walls.tolist())), tuple(self.goal.tolist()), size
        )
        self._state = np.zeros(4, dtype=np.float32)
        self._steps_left: float = self._limit
        self._data_reward = 0.0

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""
        self._env.seed(seed)
        self._state = self._env.reset().astype(np.float32)
        self._steps_left = self._limit

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action ``action_repeat`` times, or until the time limit.

        ``action`` (2,) is clipped to [-1, 1]. Returns the sum of the rewards, False (no state of a
        maze is terminal), and whether the time limit is reached.
        """
        reward, before = 0.0, self._reward_here()
        for _ in range(self.action_repeat):
            obs, step_reward, _, _ = self._env.step(np.asarray(action, dtype=np.float64))
            reward += float(step_reward)
            self._steps_left -= 1
            if self._steps_left <= 0:
                break
        self._state = obs.astype(np.float32)
        self._data_reward = before + reward - float(step_reward)
        return reward, False, self._steps_left <= 0

    def data_reward(self) -> float:
        """The last step's reward as a row of the data holds it: of the observations before it."""
        return self._data_reward

    def frame(self) -> np.ndarray:
        """The picture of :meth:`state`, (size, size, 3) uint8."""
        return self._camera.frame(self._state[:2])

    def state(self) -> np.ndarray:
        """D4RL's observation: x, y, vx, vy; (4,) float32."""
        return self._state.copy()

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """The parts of the state that ``names`` stand for, (P,) float32."""
        return self._state[[column for name in names for column in MAZE_PROPRIO[name]]]

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """D4RL's ``infos/qpos`` and ``infos/qvel`` of :meth:`state`, (2,) float32 each."""
        return self._state[:2] + np.float32(_POSITION_OFFSET), self._state[2:].copy()

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row, without a time limit.

        ``qpos`` and ``qvel`` are the row's, ``last_action`` the action of the row before (zeros at
        the first row of a run). Afterwards :meth:`state` is the row's, and the row's action leads
        to the next row's within 1e-5, and within 1e-4 after twenty steps, in 99 of 100 rows. What
        is not stored, and so not restored, are the drift of the particle's base and its contact
        with a wall: at the instant of a hit the velocity can be off by 0.06.
        """
        robot = self._env.robot
        base = [float(q) - _LINK_OFFSET for q in qpos] + [0.0]
        body = robot.particle.bodies[robot.particle.bodyIndex]
        self._env._p.resetBasePositionAndOrientation(body, base, [0, 0, 0, 1])
        self._env._p.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])
        for joint, velocity in zip((robot.ball_x, robot.ball_y), qvel, strict=True):
            joint.reset_position(0.0, float(velocity))
        self._env.step(np.asarray(last_action, dtype=np.float64))
        position = np.asarray(qpos, dtype=np.float64) - _POSITION_OFFSET
        self._state = np.concatenate([position, qvel]).astype(np.float32)
        self._steps_left = math.inf

    def draw_target(self) -> np.ndarray:
        """A random place, as D4RL draws targets, (2,) float64; the task's goal stays."""
        self._env.set_target()
        target = np.array(self._env.get_target(), dtype=np.float64)
        self._env.set_target(self.goal)
        return target

    def _reward_here(self) -> float:
        """D4RL's sparse reward of :meth:`state`."""
        return float(np.linalg.norm(self._state[:2] - self.goal) <= GOAL_RADIUS)

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return."""
        return normalized_score(self.env_id, return_)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()


Colour = tuple[int, int, int]
Point = Sequence[float] | np.ndarray
Matrix = tuple[float, ...]

FLOOR: Colour = (255, 255, 255)  # what the renderer leaves where nothing stands
WALL: Colour = (64, 72, 96)
GOAL: Colour = (64, 176, 96)
BALL: Colour = (224, 48, 32)

BALL_RADIUS = 0.3  # of a cell; the body's own 0.1 would be a third of a pixel
GOAL_HALF_WIDTH = 0.5  # the goal's reward reaches 0.5 from its centre
RIM = 0.4  # how much of the outer walls is in the picture, in cells
SUPERSAMPLING = 4  # so that motion of less than a pixel shows, as shades of the ball's edge

WINDOWS_KEPT = 256  # pictures of the maze without the ball, for its next visits

_HEIGHT = 100.0  # so far above that the perspective is flat
_DEPTHS = {"wall": 0.0, "goal": 0.02, "ball": 0.04}


class TopDownCamera:
    """Pictures of one maze from straight above, drawn by PyBullet's software renderer.

    It has worlds of its own with nothing in them but the picture's shapes, so that drawing cannot
    touch the physics. The walls, the floor and the goal never move: their picture is kept. A frame
    draws the ball alone, in the few pixels around it, and lays it over them: the renderer's time
    grows with the triangles in its world, whether they are in the picture or not.

    ``walls`` (W, H) bool has cell (i, j) centred on position (i, j). Rows of a frame go along x,
    columns along y, as the maze is written in D4RL. The frame is square and holds the whole inside
    of the maze; what lies beyond the maze's shorter side is drawn as wall.
    """

    def __init__(self, walls: np.ndarray, goal: Point, size: int) -> None:
        self.size = size
        inside = np.array(walls.shape) - 2 + 2 * RIM
        self._pixel = float(inside.max()) / size  # length of a pixel's side, in cells
        # Position of the top left.
        self._corner: list[float] = ((np.array(walls.shape) - 1 - inside.max()) / 2).tolist()
        self._maze, self._ball = _World(), _World()
        cells = _wall_cells(walls, self._pixel * size)
        self._maze.add(_squares(cells, 0.5), WALL, _DEPTHS["wall"])
        self._maze.add(_squares([goal], GOAL_HALF_WIDTH), GOAL, _DEPTHS["goal"])
        self._ball.add(_disc(BALL_RADIUS), BALL, _DEPTHS["ball"])
        # The ball's window: large enough for the ball wherever in a pixel its centre is.
        self._window = min(size, math.ceil(2 * BALL_RADIUS / self._pixel) + 2)
        # Where a wall's edge falls on a sample, its pixels depend on the window that is drawn.
        self._empty = lru_cache(WINDOWS_KEPT)(partial(self._draw, self._maze))
        self._look_at = lru_cache(WINDOWS_KEPT)(self._matrices)
        self._background = _coarse(self._draw(self._maze, 0, 0, size))

    def frame(self, position: Point) -> np.ndarray:
        """The maze with the ball at ``position`` (x, y); (size, size, 3) uint8."""
        frame = self._background.copy()
        count = self._window
        row, column = (
            self._first(float(at), corner)
            for at, corner in zip(position, self._corner, strict=True)
        )
        window = np.s_[row : row + count, column : column + count]
        frame[window] = _coarse(self._with_ball(position, row, column, count))
        return frame

    def whole_frame(self, position: Point) -> np.ndarray:
        """The same picture as :meth:`frame`, all of it searched for the ball; for checking it."""
        return _coarse(self._with_ball(position, 0, 0, self.size))

    def _with_ball(self, position: Point, row: int, column: int, count: int) -> np.ndarray:
        """``count`` × ``count`` pixels of the maze with the ball, the first (row, column); fine."""
        self._ball.move(position)
        ball = self._draw(self._ball, row, column, count)
        picture = self._empty(row, column, count).copy()
        picture[ball[..., 1] != FLOOR[1]] = BALL
        return picture

    def _first(self, at: float, corner: float) -> int:
        """The first row or column of the ball's window."""
        first = math.floor((at - corner) / self._pixel - self._window / 2 + 0.5)
        return min(max(first, 0), self.size - self._window)

    def _draw(self, world: _World, row: int, column: int, count: int) -> np.ndarray:
        """``count`` × ``count`` pixels of a world, the first (row, column), supersampled."""
        side = count * SUPERSAMPLING
        p, (view, projection) = world.client, self._look_at(row, column, count)
        image = p.getCameraImage(
            side,
            side,
            viewMatrix=view,
            projectionMatrix=projection,
            renderer=p.ER_TINY_RENDERER,
            flags=p.ER_NO_SEGMENTATION_MASK,
            shadow=0,
            lightDirection=[0, 0, 1],
            lightAmbientCoeff=1,
            lightDiffuseCoeff=0,
            lightSpecularCoeff=0,
        )[2]
        return np.asarray(image, dtype=np.uint8).reshape(side, side, 4)[..., :3]

    def _matrices(self, row: int, column: int, count: int) -> tuple[Matrix, Matrix]:
        """The renderer's view and projection of ``count`` × ``count`` pixels."""
        p = self._maze.client
        top, left = self._corner + np.array([row, column]) * self._pixel
        half = count * self._pixel / 2
        x, y = top + half, left + half
        # At 1 below the camera the frustum is 1/_HEIGHT of its width on the ground.
        near = half / _HEIGHT
        return (
            p.computeViewMatrix([x, y, _HEIGHT], [x, y, 0.0], [-1.0, 0.0, 0.0]),
            p.computeProjectionMatrix(-near, near, -near, near, 1.0, 2 * _HEIGHT),
        )


@cache
def shared_camera(
    walls: tuple[tuple[bool, ...], ...], goal: tuple[float, ...], size: int
) -> TopDownCamera:
    """The one camera of a process for all environments of a maze: worlds cost memory and caches."""
    return TopDownCamera(np.array(walls), goal, size)


class _World:
    """A renderer's world of flat bodies."""

    def __init__(self) -> None:
        self.client = empty_world()

    def add(self, mesh: tuple[list[list[float]], list[int]], colour: Colour, depth: float) -> None:
        """Add a body made of triangles, so high."""
        vertices, indices = mesh
        shape = self.client.createVisualShape(
            self.client.GEOM_MESH,
            vertices=vertices,
            indices=indices,
            normals=[[0, 0, 1]] * len(vertices),
            rgbaColor=[(value + 0.5) / 255 for value in colour] + [1],
            specularColor=[0, 0, 0],
        )
        body = self.client.createMultiBody(0, -1, shape, basePosition=[0, 0, depth])
        self._last, self._depth = int(body), depth

    def move(self, position: Point) -> None:
        """Put the last body there."""
        at = [float(position[0]), float(position[1]), self._depth]
        self.client.resetBasePositionAndOrientation(self._last, at, [0, 0, 0, 1])


def _coarse(fine: np.ndarray) -> np.ndarray:
    """The supersampled picture at its own size: each pixel the mean of its block."""
    count = len(fine) // SUPERSAMPLING
    rows = fine.reshape(count, SUPERSAMPLING, -1).sum(1, dtype=np.uint16)
    columns = rows.reshape(count, count, SUPERSAMPLING, 3)
    total = sum(columns[:, :, place] for place in range(SUPERSAMPLING))
    return (total // SUPERSAMPLING**2).astype(np.uint8)


def _wall_cells(walls: np.ndarray, extent: float) -> list[tuple[int, int]]:
    """The maze's wall cells, and all that a square picture of side ``extent`` shows around it."""
    margin = math.ceil((extent - min(walls.shape)) / 2 + 1)
    everywhere = np.pad(walls, max(margin, 0), constant_values=True)
    return [(int(i) - margin, int(j) - margin) for i, j in np.argwhere(everywhere)]


def _squares(centres: Sequence[Point], half: float) -> tuple[list[list[float]], list[int]]:
    vertices: list[list[float]] = []
    indices: list[int] = []
    for x, y in centres:
        k = len(vertices)
        corners = ((-half, -half), (half, -half), (half, half), (-half, half))
        vertices += [[float(x) + dx, float(y) + dy, 0.0] for dx, dy in corners]
        indices += [k, k + 1, k + 2, k, k + 2, k + 3]
    return vertices, indices


def _disc(radius: float, corners: int = 24) -> tuple[list[list[float]], list[int]]:
    turns = np.arange(corners) * (2 * math.pi / corners)
    rim = [[radius * math.cos(turn), radius * math.sin(turn), 0.0] for turn in turns]
    indices = [i for k in range(corners) for i in (0, 1 + k, 1 + (k + 1) % corners)]
    return [[0.0, 0.0, 0.0], *rim], indices
