"""Films of kept policies: variants side by side, from the same start, as the agent sees them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from benchbench.cell.build import make_evaluator, one_thread
from benchbench.cell.policy import load_policy
from benchbench.core.errors import UserError
from benchbench.core.files import from_json, replaced, write_text
from benchbench.envs import make_pixel_env
from benchbench.launch.cards import enlarged
from benchbench.results.store import Store
from benchbench.suite.environments import family_of
from benchbench.suite.grid import Cell, Grid

log = logging.getLogger(__name__)

FILMS = (".gif", ".mp4")

PICTURES = 120
"""At most this many pictures make a small film; a longer episode is shown in fewer a second."""

TALL = 128
"""Height of the small film, pixels."""

MILLISECONDS = 60
"""Of a picture."""


def keep_films(store: Store, grid: Grid) -> None:
    """A film of each environment's first seed: the compared variants, where they are finished.

    Nothing is computed from a film: an error in making it goes to the log, and the run goes on.
    """
    names = dict.fromkeys(n for c in grid.suite.compared[:1] for n in (c.against, c.of))
    for env in dict.fromkeys(cell.stratum for cell in grid.cells):
        mine = [cell for cell in grid.cells if cell.stratum == env]
        first = [cell for cell in mine if cell.seed == mine[0].seed]
        cells = [cell for name in names for cell in first if cell.variant == name]
        cells = [cell for cell in cells or first[:1] if store.policy_path(cell.key).exists()]
        path = store.folder / "films" / f"{mine[0].folder}-seed{mine[0].seed}.gif"
        if not cells or not family_of(mine[0].env).scored or _is_of(path, cells):
            continue
        try:
            write_film(path, film(store, cells))
            write_text(path.with_suffix(".json"), json.dumps(_about(cells)) + "\n")
        except Exception as error:  # of a simulator, a full disk, or code of the user's own
            log.warning("no film of %s: %s", env, " ".join(f"{error}".split()))


def film(store: Store, cells: Sequence[Cell], size: int | None = None) -> list[np.ndarray]:
    """The pictures of the cells' first evaluation episode, side by side.

    As the policies see it, or drawn again at ``size`` pixels. All start alike; one that is over
    stays at its last picture. Raises :class:`UserError` where a policy is not there or there is
    nothing to play in.
    """
    with one_thread():  # more threads would wait for each other where the cores are busy
        parts = [_episode(store, cell, size) for cell in cells]
    longest = max(len(part) for part in parts)
    tall = parts[0][0].shape[0]
    gap = np.full((tall, max(2, tall // 32), 3), 255, np.uint8)
    pictures = []
    for step in range(longest):
        row = [piece for part in parts for piece in (part[min(step, len(part) - 1)], gap)]
        pictures.append(np.concatenate(row[:-1], axis=1))
    return pictures


def _episode(store: Store, cell: Cell, size: int | None) -> list[np.ndarray]:
    """One cell's first evaluation episode, played again with what it was trained to."""
    policy = load_policy(store.cell_folder(cell.key))
    one = replace(cell, evaluate=cell.evaluate.model_copy(update={"episodes": 1}))
    evaluator = make_evaluator(one)
    if evaluator is None or cell.observation != "pixels":
        raise UserError(f"{cell.label}: has no pixels to film")
    seen: list[np.ndarray] = []
    actions: list[np.ndarray] = []

    def watched(frames: np.ndarray, states: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        taken = policy.act(frames, proprio, states)
        seen.append(frames[0, ..., -3:].copy())
        actions.append(taken[0].copy())
        return taken

    try:
        evaluator.returns(watched)
    finally:
        evaluator.close()
    if size is None:
        return seen
    env = make_pixel_env(cell.env, size, cell.action_repeat)
    try:
        env.reset(cell.stream("episode 0"))
        drawn = [env.frame()]
        for action in actions[:-1]:
            env.step(action)
            drawn.append(env.frame())
        return drawn
    finally:
        env.close()


def write_film(
    path: Path, pictures: Sequence[np.ndarray], tall: int = TALL, most: int = PICTURES
) -> None:
    """Write the pictures as a GIF that goes round, or as an MP4 where the name says so."""
    every = max(1, -(-len(pictures) // most))
    shown = [enlarged(picture, tall) for picture in pictures[::every]]
    if path.suffix.lower() == ".gif":
        content = imageio.imwrite(
            "<bytes>", shown, extension=".gif", duration=MILLISECONDS, loop=0, optimize=True
        )
    else:
        check_codec(path)
        # MP4 takes even numbers of pixels only.
        even = [one[: one.shape[0] // 2 * 2, : one.shape[1] // 2 * 2] for one in shown]
        content = imageio.imwrite(
            "<bytes>", even, extension=".mp4", fps=round(1000 / MILLISECONDS), macro_block_size=2
        )
    with replaced(path) as file:
        file.write(content)


def check_codec(path: Path) -> None:
    """Raise :class:`UserError` where the path asks for MP4 and its package is not here."""
    if path.suffix.lower() != ".mp4":
        return
    try:
        import imageio_ffmpeg  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(
            "film: MP4 needs imageio-ffmpeg; install it with: pip install 'benchbench[film]', or "
            "name a .gif"
        ) from None


def _about(cells: Sequence[Cell]) -> dict[str, object]:
    return {
        "env": cells[0].stratum, "seed": cells[0].seed,
        "variants": [cell.variant for cell in cells],
        "keys": [cell.key for cell in cells],
    }  # fmt: skip


def _is_of(path: Path, cells: Sequence[Cell]) -> bool:
    try:
        stored = from_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        return path.is_file() and stored == _about(cells)
    except (OSError, ValueError):
        return False
