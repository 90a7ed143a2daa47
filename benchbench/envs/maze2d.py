"""D4RL's Maze2D in MuJoCo, painted from above: ``maze2d-{open-v0,umaze-v1,medium-v1,large-v1}``.

Also with ``-dense`` before the version. The rules are those of ``d4rl/pointmaze/maze_model.py`` of
https://github.com/Farama-Foundation/D4RL; the model file is our own, with the same physics, and
needs neither d4rl nor ``mujoco_py``. What they amount to:

- An observation is (qpos, qvel). A ball at qpos (x, y) stands at (x + 1.2, y + 1.2) in the world,
  and the wall of cell (i, j) around (i + 1, j + 1). Seen from qpos, the cells are therefore centred
  0.2 below their indices, and the picture shows them there.
- Before each step the velocity is clipped to ±5; a step lasts 0.01 s.
- The environment pays a step for the observation after it; D4RL's data sets, relabelled, pay a row
  for its own observation. :meth:`Maze2dPixelEnv.data_reward` is the second.
- There is no terminal state; an episode is cut at ``MAZE_STEPS``.

Positions and velocities are the whole state except the accelerations that MuJoCo's solver starts
from; D4RL computes them once more before each step, which changes a step by less than 1e-9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from benchbench.envs import MAZE_PROPRIO, gl
from benchbench.envs.d4rl_reference import MAZE_STEPS, normalized_score

Colour = tuple[int, int, int]
Point = Sequence[float] | np.ndarray

FLOOR: Colour = (255, 255, 255)
WALL: Colour = (64, 72, 96)
GOAL: Colour = (64, 176, 96)
BALL: Colour = (224, 48, 32)

BALL_RADIUS = 0.3
"""In cells. D4RL's ball has a radius of 0.1, which would be a third of a pixel."""
GOAL_HALF_WIDTH = 0.5
"""In cells; the sparse reward reaches this far from the goal."""
RIM = 0.4
"""How much of the outer walls is in the picture, in cells."""

_SAMPLED = 3.0
"""A disc whose radius is fewer samples than this is sampled more finely than its pixels."""


class MazePainter:
    """Pictures of one maze, (size, size, 3) uint8; rows of a picture go along x, columns along y.

    ``walls`` (W, H) bool says which cells are walls; cell (i, j) is the unit square around
    ``(i + shift, j + shift)``. ``goal`` is the goal's centre. The picture is square and holds the
    whole inside of the maze; what lies beyond the maze's shorter side is painted as wall.

    It is painted in numpy, with anti-aliased edges, so that a motion of a fraction of a pixel shows
    and neither OpenGL nor a display is needed. Walls and goal never move: they are painted once. A
    frame copies that picture and blends the ball into the few pixels around it.
    """

    def __init__(self, walls: np.ndarray, goal: Point, size: int, shift: float = 0.0) -> None:
        self.size = size
        inside = float(max(walls.shape)) - 2 + 2 * RIM
        self._pixel = inside / size  # the side of a pixel, in cells
        first = [(n - 1 - inside) / 2 + shift for n in walls.shape]
        self._first = (first[0], first[1])  # the position of the picture's first corner
        picture = np.full((size, size, 3), FLOOR, np.float64)
        self._blend(picture, self._square(goal, GOAL_HALF_WIDTH), GOAL)
        self._blend(picture, self._wall_cover(walls, shift), WALL)
        self._still, self._to_ball = picture, np.array(BALL, np.float64) - picture
        self._background = _rounded(picture)
        samples = math.ceil(_SAMPLED * self._pixel / BALL_RADIUS)
        self._samples = samples
        self._window = min(size, math.ceil(2 * BALL_RADIUS / self._pixel) + 2)
        self._offsets = (np.arange(self._window * samples) + 0.5) * (self._pixel / samples)

    def frame(self, position: Point) -> np.ndarray:
        """The maze with the ball at ``position`` (x, y)."""
        frame = self._background.copy()
        x, y = float(position[0]), float(position[1])
        row, column = self._start(x, self._first[0]), self._start(y, self._first[1])
        dx = self._offsets + (self._first[0] + row * self._pixel - x)
        dy = self._offsets + (self._first[1] + column * self._pixel - y)
        distance = np.sqrt((dx * dx)[:, None] + dy * dy)
        # A straight edge at this distance from a sample's centre covers so much of the sample.
        scale = self._samples / self._pixel
        # np.clip and np.mean take longer to call than such small arrays take to compute.
        cover = np.minimum(np.maximum((BALL_RADIUS - distance) * scale + 0.5, 0.0), 1.0)
        if self._samples > 1:
            count = self._window
            parts = cover.reshape(count, self._samples, count, self._samples)
            cover = np.add.reduce(parts, axis=(1, 3)) / self._samples**2
        window = np.s_[row : row + self._window, column : column + self._window]
        ball = cover[:, :, None] * self._to_ball[window]
        frame[window] = _rounded(self._still[window] + ball)
        return frame

    def _start(self, at: float, first: float) -> int:
        """The first row or column of the ball's window."""
        start = math.floor((at - first) / self._pixel - self._window / 2 + 0.5)
        return min(max(start, 0), self.size - self._window)

    def _square(self, centre: Point, half: float) -> np.ndarray:
        """How much of each pixel a square covers, (size, size) in [0, 1]; exact."""
        rows, columns = (
            self._span(float(at) - half, float(at) + half, first)
            for at, first in zip(centre, self._first, strict=True)
        )
        return rows[:, None] * columns

    def _span(self, low: float, high: float, first: float) -> np.ndarray:
        """How much of each row (or column) lies between two positions, (size,) in [0, 1]."""
        edges = np.arange(self.size + 1) * self._pixel + first
        inside = np.clip(edges, low, high)
        return np.diff(inside) / self._pixel

    def _wall_cover(self, walls: np.ndarray, shift: float) -> np.ndarray:
        """How much of each pixel is wall, (size, size) in [0, 1]: all that is no free cell."""
        free = np.zeros((self.size, self.size))
        for i, j in np.argwhere(~walls):  # cells share no point, so their covers add up
            free += self._square((i + shift, j + shift), 0.5)
        return np.clip(1.0 - free, 0.0, 1.0)

    @staticmethod
    def _blend(picture: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
        picture += cover[:, :, None] * (np.array(colour, np.float64) - picture)


@cache
def shared_painter(
    walls: tuple[tuple[bool, ...], ...], goal: tuple[float, ...], size: int, shift: float
) -> MazePainter:
    """The one painter of a process for all environments of a maze."""
    return MazePainter(np.array(walls), goal, size, shift)


def _rounded(picture: np.ndarray) -> np.ndarray:
    return (picture + 0.5).astype(np.uint8)


def _within(values: np.ndarray, bound: float) -> np.ndarray:
    return np.minimum(np.maximum(values, -bound), bound)


STATE_NAMES = ("x", "y", "vx", "vy")

LAYOUTS: dict[str, tuple[str, ...]] = {
    "open": (
        "#######",
        "#OOOOO#",
        "#OOGOO#",
        "#OOOOO#",
        "#######",
    ),
    "umaze": (
        "#####",
        "#GOO#",
        "###O#",
        "#OOO#",
        "#####",
    ),
    "medium": (
        "########",
        "#OO##OO#",
        "#OO#OOO#",
        "##OOO###",
        "#OO#OOO#",
        "#O#OO#O#",
        "#OOO#OG#",
        "########",
    ),
    "large": (
        "############",
        "#OOOO#OOOOO#",
        "#O##O#O#O#O#",
        "#OOOOOO#OOO#",
        "#O####O###O#",
        "#OO#O#OOOOO#",
        "##O#O#O#O###",
        "#OO#OOO#OGO#",
        "############",
    ),
}
"""D4RL's mazes: # a wall, O a free cell, G the goal's. Rows go along x, columns along y."""

GOAL_RADIUS = 0.5
"""Within it of the goal an observation is worth 1 (sparse reward)."""

MAX_SPEED = 5.0
"""Each velocity is clipped to it before a step."""

CELL_SHIFT = -0.2
"""From a cell's indices to its centre, in qpos."""

_JITTER = 0.1
"""Starts and targets lie within it of a cell's indices, in x and in y."""

_BODY = """<mujoco model="point_maze">
 <compiler inertiafromgeom="true" angle="radian"/>
 <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
 <default>
  <joint damping="1" limited="false"/>
  <geom friction=".5 .1 .1" density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"/>
 </default>
 <worldbody>
  <geom name="ground" type="plane" size="40 40 0.25" pos="0 0 -0.1" contype="1" conaffinity="0"/>
  <body name="particle" pos="1.2 1.2 0">
   <geom name="particle_geom" type="sphere" size="0.1" contype="1"/>
   <joint name="ball_x" type="slide" axis="1 0 0"/>
   <joint name="ball_y" type="slide" axis="0 1 0"/>
  </body>
{walls}
 </worldbody>
 <actuator>
  <motor joint="ball_x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
  <motor joint="ball_y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
 </actuator>
</mujoco>
"""
_BOX = '  <geom name="wall_{i}_{j}" type="box" pos="{x} {y} 0" size="0.5 0.5 0.2"/>'


def maze_of(env_id: str) -> str:
    """The maze of an id: a key of :data:`LAYOUTS`."""
    return env_id.split("-")[1]


def wall_cells(maze: str) -> np.ndarray:
    """Which cells of a maze are walls, (W, H) bool."""
    return np.array([[cell == "#" for cell in row] for row in LAYOUTS[maze]])


def goal_of(maze: str) -> np.ndarray:
    """The goal's position, (2,) float64."""
    return np.argwhere([[cell == "G" for cell in row] for row in LAYOUTS[maze]])[0].astype(float)


def free_cells(maze: str) -> np.ndarray:
    """The free cells in D4RL's order, the goal's last: (n, 2) int64."""
    empty = np.argwhere([[cell == "O" for cell in row] for row in LAYOUTS[maze]])
    return np.concatenate([empty, goal_of(maze).astype(int)[None]])


def model_xml(maze: str) -> str:
    """MuJoCo's model of a maze."""
    boxes = (_BOX.format(i=i, j=j, x=i + 1, y=j + 1) for i, j in np.argwhere(wall_cells(maze)))
    return _BODY.format(walls="\n".join(boxes))


class Maze2dPixelEnv:
    """One maze and its painter; see :class:`benchbench.envs.PixelEnv` for the public face.

    The reward of a simulator step is D4RL's: 1 within ``GOAL_RADIUS`` of the goal after the step,
    else 0; of the dense tasks exp(-distance). ``terminal`` is always False.
    """

    action_dim = 2
    state_names: tuple[str, ...] = STATE_NAMES
    can_reset = True

    def __init__(self, env_id: str, size: int, action_repeat: int = 1) -> None:
        gl.choose()  # importing mujoco fixes the renderer for everything drawn later
        import mujoco

        self.env_id, self.size, self.action_repeat = env_id, size, action_repeat
        maze = maze_of(env_id)
        self._limit = MAZE_STEPS[maze]
        self.max_episode_steps = math.ceil(self._limit / action_repeat)
        self.maze, self.goal = maze, goal_of(maze)
        self._cells = free_cells(maze)
        self._dense = re.search("-dense-", env_id) is not None
        self._model = mujoco.MjModel.from_xml_string(model_xml(maze))
        self._data = mujoco.MjData(self._model)
        self._step, self._forget = mujoco.mj_step, mujoco.mj_resetData
        walls = tuple(map(tuple, wall_cells(maze).tolist()))
        self._painter = shared_painter(walls, tuple(self.goal.tolist()), size, CELL_SHIFT)
        self._steps_left: float = self._limit
        self._data_reward, self._here = 0.0, self._reward_here()

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before.

        As in D4RL: near a random free cell, at a velocity of 0.1 · N(0, 1).
        """
        random = np.random.default_rng(seed)
        qpos = self.draw_target(random)
        self._put(qpos, 0.1 * random.standard_normal(2))
        self._steps_left = self._limit

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action ``action_repeat`` times, or until the time limit.

        ``action`` (2,) is clipped to [-1, 1]. Returns the sum of the rewards, False (no state of a
        maze is terminal), and whether the time limit is reached.
        """
        data = self._data
        data.ctrl[:] = _within(np.asarray(action, np.float64), 1.0)
        self._data_reward, reward, here = 0.0, 0.0, self._here
        for _ in range(self.action_repeat):
            data.qvel[:] = _within(data.qvel, MAX_SPEED)
            self._step(self._model, data)
            self._data_reward += here
            here = self._reward_here()
            reward += here
            self._steps_left -= 1
            if self._steps_left <= 0:
                break
        self._here = here
        return reward, False, self._steps_left <= 0

    def data_reward(self) -> float:
        """The last step's reward as a row of the data holds it: of the observations before it."""
        return self._data_reward

    def frame(self) -> np.ndarray:
        """The picture of :meth:`state`, (size, size, 3) uint8."""
        return self.painted(self._data.qpos.astype(np.float32))

    def painted(self, qpos: np.ndarray) -> np.ndarray:
        """The picture of the ball at ``qpos`` (2,), (size, size, 3) uint8."""
        return self._painter.frame(qpos)

    def state(self) -> np.ndarray:
        """D4RL's observation: x, y, vx, vy; (4,) float32."""
        return np.concatenate([self._data.qpos, self._data.qvel]).astype(np.float32)

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """The parts of the state that ``names`` stand for, (P,) float32."""
        return self.state()[[column for name in names for column in MAZE_PROPRIO[name]]]

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """D4RL's ``infos/qpos`` and ``infos/qvel`` of :meth:`state`, (2,) float32 each."""
        return self._data.qpos.astype(np.float32), self._data.qvel.astype(np.float32)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row, without a time limit; ``last_action`` is not needed.

        :meth:`state` is the row's own. Stored as float32, a row's action leads to the next row
        within 1e-5, and to the row twenty steps on within 1e-4 (held by a test).
        """
        self._put(np.asarray(qpos, np.float64), np.asarray(qvel, np.float64))
        self._steps_left = math.inf

    def draw_target(self, random: np.random.Generator) -> np.ndarray:
        """A random place, as D4RL draws starts and targets, (2,) float64."""
        cell = self._cells[int(random.integers(len(self._cells)))]
        return cell + random.uniform(-_JITTER, _JITTER, 2)

    def _put(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._forget(self._model, self._data)  # the solver's memory of wherever the ball was
        self._data.qpos[:], self._data.qvel[:] = qpos, qvel
        self._here = self._reward_here()

    def reward_at(self, qpos: np.ndarray) -> np.ndarray:
        """The task's reward of each of the positions ``qpos`` (..., 2), (...,) float64."""
        distance = np.hypot(qpos[..., 0] - self.goal[0], qpos[..., 1] - self.goal[1])
        return np.exp(-distance) if self._dense else (distance <= GOAL_RADIUS).astype(np.float64)

    def _reward_here(self) -> float:
        return float(self.reward_at(self._data.qpos))

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return."""
        return normalized_score(self.env_id, return_)

    def close(self) -> None:
        """There is nothing to free."""
