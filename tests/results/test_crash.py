"""A fault at file operations of a grid's life; all of them: ``tests/tools/crash_sweep.py``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.gate_factory import make_night

from benchbench.core.errors import UserError
from benchbench.gate import snapshot
from benchbench.results.clean import Litter, remove

SWEEP = Path(__file__).parents[1] / "tools" / "crash_sweep.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and forks")
def test_a_sample_of_faults_loses_nothing_and_leaves_nothing_half_made():
    done = subprocess.run(
        [sys.executable, str(SWEEP), "--stage", "data", "--stage", "run", "--sample", "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 points tried, 0 with a fault" in done.stdout


def night(commit):
    found = make_night(np.random.default_rng(0), seeds=1, source="x", git_commit=commit)
    suite = found.suite.model_copy(update={"tolerance": 1e-6})
    return snapshot.Snapshot("x", suite, found.cells, found.numbers)


def test_numbers_of_one_run_are_never_read_with_cells_of_another(tmp_path, monkeypatch):
    """As an update that broke off between the two files leaves them."""
    snapshot.write_baseline(night("0" * 40), tmp_path)
    assert len(snapshot.load_snapshot(tmp_path).cells)
    cells = (tmp_path / "cells.parquet").read_bytes()
    snapshot.write_baseline(night("1" * 40), tmp_path)
    (tmp_path / "cells.parquet").write_bytes(cells)
    with pytest.raises(UserError, match="not of the run of its cells"):
        snapshot.load_snapshot(tmp_path)


def test_a_cell_that_is_half_removed_has_lost_its_name_first(tmp_path, monkeypatch):
    cell = tmp_path / "cells" / "abc"
    cell.mkdir(parents=True)
    (cell / "cells.parquet").touch()

    def refuse(path, *rest, **more):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(PermissionError):
        remove(Litter(cell, "left the suite", 0))
    assert not cell.exists()
    assert [path.name[:7] for path in cell.parent.iterdir()] == [".draft-"]
