"""Marks of tests that need a simulator which is an extra on this Python."""

import os
import sys

import pytest

from benchbench.envs import d4rl, gl, simulators

needs_bullet = pytest.mark.skipif(
    not d4rl.is_installed(), reason="needs PyBullet, gym and d4rl, the extra 'bullet'"
)
needs_dm_control = pytest.mark.skipif(
    not simulators.is_installed("dm_control"), reason="needs dm_control, the extra 'vd4rl'"
)
MUST_DRAW = "BENCHBENCH_TESTS_MUST_DRAW" in os.environ
"""Whether a test that cannot draw for want of OpenGL fails, and is not skipped."""

needs_renderer = pytest.mark.skipif(
    sys.platform == "linux" and not (MUST_DRAW or gl.has_egl() or gl.has_osmesa()),
    reason="needs EGL or OSMesa, for MuJoCo to draw in another process",
)
