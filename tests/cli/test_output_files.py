"""A file that cannot be written is refused before any work, by every verb that writes one."""

import pytest
from click.testing import CliRunner

from benchbench.cli.main import main

VERBS = [
    (["history", "night", "--plot"], ".png", ".xyz"),
    (["history", "night", "--csv"], ".csv", ".tsv"),
    (["audit", "quickstart", "--figure"], ".svg", ".gif"),
    (["audit", "train.py", "--output"], ".html", ".docx"),
    (["film", "quickstart", "--out"], ".gif", ".avi"),
    (["pack", "night", "--out"], ".zip", None),
]


def refused(arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert len(done.output.strip().splitlines()) == 1
    return done.output


@pytest.mark.parametrize(("verb", "suffix", "wrong"), VERBS)
def test_a_folder_that_is_not_there_is_not_made(tmp_path, monkeypatch, verb, suffix, wrong):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "none" / f"file{suffix}"
    assert f"the folder {path.parent} does not exist" in refused([*verb, str(path)])
    assert not path.parent.exists()


@pytest.mark.parametrize(("verb", "suffix", "wrong"), [v for v in VERBS if v[2]])
def test_a_format_that_cannot_be_written_is_refused(tmp_path, monkeypatch, verb, suffix, wrong):
    monkeypatch.chdir(tmp_path)
    assert suffix in refused([*verb, str(tmp_path / f"file{wrong}")])
