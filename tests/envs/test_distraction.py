"""Distractions: functions of an episode and a time, the same for stored and for played frames."""

import numpy as np
import pytest
import torch
from helpers.simulators import needs_bullet
from helpers.transitions import dataset, sampler
from PIL import Image

from benchbench.core.errors import UserError
from benchbench.envs import make_pixel_env
from benchbench.envs.distraction import (
    SPEED,
    Distraction,
    Layer,
    data_layer,
    episode_layer,
    hashed,
    scene_cover,
    stream_of,
)
from benchbench.envs.evaluate import Stacks
from benchbench.envs.pool import Shown
from benchbench.suite.pixels import DistractSettings, key_of, pictures_sha256

SIZE = 32
PARTS = {
    "tint": {"strength": 0.4},
    "background": {"strength": 1},
    "objects": {"strength": 0.6},
    "camera": {"strength": 0.3},
    "noise": {"strength": 0.1},
}


def distraction(size=SIZE, key="light", **parts):
    return Distraction(DistractSettings.model_validate(parts), size, key)


def layer(stream=7, **parts):
    return Layer(distraction(**parts), stream)


def white(count, size=SIZE):
    return np.full((count, size, size, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def maze():
    """Frames of the ball at several places, (6, 32, 32, 3)."""
    env = make_pixel_env("maze2d-umaze-v1", SIZE)
    return np.stack([env.painted(np.array([1 + 0.2 * k, 3.0])) for k in range(6)])


@pytest.mark.parametrize("part", [*PARTS, "easy", "hard"])
def test_a_frame_follows_from_its_episode_and_time_alone(part, maze):
    parts = {part: PARTS[part]} if part in PARTS else {"preset": part}
    episodes, times = [0, 0, 1, 1, 5, 5], [0, 1, 0, 40, 3, 1000]
    clean = maze.copy()
    one = layer(**parts).lay(maze, episodes, times)
    assert np.array_equal(maze, clean)  # what is stored stays as it is
    back = layer(**parts).lay(maze[::-1].copy(), episodes[::-1], times[::-1])[::-1]
    assert np.array_equal(one, back)
    alone = np.concatenate(
        [layer(**parts).lay(maze[k : k + 1], episodes[k : k + 1], times[k : k + 1])
         for k in range(6)]
    )  # fmt: skip
    assert np.array_equal(one, alone)
    assert (one != maze).any((1, 2, 3)).all()
    assert (layer(stream=8, **parts).lay(maze, episodes, times) != one).any((1, 2, 3)).sum() >= 5


@pytest.mark.parametrize("part", ["tint", "background", "noise"])
def test_another_seed_has_other_colours_and_textures(part):
    one, other = (
        layer(seed=seed, **{part: PARTS[part]}).lay(white(4), [0] * 4, range(4)) for seed in (0, 1)
    )
    assert (one != other).any((1, 2, 3)).all()


def test_numbers_are_spread_evenly_and_no_two_alike():
    numbers = hashed(torch.arange(100_000), 3)
    assert numbers.unique().numel() == 100_000
    bits = (numbers[:, None] >> torch.arange(64)) & 1
    # 100,000 fair coins each: six standard errors.
    assert (bits.double().mean(0) - 0.5).abs().max() < 6 * 0.5 / 100_000**0.5
    assert not torch.equal(hashed(torch.arange(9), 3), hashed(torch.arange(9), 4))
    assert stream_of("a", 1) != stream_of("a", 2)


def test_the_tint_is_a_coarse_grid_within_its_strength():
    laid = layer(tint={"strength": 0.4, "grid": 8}).lay(white(50), [0] * 50, range(50))
    blocks = laid.reshape(50, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    colours = blocks[:, :, 0, :, 0]
    assert colours.min() >= np.floor(255 * 0.6) - 1
    assert colours.max() == 255
    assert colours.mean() == pytest.approx(255 * 0.8, abs=2)  # 9,600 draws; one deviates by 29
    assert (colours[1:] != colours[:-1]).any((1, 2, 3)).all()
    still = layer(tint={"strength": 0.4, "every": "episode"}).lay(white(3), [0, 0, 1], [0, 1, 0])
    assert np.array_equal(still[0], still[1])
    assert not np.array_equal(still[0], still[2])


def test_a_tint_whose_grid_does_not_divide_the_frame():
    laid = layer(size=20, tint={"strength": 1, "grid": 3}).lay(white(1, 20), [0], [0])[0]
    columns = np.flatnonzero((laid[:, 1:] != laid[:, :-1]).any((0, 2))) + 1
    assert columns.tolist() == [7, 14]  # k · 3 // 20 goes up there


def test_the_background_is_behind_the_ball_the_goal_and_the_walls(maze):
    over = layer(background={"strength": 1})
    laid = over.lay(maze, [0] * 6, range(6))
    texture = over.lay(white(6), [0] * 6, range(6))  # all of it is background
    floor = (maze == 255).all(-1)
    whole = np.isin(maze, (32, 48, 64, 72, 96, 176, 224)).all(-1)  # not blended with the floor
    assert floor.sum() > 1000
    assert whole.sum() > 1000
    assert np.array_equal(laid[floor], texture[floor])
    assert np.abs(laid[whole].astype(int) - maze[whole]).max() <= 1
    half = layer(background={"strength": 0.5}).lay(maze, [0] * 6, range(6))
    expected = maze[floor] + (texture[floor].astype(float) - maze[floor]) / 2
    assert np.abs(half[floor] - expected).max() <= 1


@pytest.mark.parametrize(
    ("env_id", "figure", "background"),
    [
        pytest.param("bullet-hopper-v0", 40, 800, marks=needs_bullet),
        pytest.param("bullet-ant-v0", 60, 700, marks=needs_bullet),
        ("hopper-medium-v2", 30, 700),
        ("ant-medium-v2", 60, 700),
    ],
)
def test_bodies_are_told_from_sky_and_floor_by_colour(env_id, figure, background):
    env = make_pixel_env(env_id, SIZE)
    env.reset(0)
    frame = torch.from_numpy(env.frame()[None]).to(torch.int16)
    env.close()
    cover = scene_cover(frame, key_of(env_id))[0]
    assert (cover == 128).sum() >= figure
    assert (cover == 0).sum() >= background
    # Everything far from grey is kept whole.
    chroma = frame.amax(-1) - frame.amin(-1)
    assert (cover[chroma[0] >= 60] == 128).all()


def test_dm_controls_robots_are_warm_before_a_blue_world():
    pixels = [[166, 120, 70], [120, 88, 60], [42, 63, 84], [20, 41, 61], [150, 150, 150]]
    frame = torch.tensor(pixels, dtype=torch.int16).view(1, 1, 5, 3)
    assert scene_cover(frame, "warm").flatten().tolist() == [128, 128, 0, 0, 0]


def test_a_texture_moves_and_a_still_one_does_not():
    moving, still = (
        layer(background={"strength": 1, "motion": motion}).lay(white(9), [0] * 9, range(9))
        for motion in ("moving", "still")
    )
    assert (still == still[:1]).all()
    assert (moving[0] != moving[8]).any()
    # Correlated in time: neighbours are nearer than frames far apart.
    apart = np.abs(moving.astype(int) - moving[0]).mean((1, 2, 3))
    assert apart[1] < apart[8]


def test_objects_cover_their_area_and_move_on_smoothly():
    one = {"strength": 1, "count": 1, "radius": 0.2}
    over = layer(size=64, objects=one)
    laid = over.lay(white(300, 64), [0] * 300, range(300))
    # Whole pixels and those at its edge: half a pixel more on every side.
    inside = (laid != 255).any(-1).sum((1, 2)).max()
    assert inside == pytest.approx(np.pi * (0.2 * 64 + 0.5) ** 2, rel=0.05)
    box = layer(size=64, objects=one | {"shape": "box"}).lay(white(300, 64), [0] * 300, range(300))
    assert (box != 255).any(-1).sum((1, 2)).max() == pytest.approx((0.4 * 64 + 1) ** 2, rel=0.05)
    ids = over.ids(torch.zeros(300, dtype=torch.long))
    centres = over.distraction.state(ids, torch.arange(300))
    assert centres.min() >= 0
    assert centres.max() <= 1
    assert np.abs(np.diff(centres, axis=0)).max() <= SPEED[1] + 1e-9


def test_a_camera_at_rest_changes_nothing_and_drifts_smoothly(maze):
    rest = layer(camera={"strength": 1e-9}).lay(maze, [0] * 6, range(6))
    assert np.array_equal(rest, maze)
    same = np.repeat(maze[:1], 100, axis=0)
    drift, jitter = (
        layer(camera={"strength": 0.5, "motion": motion}).lay(same, [0] * 100, range(100))
        for motion in ("drift", "jitter")
    )
    steps = [np.abs(np.diff(laid.astype(int), axis=0)).mean() for laid in (drift, jitter)]
    assert steps[0] < steps[1] / 3


def test_noise_has_its_spread():
    grey = np.full((20, SIZE, SIZE, 3), 128, np.uint8)
    laid = layer(noise={"strength": 0.1}).lay(grey, [0] * 20, range(20)).astype(float)
    assert laid.std() == pytest.approx(25.5, rel=0.02)  # 61,440 draws
    assert abs(np.corrcoef(laid[0].ravel(), laid[1].ravel())[0, 1]) < 0.1


def test_the_state_of_all_parts_is_what_is_drawn():
    told = layer(**PARTS)
    ids = told.ids(torch.tensor([0, 0, 1]))
    state = told.distraction.state(ids, torch.tensor([0, 1, 0]))
    assert state.shape == (3, 12 + 8 + 6 + 4)
    assert np.isfinite(state).all()
    assert len(np.unique(state, axis=0)) == 3
    # The mean colour of the picture's first quarter, in 128ths.
    laid = layer(tint={"strength": 0.4}).lay(white(1), [0], [0])[0, :16, :16].mean((0, 1))
    quarter = layer(tint={"strength": 0.4}).distraction.state(ids[:1], torch.tensor([0]))[0, :3]
    assert laid == pytest.approx(quarter * 255 / 128, abs=1)


DATA = dataset(np.arange(1, 13), terminals=[8], timeouts=[4])
OVER = {"tint": {"strength": 0.6, "grid": 4}, "noise": {"strength": 0.2}}


def test_batches_hold_each_row_under_its_own_distraction():
    """The same in every stack, as an observation and as the next one, and to the byte again."""
    over = Layer(distraction(size=8, **OVER), 3)
    drawn = sampler(DATA, layer=over)
    frames = over.lay(DATA.frames, DATA.episode.tolist(), DATA.step_in_episode.tolist())
    for _ in range(2):  # laid over, then kept
        batch = drawn.batch(np.array([0, 1, 2, 3, 6]))
        for obs, rows in (
            (batch.obs, ([0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [5, 5, 6])),
            (batch.next_obs, ([0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7])),
        ):
            for picture, stacked in zip(obs, rows, strict=True):
                expected = np.concatenate([frames[row] for row in stacked], axis=-1)
                assert np.array_equal(picture.permute(1, 2, 0), expected)
    clean = drawn.batch_under(np.array([0, 6]), None)
    assert torch.equal(clean.obs, sampler(DATA).batch(np.array([0, 6])).obs)
    other = drawn.batch_under(np.array([0, 6]), over.twin())
    assert not torch.equal(other.obs, drawn.batch(np.array([0, 6])).obs)
    assert torch.equal(drawn.batch(np.array([0])).obs, batch.obs[:1])
    assert np.array_equal(DATA.frames[3], np.full((8, 8, 3), 3))


def test_frames_that_are_not_kept_are_the_same(monkeypatch):
    over = Layer(distraction(size=8, **OVER), 3)
    kept = sampler(DATA, layer=over).batch(np.array([2, 7]))
    monkeypatch.setattr("benchbench.data.sampler.KEPT", 0)
    fresh = sampler(DATA, layer=over).batch(np.array([2, 7]))
    assert torch.equal(kept.obs, fresh.obs)
    assert torch.equal(kept.next_obs, fresh.next_obs)
    assert kept.obs.stride() == fresh.obs.stride()


class _Pool:
    count, pixels = 2, True


def test_a_roll_out_goes_on_in_its_rows_episode():
    """From stored frames on, time runs on: the distraction is that of the episode at that time."""
    over = Layer(distraction(size=8, **OVER), 3)
    stacks = Stacks(_Pool(), stack=2, spacing=1, layer=over)
    stacks.start(1, DATA.frames[6:8], episode=1, time=2)
    shown = Shown(0.0, 0.0, False, False, np.zeros(1), np.zeros(1), DATA.frames[8])
    before = stacks.observed({1: shown})[0][0]
    stacks.push({1: shown})
    frames = over.lay(DATA.frames[6:9], [1, 1, 1], [1, 2, 3])
    assert np.array_equal(before, np.concatenate([frames[0], frames[1]], axis=-1))
    after = stacks.observed({1: shown})[0][0]
    assert np.array_equal(after, np.concatenate([frames[1], frames[2]], axis=-1))


def pictures(folder):
    """Two pictures and a video of three, each of one colour."""
    (folder / "video").mkdir(parents=True)
    for name, colour in (("a.png", 10), ("b.jpg", 20), ("video/1.png", 30), ("video/2.png", 60),
                         ("video/3.png", 90)):  # fmt: skip
        Image.new("RGB", (50, 40), (colour,) * 3).save(folder / name)
    return str(folder)


def test_pictures_of_ones_own_and_videos_forth_and_back(tmp_path):
    folder = pictures(tmp_path)
    over = layer(background={"strength": 1, "pictures": folder})
    seen = {
        episode: over.lay(white(9), [episode] * 9, range(9))[:, 0, 0, 0].tolist()
        for episode in range(20)
    }
    assert {colours[0] for colours in seen.values()} <= {10, 20, 30, 60, 90}
    stills = [colours for colours in seen.values() if len(set(colours)) == 1]
    videos = [colours for colours in seen.values() if len(set(colours)) > 1]
    assert {colours[0] for colours in stills} == {10, 20}
    assert videos
    turn = [30, 60, 90, 60] * 4
    for colours in videos:
        assert any(colours == turn[k : k + 9] for k in range(4))


def test_pictures_that_are_gone_changed_or_broken_are_named(tmp_path):
    folder = pictures(tmp_path)
    settings = DistractSettings(background={"strength": 1, "pictures": folder})
    before = pictures_sha256(folder)
    (tmp_path / "a.png").write_bytes(b"no picture")
    pictures_sha256.cache_clear()
    with pytest.raises(UserError, match="have changed since the run"):
        Distraction(settings, SIZE, "light", pictures=before)
    with pytest.raises(UserError, match=r"a\.png: cannot be read as a picture"):
        Distraction(settings, SIZE, "light")
    empty = DistractSettings(background={"strength": 1, "pictures": str(tmp_path / "none")})
    with pytest.raises(UserError, match="holds no PNG"):
        Distraction(empty, SIZE, "light")


def test_layers_follow_from_data_pair_and_seed_and_never_from_the_variant():
    from helpers.suites import TINY

    from benchbench.suite.grid import expand
    from benchbench.suite.model import Suite

    told = TINY | {"pixels": TINY["pixels"] | {"distract": {"preset": "easy"}}, "seeds": 2}
    told |= {"evaluate": TINY["evaluate"] | {"distract": {"seed": 1}}}
    cells = expand(Suite.model_validate(told))
    assert len({data_layer(cell).stream for cell in cells}) == 1  # the data's, whoever reads them
    for unseen in (False, True):
        streams = {}
        for cell in cells:
            streams.setdefault(cell.seed, set()).add(episode_layer(cell, unseen=unseen).stream)
        assert [len(values) for values in streams.values()] == [1, 1]
        assert streams[0] != streams[1]
    assert episode_layer(cells[0]).stream != episode_layer(cells[0], unseen=True).stream
