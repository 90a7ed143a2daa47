"""A maze seen from above, painted in numpy: no OpenGL, no display, no GPU.

A picture is made of walls, a square goal and a round ball, all with anti-aliased edges, so that a
motion of a fraction of a pixel shows. Walls and goal never move: they are painted once. A frame
copies that picture and blends the ball into the few pixels around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

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
        self._still = picture
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
        cover = np.clip((BALL_RADIUS - distance) * scale + 0.5, 0.0, 1.0)
        if self._samples > 1:
            count = self._window
            cover = cover.reshape(count, self._samples, count, self._samples).mean(axis=(1, 3))
        window = np.s_[row : row + self._window, column : column + self._window]
        still = self._still[window]
        frame[window] = _rounded(still + cover[:, :, None] * (_BALL - still))
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


_BALL = np.array(BALL, np.float64)


def _rounded(picture: np.ndarray) -> np.ndarray:
    return (picture + 0.5).astype(np.uint8)
