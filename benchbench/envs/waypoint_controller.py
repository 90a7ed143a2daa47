"""D4RL's waypoint controller, without d4rl: it drives the ball from cell to cell to a target.

After ``WaypointController`` of ``d4rl/pointmaze/waypoint_controller.py`` in
https://github.com/Farama-Foundation/D4RL: a shortest path over the free cells, a jitter on every
waypoint but the last, and a proportional-derivative law towards the next one. A test compares the
two action by action where d4rl is installed. D4RL finds the path by value iteration; here a search
in breadth gives the same one, with the same choice among equally short ones.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

P_GAIN, D_GAIN = 10.0, -1.0
"""D4RL's gains for its MuJoCo mazes."""

REACHED = 0.1
"""A waypoint counts as reached within this distance of it ..."""
SLOW = 0.1
"""... and when the ball has moved less than this since the last call."""

_JITTER = 0.2
_MOVES = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
"""D4RL's order of moves; of equally good ones it takes the first."""


class Uniform(Protocol):
    """What the controller asks of a numpy generator."""

    def uniform(self, low: float = ..., high: float = ..., size: int = ...) -> np.ndarray:
        """``size`` numbers in [low, high)."""


class LostPlan(Exception):
    """There is no way to the target, or the plan ended short of it; D4RL's controller fails too."""


class WaypointController:
    """Drives to one target after another in the maze of ``walls`` (W, H) bool.

    ``random`` jitters the waypoints.
    """

    def __init__(
        self, walls: np.ndarray, random: Uniform, p_gain: float = P_GAIN, d_gain: float = D_GAIN
    ) -> None:
        self._walls, self._random = walls, random
        self._p_gain, self._d_gain = p_gain, d_gain
        self._target: tuple[int, int] | None = None
        self._waypoints: list[np.ndarray] = []
        self._next = 0
        self._last = np.zeros(2)

    def get_action(
        self, position: np.ndarray, velocity: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, bool]:
        """The action (2,) in [-1, 1] towards the target's cell, and whether it is reached.

        Raises :class:`LostPlan` where D4RL's controller fails as well.
        """
        if self._target != _cell(target):
            self._plan(_cell(position), _cell(target))
        aim = np.array(self._target, np.float64)
        is_slow = np.linalg.norm(self._last - position) < SLOW
        reached = bool(np.linalg.norm(position - aim) < REACHED and is_slow)
        if not reached:
            if self._next >= len(self._waypoints):
                raise LostPlan
            aim = self._waypoints[self._next]
        action = self._p_gain * (aim - position) + self._d_gain * velocity
        if not reached and np.linalg.norm(position - aim) < REACHED and is_slow:
            self._next += 1
        self._last = position
        return np.clip(action, -1.0, 1.0), reached

    def _plan(self, start: tuple[int, int], target: tuple[int, int]) -> None:
        """Waypoints along a shortest path."""
        steps_to = self._steps_to(target)
        at, self._waypoints = start, []
        while True:
            moves = ((at[0] + dx, at[1] + dy) for dx, dy in _MOVES)
            known = [cell for cell in moves if cell in steps_to]
            if not known:  # in a wall, with no free cell beside it
                raise LostPlan
            at = min(known, key=steps_to.__getitem__)
            if at == target:
                self._waypoints.append(np.array(at, np.float64))
                break
            self._waypoints.append(np.array(at) - self._random.uniform(size=2) * _JITTER)
        self._target, self._next, self._last = target, 0, np.array(start, np.float64)

    def _steps_to(self, target: tuple[int, int]) -> dict[tuple[int, int], int]:
        """How many moves each free cell is from the target."""
        steps, queue = {target: 0}, deque([target])
        while queue:
            x, y = queue.popleft()
            for dx, dy in _MOVES[1:]:
                cell = (x + dx, y + dy)
                if cell not in steps and not self._walls[cell]:
                    steps[cell] = steps[x, y] + 1
                    queue.append(cell)
        return steps


def _cell(position: np.ndarray) -> tuple[int, int]:
    return round(float(position[0])), round(float(position[1]))
