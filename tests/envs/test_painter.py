"""The painter: exact areas, smooth motion, and a state that a network can read from the frames."""

import h5py
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from benchbench.data.sources import maze2d as recipe
from benchbench.envs import make_pixel_env, maze2d
from benchbench.envs.maze2d import BALL, FLOOR, GOAL, WALL, MazePainter
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData

MAZES = ("maze2d-open-v0", "maze2d-umaze-v1", "maze2d-medium-v1", "maze2d-large-v1")


def room(size, shape=(5, 5), goal=(1.0, 1.0), shift=0.0):
    walls = np.ones(shape, bool)
    walls[1:-1, 1:-1] = False
    return MazePainter(walls, goal, size, shift)


def test_rows_of_the_picture_go_along_x_and_columns_along_y():
    walls = maze2d.wall_cells("umaze")
    frame = MazePainter(walls, (1.0, 1.0), 38).frame((3.0, 2.0))  # 10 pixels a cell, 4 of rim

    def cell(x, y):
        return tuple(frame[4 + 10 * (x - 1) + 5, 4 + 10 * (y - 1) + 5])

    assert cell(1, 1) == GOAL
    assert cell(1, 2) == cell(2, 3) == cell(3, 1) == FLOOR
    assert cell(2, 1) == cell(2, 2) == WALL
    assert cell(3, 2) == BALL
    assert tuple(frame[0, 0]) == tuple(frame[37, 20]) == WALL


def test_a_shift_moves_the_walls_and_leaves_the_goal_and_the_ball():
    plain, shifted = room(76), room(76, shift=-0.2)
    # The picture moves along with the walls, so they stay and what has a position moves by 0.2.
    a, b = plain.frame((2.0, 2.0)), shifted.frame((1.8, 1.8))
    inner = np.s_[34:, 34:]  # away from the goal, which is at (1, 1) in both
    assert np.abs(a[inner].astype(int) - b[inner]).max() <= 1
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("size", [16, 19, 32, 64, 128, 256])
@pytest.mark.parametrize("shape", [(5, 5), (9, 12)])
def test_the_ball_has_its_area_wherever_it_is(size, shape):
    view = room(size, shape, goal=(1.0, 1.0))
    pixel = (max(shape) - 2 + 2 * maze2d.RIM) / size
    empty = np.full(3, FLOOR, float)
    for x, y in np.random.default_rng(0).uniform((2.0, 2.0), np.array(shape) - 2.0, (20, 2)):
        frame = view.frame((x, y)).astype(float)
        difference = view._background.astype(float) - frame
        # Green falls from 255 to 48 over the floor: so much of it is ball.
        cover = difference[..., 1].sum() / (empty[1] - BALL[1])
        goal = np.hypot(x - 1.0, y - 1.0) < 1.1
        if not goal:
            assert cover * pixel**2 == pytest.approx(np.pi * 0.09, rel=0.06)


def test_walls_and_goal_have_their_areas():
    view = room(33, (5, 5), goal=(2.0, 2.0))
    picture = view._background.astype(float)
    pixel = 3.8 / 33
    # Blue: floor 255, wall 96, goal 96; red: floor 255, wall and goal 64.
    covered = (255 - picture[..., 0]).sum() / (255 - 64) * pixel**2
    assert covered == pytest.approx(3.8**2 - 9 + 1, rel=0.01)


def test_the_window_holds_the_whole_ball():
    """Against a picture whose every pixel is sampled 8 × 8 times."""
    view = room(24, (7, 7), goal=(1.0, 1.0))
    pixel, fine = 5.8 / 24, 8
    at = (7 - 1 - 5.8) / 2  # the first corner
    centres = at + (np.arange(24 * fine) + 0.5) * pixel / fine
    for x, y in np.random.default_rng(1).uniform(2.0, 5.4, (30, 2)):
        inside = np.hypot(centres[:, None] - x, centres - y) < maze2d.BALL_RADIUS
        cover = inside.reshape(24, fine, 24, fine).mean(axis=(1, 3))[..., None]
        still = view._still
        expected = still + cover * (np.array(BALL) - still)
        assert np.abs(view.frame((x, y)) - expected).max() < 0.08 * 255


def test_motion_of_a_tenth_of_a_pixel_shows():
    view = room(32)
    step = 0.1 * 3.8 / 32
    pictures = [view.frame((2 + k * step, 3.0)).tobytes() for k in range(11)]
    assert len(set(pictures)) == 11


@pytest.mark.parametrize("size", [16, 32, 64, 256])
@pytest.mark.parametrize("env_id", MAZES)
def test_floor_walls_goal_and_ball_can_be_told_apart(env_id, size):
    env = make_pixel_env(env_id, size)
    env.reset(1)
    frame = env.frame()
    assert frame.shape == (size, size, 3)
    assert frame.dtype == np.uint8
    colours = frame.reshape(-1, 3).astype(int)
    for colour, least in ((FLOOR, size**2 // 12), (WALL, size**2 // 12), (GOAL, 1)):
        near = np.abs(colours - colour).max(axis=1) <= 40
        assert near.sum() >= least, colour
    red, green, blue = colours.T
    assert (red - np.maximum(green, blue) > 40).sum() >= 1


def test_one_painter_serves_all_environments_of_a_maze():
    one, other, larger = (make_pixel_env("maze2d-umaze-v1", size) for size in (32, 32, 48))
    assert one._painter is other._painter is not larger._painter


SPACING = 4


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The frames (N, 32, 32, 3) and states (N, 4) of 8,000 rows of the recipe on the open maze."""
    folder = tmp_path_factory.mktemp("set")
    source = WaypointData(transitions=8000, seed=3)
    recipe.make(DataIdentity.of("maze2d-open-v0", source, 32), folder, lambda done, total: None)
    with h5py.File(folder / "transitions.hdf5") as file:
        return np.load(folder / "frames.npy"), file["observations"][:]


TRAINED = 6000
"""Rows to fit on; those behind them are for testing."""


def stacked(frames):
    """Stacks (N', 32, 32, 9) of three frames, oldest first, and the rows that they end at."""
    rows = np.arange(2 * SPACING, len(frames))
    return np.concatenate([frames[rows - SPACING * age] for age in (2, 1, 0)], axis=3), rows


def r2(predicted, truth):
    return 1 - ((predicted - truth) ** 2).mean(0) / truth.var(0)


def test_a_linear_probe_reads_position_from_a_frame_and_velocity_from_a_stack(shown):
    frames, states = shown
    stacks, rows = stacked(frames)
    for seen, truth, columns, least in (
        (frames, states, [0, 1], 0.97),
        (stacks, states[rows], [2, 3], 0.75),
    ):
        flat, truth = seen.reshape(len(seen), -1) / np.float32(255), truth[:, columns]
        probe = Ridge(1.0).fit(flat[:TRAINED], truth[:TRAINED])
        assert r2(probe.predict(flat[TRAINED:]), truth[TRAINED:]).min() > least


@pytest.mark.slow
def test_a_small_network_reads_position_and_velocity_from_a_stack(shown):
    frames, states = shown
    stacks, rows = stacked(frames)
    torch.manual_seed(0)
    seen = torch.from_numpy(stacks).permute(0, 3, 1, 2)
    mean, scale = states[rows][:TRAINED].mean(0), states[rows][:TRAINED].std(0)
    wanted = torch.from_numpy((states[rows] - mean) / scale)
    centre = seen[:TRAINED].float().mean(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(9, 32, 3, 2), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3, 2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(32 * 7 * 7, 128), torch.nn.ReLU(),
        torch.nn.Linear(128, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(500):
        drawn = torch.randint(0, TRAINED, (128,))
        loss = (net((seen[drawn] - centre) / 255) - wanted[drawn]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = net((seen[TRAINED:] - centre) / 255)
    found = r2(predicted.numpy(), wanted[TRAINED:].numpy())
    assert found[:2].min() > 0.97
    assert found[2:].min() > 0.8
