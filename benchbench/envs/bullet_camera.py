"""A camera beside one of PyBullet's bodies, drawn with numpy from where its capsules are.

Seen from so far off that the perspective is flat, a capsule is a thick line with round ends: its
edge is known to a fraction of a pixel, and a frame costs a tenth of what PyBullet's own renderer
takes for one as smooth. Where the capsules are is asked of a world of the camera's own, which holds
the same body and no physics, so drawing cannot touch the simulator.

The camera goes along with the torso; each limb has a colour of its own, and the floor is chequered
and stands still, so it shows the speed. Hopper, halfcheetah and walker2d are seen from the side,
with a cut through the floor below them; the ant is seen obliquely from above.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np

from benchbench.envs.d4rl import empty_world, quiet

Colour = tuple[int, int, int]

SKY = np.array((236.0, 240.0, 248.0))
LIGHT, DARK = np.array((168.0, 176.0, 188.0)), np.array((104.0, 112.0, 126.0))  # floor tiles
TILE = 0.5
"""Side of a floor tile, in metres."""

_RED, _BLUE, _YELLOW, _GREEN = (208, 40, 32), (32, 88, 216), (240, 184, 0), (24, 144, 64)
_PURPLE, _CYAN, _PINK, _BROWN = (144, 40, 184), (0, 168, 192), (248, 120, 168), (112, 64, 16)
_BLACK = (32, 32, 40)


@dataclass(frozen=True)
class _Capsule:
    """A thick line with round ends, from ``middle - half`` to ``middle + half``, in metres.

    Both are seen from its link's centre of mass; a sphere is one without a length.
    """

    link: int
    radius: float
    middle: np.ndarray
    half: np.ndarray


@dataclass(frozen=True)
class _View:
    model: str
    span: float
    """Side of the picture, in metres."""
    centre: float
    """Height of the picture's centre above the floor, in metres; of the ant, above its torso."""
    colours: dict[str, Colour]
    """By part, in the order in which they are painted where nothing else decides."""
    elevation: float = 0.0
    """How far above the horizon the camera stands, in radians."""


_LEG = {"foot": _YELLOW, "leg": _BLUE, "thigh": _GREEN}
_LEGS = ("front_left", "front_right", "left_back", "right_back")
_ANT = ((_BLUE, _CYAN), (_GREEN, _YELLOW), (_PURPLE, _PINK), (_BROWN, (240, 120, 24)))

_VIEWS = {
    "hopper": _View("hopper", 2.2, 0.8, {"torso": _RED, **_LEG}),
    "walker2d": _View(
        "walker2d",
        2.2,
        0.8,
        {"foot_left": _PINK, "leg_left": _CYAN, "thigh_left": _PURPLE, "torso": _RED, **_LEG},
    ),
    "halfcheetah": _View(
        "half_cheetah",
        2.0,
        0.6,
        {"bfoot": _PINK, "bshin": _CYAN, "bthigh": _PURPLE, "torso": _RED,
         "ffoot": _YELLOW, "fshin": _BLUE, "fthigh": _GREEN},
    ),
    "ant": _View(
        "ant",
        2.4,
        -0.2,
        {"torso": _RED}
        | {f"aux_{i + 1}": upper for i, (upper, _) in enumerate(_ANT)}
        | {f"{leg}_leg": _BLACK for leg in _LEGS}
        | {f"{leg}_foot": lower for leg, (_, lower) in zip(_LEGS, _ANT, strict=True)},
        elevation=math.radians(50),
    ),
}  # fmt: skip


class BulletCamera:
    """Pictures of one body.

    A pose is the base's position and quaternion where the base is free, then each movable joint's
    position, in the order of :attr:`joints`.
    """

    def __init__(self, body: str, size: int) -> None:
        self.size = size
        self._view = _VIEWS[body]
        self._client, self._body = _load(self._view.model)
        p = self._client
        info = [p.getJointInfo(self._body, joint) for joint in range(p.getNumJoints(self._body))]
        self.joints = movable_joints(p, self._body)
        self.is_free = p.getDynamicsInfo(self._body, -1)[0] > 0
        part_of = {i: joint[12].decode() for i, joint in enumerate(info)}
        part_of[-1] = "torso"
        order = list(self._view.colours)
        shapes = _capsules_of(p, self._body, self._view.model)
        shapes.sort(key=lambda shape: order.index(part_of[shape.link]))
        self._links = [shape.link for shape in shapes]
        self._colours = np.array([self._view.colours[part_of[i]] for i in self._links], float)
        self._torso = [part_of[link] for link in self._links].index("torso")
        self._radii = np.array([shape.radius for shape in shapes])
        self._middles = np.array([shape.middle for shape in shapes])
        self._halves = np.array([shape.half for shape in shapes])
        rise = math.sin(self._view.elevation), math.cos(self._view.elevation)
        self._up = np.array([0.0, rise[0], rise[1]])
        self._away = np.array([0.0, rise[1], -rise[0]])
        self._pixel = self._view.span / size
        offsets = (np.arange(size) + 0.5) * self._pixel - self._view.span / 2
        self._right, self._top = offsets, -offsets

    def frame(self, pose: np.ndarray) -> np.ndarray:
        """The body in a pose (J,), or (7 + J,) with a free base; (size, size, 3) uint8."""
        starts, ends = self._capsules(pose)
        x, y, z = (starts[self._torso] + ends[self._torso]) / 2
        if self._view.elevation:
            target = np.array([x, y, z + self._view.centre])
            order = np.argsort(-((starts + ends) @ self._away), kind="stable")
        else:
            target = np.array([x, 0.0, self._view.centre])
            order = np.arange(len(starts))
        picture = self._floor(target)
        middle = np.array([target[0], target @ self._up])
        for k in order:
            flat = [np.array([end[0], end @ self._up]) - middle for end in (starts[k], ends[k])]
            self._paint(picture, flat[0], flat[1], self._radii[k], self._colours[k])
        return np.rint(picture).astype(np.uint8)

    def _capsules(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each capsule starts and ends, (K, 3) each, in metres."""
        p, pose = self._client, np.asarray(pose, np.float64)
        if self.is_free:
            p.resetBasePositionAndOrientation(self._body, pose[:3], pose[3:7])
        for joint, position in zip(self.joints, pose[7 if self.is_free else 0 :], strict=True):
            p.resetJointState(self._body, joint, position)
        links = [link for link in self._links if link >= 0]
        states = p.getLinkStates(self._body, links, computeForwardKinematics=1)
        frames = {link: state[:2] for link, state in zip(links, states, strict=True)}
        frames[-1] = p.getBasePositionAndOrientation(self._body)
        places = np.array([frames[link][0] for link in self._links])
        turns = np.array([_matrix(p, frames[link][1]) for link in self._links])
        middles = places + np.einsum("kij,kj->ki", turns, self._middles)
        halves = np.einsum("kij,kj->ki", turns, self._halves)
        return middles - halves, middles + halves

    def _floor(self, target: np.ndarray) -> np.ndarray:
        """The picture without the body, (size, size, 3) float64."""
        across = _stripes(target[0] + self._right, self._pixel)
        if self._view.elevation:
            # Up the picture the floor is further off by 1 / sin(elevation).
            steep = 1 / self._up[1]
            depth = (target @ self._up + self._top) * steep
            along = _stripes(depth, self._pixel * steep)
            shade = (1 + along[:, None] * across[None, :]) / 2
            return DARK + shade[..., None] * (LIGHT - DARK)
        share = _within(0.5 - (target[2] + self._top) / self._pixel, 0.0, 1.0)[:, None, None]
        ground = DARK + ((1 + across) / 2)[:, None] * (LIGHT - DARK)
        return SKY + share * (ground - SKY)

    def _paint(
        self, picture: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, colour: Any
    ) -> None:
        """Lay a thick line over the picture; ``start`` and ``end`` are from its centre, metres."""
        left, right = self._seen(min(start[0], end[0]) - radius, max(start[0], end[0]) + radius)
        top, bottom = self._seen(-max(start[1], end[1]) - radius, -min(start[1], end[1]) + radius)
        if left >= right or top >= bottom:
            return
        x = self._right[left:right] - start[0]
        y = (self._top[top:bottom] - start[1])[:, None]
        along = end - start
        share = (x * along[0] + y * along[1]) / max(along @ along, 1e-12)
        share = _within(share, 0.0, 1.0)
        distance = np.sqrt((x - share * along[0]) ** 2 + (y - share * along[1]) ** 2)
        cover = _within((radius - distance) / self._pixel + 0.5, 0.0, 1.0)
        window = picture[top:bottom, left:right]
        window += cover[..., None] * (colour - window)

    def _seen(self, low: float, high: float) -> tuple[int, int]:
        """From which pixel to which a span reaches, a pixel more either way; from the centre, m."""
        half = self._view.span / 2
        first = math.floor((low + half) / self._pixel) - 1
        last = math.ceil((high + half) / self._pixel) + 1
        return max(first, 0), min(last, self.size)


@cache
def shared_camera(body: str, size: int) -> BulletCamera:
    """The one camera of a process for all environments of a body: worlds cost memory and caches."""
    return BulletCamera(body, size)


def movable_joints(client: Any, body: int) -> list[int]:
    """The joints of a body that can move, ascending."""
    count = client.getNumJoints(body)
    return [j for j in range(count) if client.getJointInfo(body, j)[2] != client.JOINT_FIXED]


def _capsules_of(client: Any, body: int, model: str) -> list[_Capsule]:
    """What a body looks like, by the order of its model's file.

    PyBullet does not tell which way a capsule lies whose ends stand in the file (``fromto``).
    """
    geoms = ElementTree.parse(_path(model)).getroot().find("worldbody").iter("geom")  # type: ignore[union-attr]
    capsules = []
    for geom, shape in zip(geoms, client.getVisualShapeData(body), strict=True):
        link, kind, (length, width, _), middle, turn = (shape[i] for i in (1, 2, 3, 5, 6))
        if kind == client.GEOM_SPHERE:
            half, radius = np.zeros(3), length
        elif "fromto" in geom.attrib:
            ends = np.array(geom.attrib["fromto"].split(), float)
            half, radius = (ends[3:] - ends[:3]) / 2, width
        else:
            half, radius = _matrix(client, turn)[:, 2] * length / 2, width
        capsules.append(_Capsule(link, radius, np.array(middle), half))
    return capsules


def _stripes(places: np.ndarray, pixel: float) -> np.ndarray:
    """1 on every other tile and -1 between them, in shades where a pixel lies on an edge."""
    phase = np.mod(places / TILE, 2.0)
    to_edge = np.where(phase < 1, np.minimum(phase, 1 - phase), np.maximum(1 - phase, phase - 2))
    return _within(to_edge * TILE / pixel * 2, -1.0, 1.0)


def _within(values: np.ndarray, least: float, most: float) -> np.ndarray:
    """``np.clip``, which takes several times as long over as few values."""
    return np.minimum(np.maximum(values, least), most)


def _matrix(client: Any, quaternion: Any) -> np.ndarray:
    return np.reshape(client.getMatrixFromQuaternion(quaternion), (3, 3))


def _load(model: str) -> tuple[Any, int]:
    """A world with nothing in it but one body, and the body's number."""
    client = empty_world()
    with quiet():
        return client, int(client.loadMJCF(_path(model))[0])


def _path(model: str) -> str:
    import pybullet_data

    return os.path.join(pybullet_data.getDataPath(), "mjcf", f"{model}.xml")
