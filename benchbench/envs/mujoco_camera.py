"""One camera and one look for each of D4RL's MuJoCo tasks, drawn by MuJoCo's own renderer.

A frame is a function of the positions alone, read as float32, which is how D4RL stores them: a
frame drawn from a file equals the frame drawn live, byte for byte. The camera has a model of its
own, so that drawing cannot touch the physics.

The camera follows the body along the track and stays at a fixed height, so what the observation
leaves out (how far the body has come) is left out of the picture too, except the ground's pattern,
whose motion shows the speed. The pattern repeats, and so do the pictures.

Settings cost: at 64 pixels (Mesa's software renderer, two cores) the hopper took 30 ms a frame as
gymnasium draws it, of which 22 for the shadow, 4 for the mirror in the floor, 3 for four samples a
pixel over a buffer of 640 × 480, 1 for the floor's 40,000 tiles and 0.2 for round shapes rounder
than they need be. Here it takes 0.5, more than half of it for ``SUPERSAMPLING``.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchbench.envs import gl

Colour = tuple[float, float, float]

SUPERSAMPLING = 2  # pixels drawn along each side of a frame's pixel: a fast body moves by less
_TILES = (0.25, 0.85, 0.45, 0.65)  # shades of the ground, so that four tiles in a row all differ
_LIMB_WIDTH = 1.5  # times as thick as they are, so that a limb is three pixels wide at 64
_HALF_GROUND = 48.0  # metres; a multiple of every look's period

_BODY: Colour = (0.95, 0.75, 0.15)
_RED: Colour = (0.95, 0.2, 0.15)
_BLUE: Colour = (0.2, 0.35, 1.0)
_PINK: Colour = (1.0, 0.45, 0.75)
_CYAN: Colour = (0.25, 0.85, 0.95)
_PURPLE: Colour = (0.6, 0.2, 0.8)
_GREEN: Colour = (0.1, 0.6, 0.2)
_DARK_RED: Colour = (0.45, 0.08, 0.05)
_DARK_BLUE: Colour = (0.05, 0.1, 0.5)


@dataclass(frozen=True)
class Look:
    """A task's model, its camera and its colours. Lengths in metres, angles in degrees."""

    model: str
    """The file among gymnasium's MuJoCo models."""
    follows: int
    """How many of the first positions the camera follows: x, or x and y."""
    height: float
    """What the camera looks at, above the ground."""
    distance: float
    elevation: float
    tile: float
    """The side of a ground tile: over twice as far as the body gets in a step."""
    colours: dict[str, Colour]
    """Of the named shapes; the others stay :data:`_BODY`."""
    view: float = 45.0
    """The camera's angle of view."""

    @property
    def period(self) -> float:
        """After how many metres the ground repeats."""
        return self.tile * len(_TILES)


LOOKS = {
    "hopper": Look(
        "hopper.xml", 1, 0.8, 2.5, -20.0, 0.4,
        {"thigh_geom": _RED, "leg_geom": _BLUE, "foot_geom": _GREEN},
    ),
    "halfcheetah": Look(
        "half_cheetah.xml", 1, 0.5, 2.2, -20.0, 0.75,
        {"bthigh": _RED, "bshin": _PINK, "bfoot": _GREEN,
         "fthigh": _BLUE, "fshin": _CYAN, "ffoot": _PURPLE},
    ),
    "walker2d": Look(
        "walker2d.xml", 1, 0.8, 2.5, -20.0, 0.4,
        {"thigh_geom": _RED, "leg_geom": _PINK, "foot_geom": _GREEN,
         "thigh_left_geom": _BLUE, "leg_left_geom": _CYAN, "foot_left_geom": _PURPLE},
    ),
    # From afar, so that a jump neither enlarges the ant nor takes its feet out of the picture. What
    # of a leg is fixed to the torso stays the torso's colour: the hip's angle is seen against it.
    # The encoder `small` trained on the positions (7,000 batches of 64, three frames of 64 pixels,
    # 36,000 rows of random play) tells the joint angles of held-out episodes with R² 0.92 to 0.96;
    # from 3.2 metres at 45 degrees, each leg in one colour, it was 0.85 to 0.94.
    "ant": Look(
        "ant.xml", 2, 0.5, 10.5, -60.0, 0.75,
        {"left_leg_geom": _RED, "left_ankle_geom": _DARK_RED,
         "right_leg_geom": _BLUE, "right_ankle_geom": _DARK_BLUE,
         "back_leg_geom": _PINK, "third_ankle_geom": _PURPLE,
         "rightback_leg_geom": _CYAN, "fourth_ankle_geom": _GREEN},
        view=15.0,
    ),
}  # fmt: skip
"""The look of each body that D4RL has in MuJoCo."""


class MujocoCamera:
    """Pictures of one body; take it from :func:`shared_camera`, which needs one for all its users.

    Raises ``UserError`` where the machine cannot draw without a display.
    """

    def __init__(self, body: str, size: int) -> None:
        gl.choose()
        import mujoco

        self.look, self.size = LOOKS[body], size
        side = size * SUPERSAMPLING
        self._mujoco = mujoco
        self._model = _drawn_model(self.look, side)
        self._data = mujoco.MjData(self._model)
        self._context = gl.make_context(side)
        self._renderer = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._renderer)
        self._scene = mujoco.MjvScene(self._model, maxgeom=64)
        for flag in ("SHADOW", "REFLECTION", "HAZE", "SKYBOX"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._view = mujoco.MjvCamera()
        self._view.distance, self._view.elevation = self.look.distance, self.look.elevation
        self._view.azimuth = 90.0  # from the side: x runs to the right
        self._rectangle = mujoco.MjrRect(0, 0, side, side)
        self._fine = np.empty((side, side, 3), np.uint8)

    @property
    def renderer(self) -> str:
        """The name of what draws, as OpenGL tells it; another one may round edges another way."""
        if "OpenGL" not in sys.modules:  # MuJoCo went through another library
            return "unknown"
        from OpenGL import GL

        self._context.make_current()
        return str(GL.glGetString(GL.GL_RENDERER).decode())

    def frame(self, qpos: np.ndarray) -> np.ndarray:
        """The body at ``qpos`` (nq,), (size, size, 3) uint8."""
        mujoco, model, data = self._mujoco, self._model, self._data
        position = np.asarray(qpos, np.float32).astype(np.float64)
        along = position[: self.look.follows]
        along -= self.look.period * np.round(along / self.look.period)
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        self._view.lookat[:] = (*along, *(0.0,) * (2 - len(along)), self.look.height)
        self._context.make_current()
        mujoco.mjv_updateScene(
            model, data, self._option, self._perturb, self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value, self._scene,
        )  # fmt: skip
        mujoco.mjr_render(self._rectangle, self._scene, self._renderer)
        mujoco.mjr_readPixels(self._fine, None, self._rectangle, self._renderer)
        # OpenGL's first row is the lowest.
        return _shrunk(self._fine[::-1])

    def free(self) -> None:
        """Give the renderer's memory back."""
        try:
            self._context.make_current()
            self._renderer.free()
            self._context.free()
        except Exception:  # PyOpenGL's own: at exit dm_control may have closed EGL for everybody
            self._context._context = None  # so that its destructor does not try again, and print


def shared_camera(body: str, size: int) -> MujocoCamera:
    """The process's one camera for a body and a size, made at its first use.

    Environments side by side draw one after the other, so one is enough. It lives until the process
    ends. It does not outlive a fork: processes that draw are spawned.
    """
    if (body, size) not in _cameras:
        _cameras[body, size] = MujocoCamera(body, size)
        if len(_cameras) == 1:  # registered after MuJoCo's own exit handler, so that it runs before
            atexit.register(_free_cameras)
    return _cameras[body, size]


_cameras: dict[tuple[str, int], MujocoCamera] = {}


def _free_cameras() -> None:
    while _cameras:
        _cameras.popitem()[1].free()


def _drawn_model(look: Look, side: int) -> Any:
    """Gymnasium's model in the task's colours, without what costs drawing time and is not seen."""
    import mujoco

    with unlogged():
        model = mujoco.MjModel.from_xml_path(str(model_file(look)))
    model.vis.global_.offwidth = model.vis.global_.offheight = side
    model.vis.global_.fovy = look.view
    quality = model.vis.quality
    quality.offsamples = quality.shadowsize = 0
    quality.numslices, quality.numstacks = 16, 8
    model.vis.headlight.ambient[:] = 0.3
    model.light_specular[:] = 0
    model.light_castshadow[:] = 0

    limbs = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE.value
    model.geom_size[limbs, 0] *= _LIMB_WIDTH
    model.geom_matid[:] = -1  # plain colours, no marks
    model.geom_rgba[:, :3] = _BODY
    for name, colour in look.colours.items():
        model.geom_rgba[model.geom(name).id, :3] = colour

    floor, material = model.geom("floor").id, model.material("MatPlane").id
    model.geom_matid[floor] = material
    model.geom_size[floor] = (_HALF_GROUND, _HALF_GROUND, 2 * _HALF_GROUND)
    model.mat_rgba[material] = model.geom_rgba[floor] = 1.0
    model.mat_reflectance[material] = model.mat_specular[material] = 0
    model.mat_shininess[material] = 0
    model.mat_texuniform[material] = False
    model.mat_texrepeat[material] = 2 * _HALF_GROUND / look.period
    texture = model.texture("texplane").id
    first = int(model.tex_adr[texture])
    tiles = _tiles(int(model.tex_height[texture]), int(model.tex_width[texture]))
    model.tex_data[first : first + tiles.size] = tiles.reshape(-1)
    return model


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Drop MuJoCo's warnings within the block: it writes each into a file in the working folder.

    For reading models: gymnasium's halfcheetah is written in a way that MuJoCo means to give up.
    """
    import mujoco

    kept = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(kept)


def model_file(look: Look) -> Path:
    """Where gymnasium keeps the model."""
    import gymnasium

    return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / look.model


def _tiles(height: int, width: int) -> np.ndarray:
    """The ground's texture (height, width, 3) uint8, with all shades in every row of tiles."""
    count = len(_TILES)
    row = np.arange(height)[:, None] * count // height
    column = np.arange(width)[None, :] * count // width
    shade = np.array(_TILES)[(column + 2 * row + row // 2) % count]
    return np.repeat(np.round(shade * 255).astype(np.uint8)[..., None], 3, axis=2)


def _shrunk(fine: np.ndarray) -> np.ndarray:
    """The mean of each block of ``SUPERSAMPLING`` × ``SUPERSAMPLING`` pixels, rounded down."""
    steps = range(SUPERSAMPLING)
    total = sum(
        fine[row::SUPERSAMPLING, column::SUPERSAMPLING].astype(np.uint16)
        for row in steps
        for column in steps
    )
    return np.asarray(total // SUPERSAMPLING**2, dtype=np.uint8)
