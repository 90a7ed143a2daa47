"""How cost grows: are the stretched data sets what they say, and the figures where they belong?"""

import math
import os
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.cell.build import make_sampler, split
from benchbench.cli.main import main
from benchbench.data import store
from benchbench.data.store import is_here, open_dataset, set_folder
from benchbench.perf import scaling
from benchbench.perf.scaling import TOLD, medians, scaling_figure, stretched
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite


@pytest.fixture
def cell(tiny_data):
    return expand(Suite.model_validate(TINY))[0]


def test_a_stretched_set_is_its_own_over_and_over_takes_no_room_and_goes(cell):
    real = open_dataset(cell.data)
    with suppress(KeyboardInterrupt), stretched(cell.data, 4_000, 512) as identity:
        folder = set_folder(identity)
        frames = folder / "frames.npy"
        assert frames.stat().st_size > 4_000 * 512 * 512 * 3  # three gigabytes
        assert frames.stat().st_blocks * 512 < 1e6
        large = open_dataset(identity)
        assert large.frames.shape == (4_000, 512, 512, 3)
        assert not large.frames[-1].any()
        for name in ("states", "actions", "rewards", "timeouts", "qvel"):
            one, many = getattr(real, name), getattr(large, name)
            assert np.array_equal(many[3_000:], one[:1_000])  # a third time, as far as it goes
        assert identity.key != cell.data.key
        raise KeyboardInterrupt
    assert not folder.exists()
    assert is_here(cell.data)


@pytest.mark.filterwarnings("error")
def test_a_set_larger_than_the_memory_is_opened_and_drawn_from(cell):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rows = int(1.5 * memory / (2048 * 2048 * 3))
    with stretched(cell.data, rows, 2048) as identity:
        dataset = open_dataset(identity)
        assert dataset.frames.nbytes > memory
        sampler = make_sampler(cell, dataset, split(cell, dataset)[0], torch.device("cpu"))
        assert sampler.batch(np.array([rows - 3])).obs.shape == (1, 6, 2048, 2048)


def test_frames_of_a_large_set_are_asked_for_before_they_are_read(cell, monkeypatch):
    asked, advise = set(), os.posix_fadvise

    def remember(descriptor, place, count, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        asked.add(os.pread(descriptor, count, place))
        advise(descriptor, place, count, advice)

    monkeypatch.setattr(os, "posix_fadvise", remember)
    dataset = open_dataset(cell.data)
    rows = split(cell, dataset)[0]
    small = make_sampler(cell, dataset, rows, torch.device("cpu")).sample()
    assert not asked  # it fits into the memory
    monkeypatch.setattr(store, "PREFETCH_SHARE", 0.0)
    large = make_sampler(cell, dataset, rows, torch.device("cpu")).sample()
    assert torch.equal(large.obs, small.obs)
    for stacks in (large.obs, large.next_obs):
        frames = stacks.permute(0, 2, 3, 1).unflatten(3, (2, 3)).permute(0, 3, 1, 2, 4)
        needed = {frame.contiguous().numpy().tobytes() for frame in frames.flatten(0, 1)}
        assert needed <= asked


@pytest.mark.slow
def test_the_verb_measures_all_that_grows(cell, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "ROWS", (2_000, 1_000_000))
    monkeypatch.setattr(scaling, "BATCHES", (1.0,))
    monkeypatch.setattr(scaling, "SIZES", ())
    monkeypatch.setattr(scaling, "SEEDS", (2,))
    monkeypatch.setattr(scaling, "JOBS", (1,))
    monkeypatch.setattr(scaling, "GRID", {"updates": 2, "every": 2, "episodes": 1})
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    own, sets = set_folder(cell.data), set_folder(cell.data).parent
    sets.mkdir(parents=True, exist_ok=True)
    before = {folder for folder in sets.iterdir() if folder.is_dir()}
    arguments = ["--device", "cpu", "--threads", "1", "--rounds", "1", "--results", str(tmp_path)]
    done = CliRunner().invoke(main, ["scaling", str(path), *arguments])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "scaling" / "scaling.png").stat().st_size > 10_000
    found = pd.read_parquet(tmp_path / "scaling" / "scaling.parquet")
    assert set(found["along"]) == {"rows", "batch", "size", "seeds"}
    cells = found[found["along"] != "seeds"]
    assert (cells[["start_s", "update_ms", "cpu_ms", "memory_mb"]] > 0).all(axis=None)
    few, many = cells[cells["along"] == "rows"].sort_values("at")["memory_mb"]
    per_row = 2 * 8 + 8 + 4 * (2 + 2 + 1 + 1)  # rows of a stack, the next one's, what a batch holds
    assert many - few > per_row * 998_000 / 2**20
    (grid,) = found[found["along"] == "seeds"].itertuples()
    assert (grid.at, grid.jobs) == (2, 1)
    assert grid.grid_s > 0
    assert math.isnan(grid.update_ms)
    assert {folder for folder in sets.iterdir() if folder.is_dir()} == before | {own}


def table():
    nothing = dict.fromkeys(TOLD, math.nan)
    rows = []
    for number, factor in enumerate((1, 3, 2)):
        for at in (1, 2):
            rows.append({**nothing, "along": "seeds", "at": at, "jobs": 1, "round": number,
                         "grid_s": 10.0 * at * factor})  # fmt: skip
            for along in ("batch", "rows"):
                told = {**nothing, "along": along, "at": at, "jobs": 1, "round": number}
                told |= {"update_ms": 10.0 * factor, "cpu_ms": 5.0, "memory_mb": 100.0}
                rows.append(told | {"start_s": 1.0})
    return pd.DataFrame(rows)


def test_a_point_of_the_figure_is_the_median_of_its_rounds_with_its_spread():
    rows = medians(table())
    (row,) = rows[(rows["along"] == "seeds") & (rows["at"] == 2)].itertuples()
    assert (row.measure, row.median, row.min, row.max) == ("grid_s", 40, 20, 60)
    axes = scaling_figure(table()).axes
    grid = axes[3].containers[0]
    assert grid.lines[0].get_xydata().tolist() == [[1, 20], [2, 40]]
    assert not axes[1].get_visible()  # of states: there are no frames that could grow
    proportion = axes[0].lines[-1].get_xydata()
    assert proportion.tolist() == [[1, 10], [2, 20]]  # half the last one's at half the batch
