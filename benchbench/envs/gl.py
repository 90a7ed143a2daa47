"""OpenGL without a display: which of MuJoCo's off-screen renderers this machine has.

MuJoCo and dm_control read ``MUJOCO_GL`` once, when they are first imported, and take the one that
needs a display where it is unset. So :func:`choose` runs before either import; what the user has
set stays. EGL comes first (a GPU's driver, or Mesa on the CPU), OSMesa is the fallback.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import importlib
import os
import sys
from typing import Any

from benchbench.core.errors import UserError

_CURE = (
    "install one of them (on Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or "
    "libosmesa6), or set MUJOCO_GL to a renderer that this machine has"
)
_LIBRARIES = {
    "egl": ("EGL", "libEGL.so.1"),
    "osmesa": ("OSMesa", "libOSMesa.so.8", "libOSMesa.so.6"),
}
_OWN_CHOICE = ("egl", "osmesa", "glfw")
_ON = ("", "enable", "enabled", "on", "true", "1")  # MuJoCo's words for "whatever is there"
_OFF = ("disable", "disabled", "off", "false", "0")


def choose() -> str:
    """Set ``MUJOCO_GL`` unless the user has; returns the renderer's name, '' for the default.

    Where no renderer is there, :func:`make_context` says so; physics needs none. Raises
    :class:`UserError` where the user names one that is none, or whose library is missing, for then
    MuJoCo itself cannot be imported.
    """
    stated = os.environ.get("MUJOCO_GL", "").lower().strip()
    if sys.platform == "linux" and stated not in (*_OWN_CHOICE, "glx", *_ON, *_OFF):
        raise UserError(
            f"MUJOCO_GL={stated}: is no renderer; set it to {', '.join(_OWN_CHOICE)}, or unset it"
        )
    if sys.platform == "linux" and stated in _LIBRARIES and _library(stated) is None:
        raise UserError(f"MUJOCO_GL={stated}, and this machine does not have it; {_CURE}")
    if stated not in _ON or sys.platform != "linux":
        return stated
    if has_egl():
        os.environ["MUJOCO_GL"] = "egl"
    elif has_osmesa():
        os.environ["MUJOCO_GL"] = "osmesa"
    return os.environ.get("MUJOCO_GL", "")


def make_context(size: int) -> Any:
    """An OpenGL context for pictures of up to ``size`` × ``size`` pixels.

    It has ``make_current`` and ``free``. Raises :class:`UserError` where the machine has neither
    EGL nor OSMesa, or where the renderer that ``MUJOCO_GL`` names does not work.
    """
    name = choose()
    if name in _ON and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise UserError(f"MuJoCo cannot draw here: there is neither EGL nor OSMesa; {_CURE}")
    # Not mujoco.GLContext, which is the renderer of MUJOCO_GL as it was when mujoco was imported.
    module = f"mujoco.{name}" if name in _OWN_CHOICE else "mujoco.gl_context"
    try:
        context = importlib.import_module(module).GLContext(size, size)
        context.make_current()
    except Exception as error:  # from ctypes, PyOpenGL, GLFW or MuJoCo, each with its own classes
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"MuJoCo cannot draw with MUJOCO_GL={name or 'unset'} ({said[0][:120]}); {_CURE}"
        ) from error
    return context


@functools.cache
def has_egl() -> bool:
    """Whether EGL opens one of the machine's devices without a display.

    Asked through ctypes: PyOpenGL settles on one platform for good when it is first imported.
    """
    egl = _library("egl")
    if egl is None:
        return False
    try:
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
        query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
        display_of = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    except AttributeError:
        return False
    if not query or not display_of:
        return False
    pointer, number = ctypes.c_void_p, ctypes.c_int
    query_devices = ctypes.CFUNCTYPE(number, number, pointer, pointer)(query)
    get_display = ctypes.CFUNCTYPE(pointer, number, pointer, pointer)(display_of)
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    devices, count = (pointer * 32)(), number(0)
    if not query_devices(32, ctypes.byref(devices), ctypes.byref(count)):
        return False
    platform_device = 0x313F  # EGL_PLATFORM_DEVICE_EXT
    displays = (get_display(platform_device, device, None) for device in devices[: count.value])
    # Left initialised: MuJoCo opens the same display, and closes it when the process ends.
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


@functools.cache
def has_osmesa() -> bool:
    """Whether the library of Mesa's off-screen renderer is there."""
    return _library("osmesa") is not None


def _library(renderer: str) -> ctypes.CDLL | None:
    """The renderer's library, opened, on Linux."""
    if sys.platform != "linux":
        return None
    short, *names = _LIBRARIES[renderer]
    for name in (ctypes.util.find_library(short), *names):
        with contextlib.suppress(OSError):
            if name:
                return ctypes.CDLL(name)
    return None
