"""A clock put back, a folder gone or linked, a suite edited, decimal commas: nothing is lost."""

import json
import locale
import shutil
import socket
import subprocess
from dataclasses import asdict, replace

import pandas as pd
import pytest
import yaml
from helpers.suites import TINY

import benchbench
from benchbench.core.errors import UserError
from benchbench.launch.run import run_suite
from benchbench.report import gallery, write_report
from benchbench.results import heartbeat as beats
from benchbench.results.foreign import write_foreign
from benchbench.results.heartbeat import Heartbeat, read_heartbeat
from benchbench.results.lock import held
from benchbench.results.store import Store
from benchbench.results.tables import read_suite
from benchbench.suite.grid import Grid
from benchbench.suite.model import Suite

NOW = 1_000_000.0
FAR = Heartbeat("k", 1, "elsewhere", "", "cpu", NOW - 60, 0, 10, 20, NOW)


@pytest.mark.parametrize(("seen", "alive"), [(0, True), (-100, True), (-130, False), (3600, False)])
def test_a_heartbeat_of_the_future_is_no_sign_of_life(monkeypatch, seen, alive):
    """As a clock that was put back by an hour leaves it; a cell that lives writes a new one."""
    monkeypatch.setattr(beats.time, "time", lambda: NOW)
    assert FAR.host != socket.gethostname()
    assert replace(FAR, seen=NOW + seen).alive is alive


def test_no_time_is_left_to_tell_where_the_clock_ran_backwards():
    assert FAR.seconds_left() == pytest.approx(60)
    assert replace(FAR, seen=FAR.since - 3600).seconds_left() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("pid", "1"), ("pid", 0), ("pid", 2**40), ("seen", "now"), ("since", 1e300), ("wanted", None),
     ("updates", -1), ("host", 3)],
)  # fmt: skip
def test_a_damaged_heartbeat_is_none(tmp_path, name, value):
    path = tmp_path / "k.json"
    path.write_text(json.dumps(asdict(FAR)))
    assert read_heartbeat(path) == FAR
    path.write_text(json.dumps(asdict(FAR) | {name: value}))
    assert read_heartbeat(path) is None


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another in its place"])
def test_a_run_whose_folder_is_moved_says_so_and_makes_no_second_one(tmp_path, tiny_data, again):
    grid = Grid.of(Suite.model_validate(TINY))
    store, moved = Store(tmp_path / "results", "tiny"), tmp_path / "moved"

    class Mover:
        """An executor under which the folder is moved before the first cell is finished."""

        def run(self, cells, store, progress, options):
            store.folder.rename(moved)
            if again:
                with held(store):
                    pass
            progress.finished(cells[0], 1.0, 1.0)
            pytest.fail("the run went on")

    with pytest.raises(UserError, match="was moved, replaced or unmounted while this went on"):
        run_suite(grid, store, Mover())
    assert (moved / "suite.json").exists()
    assert not (store.folder / "suite.json").exists()


def test_a_linked_results_folder_is_written_through_and_stays_a_link(tmp_path, tiny_data):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    grid = Grid.of(Suite.model_validate(TINY))

    class Nobody:
        def run(self, cells, store, progress, options):
            progress.finished(cells[0], 1.0, 1.0)

    assert run_suite(grid, Store(tmp_path / "results", "tiny"), Nobody()) == []
    assert (tmp_path / "results").is_symlink()
    assert (tmp_path / "disk" / "tiny" / "suite.json").exists()


@pytest.mark.parametrize(
    "edited", ["name: other\nseeds: 9\n", "{", None], ids=["another", "broken", "gone"]
)
def test_a_suite_that_is_edited_while_it_runs_is_run_as_it_was(
    tmp_path, tiny_data, monkeypatch, edited
):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))

    def edit(self, cells, store, progress, options):
        path.unlink()
        if edited:
            path.write_text(edited)
        progress.finished(cells[0], 1.0, 1.0)

    monkeypatch.setattr("benchbench.launch.debug.Debug.run", edit)
    benchbench.run(path, executor="debug", device="cpu", results=tmp_path / "results")
    suite, plan = read_suite(tmp_path / "results" / "tiny")
    assert suite == Suite.model_validate(TINY)
    assert list(plan["key"]) == [cell.key for cell in Grid.of(suite).cells]


@pytest.fixture
def commas(tmp_path, monkeypatch):
    """Decimal commas, as German has them, for whatever asks the locale."""
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-f", "UTF-8", "-i", "de_DE", str(tmp_path / "de_DE.UTF-8")],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    before = locale.setlocale(locale.LC_ALL)
    if not made:
        pytest.skip("localedef or its sources are not installed")
    locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
    yield
    locale.setlocale(locale.LC_ALL, before)


def test_a_locale_with_decimal_commas_changes_no_file(tmp_path, commas, monkeypatch):
    assert locale.str(1.5) == "1,5"
    monkeypatch.setattr(gallery, "save", lambda figure, folder, name, pdf=False: [
        (folder / f"{name}.{kind}").write_bytes(b"<svg/>") for kind in ("png", "svg", "pdf")
    ])  # fmt: skip
    scores = pd.DataFrame(
        [("maze", seed, variant, step, seed / 7 + step * (variant == "b"))
         for seed in range(4) for variant in "ab" for step in (0, 5)],
        columns=["env", "seed", "variant", "step", "score"],
    )  # fmt: skip
    written = []
    for name in ("de_DE.UTF-8", "C"):
        locale.setlocale(locale.LC_ALL, name)
        folder = tmp_path / name[0] / "same"
        write_foreign(folder, scores, 0.5, [("b", "a")])
        write_report(folder, paper=True)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert any(name.endswith(".tex") for name in written[0])
    assert written[0] == written[1]
