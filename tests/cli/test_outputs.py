"""Where a verb is to write is looked at before it works, and what it writes appears whole."""

import os
import threading

import imageio.v3 as imageio
import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from helpers.results_factory import NOTHING, make_rows, make_suite, write_results

from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.core.files import replaced
from benchbench.launch.film import write_film
from benchbench.report import page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("verb", "cure"),
    [
        (("history", "nights", "--plot", "x.xyz"), "--plot x.xyz: name a file that ends in .png"),
        (("history", "nights", "--plot", "none/x.png"), "the folder none does not exist; make it"),
        (("history", "nights", "--csv", "none/x.csv"), "the folder none does not exist; make it"),
        (("audit", "s.yaml", "--figure", "x.gif"), "--figure x.gif: name a file that ends in"),
        (("audit", "s.py", "--output", "x.pdf"), "--output x.pdf: name a file that ends in .html"),
        (("audit", "s.py", "--output", "none/x.md"), "the folder none does not exist"),
        (("film", "s.yaml", "--out", "x.avi"), "--out x.avi: name a file that ends in .gif, .mp4"),
        (("film", "s.yaml", "--out", "none/x.gif"), "the folder none does not exist"),
        (("pack", "results", "--out", "x.tar"), "--out x.tar: name a file that ends in .zip"),
        (("pack", "results", "--out", "none/x.zip"), "the folder none does not exist"),
        (("export", ".", "--format", "onnx", "--out", "none/x"), "the folder none does not exist"),
        (("export", ".", "--to", "tensorboard", "--out", "file/x"), "file is a file; name a fold"),
        (("judge", "s.csv", "--delta", "1", "--out", "file/x"), "file is a file; name a folder"),
        (("data", "show", "x", "--out", "file/x"), "file is a file; name a folder"),
        (("scaling", "--results", "file/x"), "file is a file; name a folder"),
        (("suites", "copy", "quickstart", "--to", "file/x"), "file is a file; name a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(folder, monkeypatch, verb, cure):
    """Neither the suite, the script, the results nor the scores that these verbs name are here."""
    before = sorted(folder.rglob("*"))
    done = CliRunner().invoke(main, verb)
    assert done.exit_code == 2, done.output
    assert cure in done.output
    assert sorted(folder.rglob("*")) == before


def test_a_figures_ending_may_be_written_large(folder):
    done = CliRunner().invoke(main, ["history", "nights", "--plot", "X.PNG"])
    assert "nights: " in done.output  # the next mistake


@pytest.mark.parametrize("name", ["seen.gif", "SEEN.GIF"])
def test_a_film_that_cannot_be_finished_leaves_the_old_one(folder, monkeypatch, name):
    pictures = [np.full((32, 32, 3), level, np.uint8) for level in (0, 90, 180)]
    path = folder / name
    write_film(path, pictures)
    assert len(imageio.imread(path.read_bytes(), extension=".gif")) == 3
    old = path.read_bytes()

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_film(path, pictures[:2])
    assert path.read_bytes() == old
    assert {one.name for one in folder.iterdir()} == {name, "file", "folder.png"}


def test_a_file_with_a_long_name_has_a_draft(folder):
    path = folder / ("é" * 125)  # 250 of the 255 bytes that a name may have
    with replaced(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_second_report_waits_for_the_first(tmp_path, monkeypatch):
    suite = make_suite(seeds=2)
    write_results(tmp_path / "synthetic", suite, *make_rows(suite, NOTHING))
    written = threading.Event()
    monkeypatch.setattr(page, "_write", lambda *arguments: written.set())
    second = threading.Thread(target=page.write_report, args=(tmp_path / "synthetic",))
    with FileLock(tmp_path / "synthetic" / ".report.lock"):
        second.start()
        assert not written.wait(0.5)
    assert written.wait(60)
    second.join()


def test_a_report_of_no_results_makes_no_folder(tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        page.write_report(tmp_path / "none")
    assert not list(tmp_path.iterdir())
