"""Suites by name: found wherever benchbench is installed, and never in the way of a file."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.suite import file as shipped
from benchbench.suite.load import load_suite

SUITES = Path(__file__).parents[2] / "suites"


def run(*arguments):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    return done.exit_code, done.output


def test_every_suite_of_the_folder_is_shipped_under_its_name_and_says_what_it_is():
    found = shipped.shipped_suites()
    assert set(found) == {path.stem for path in SUITES.glob("*.yaml")}
    assert next(iter(found)) == "quickstart"
    for name, path in found.items():
        assert load_suite(Path(name)) == load_suite(path)
        assert load_suite(path).name == name
        assert shipped.describe(path)


def test_a_file_comes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (SUITES / "quickstart.yaml").read_text(encoding="utf-8")
    Path("quickstart").write_text(text.replace("name: quickstart", "name: mine"), encoding="utf-8")
    assert load_suite(Path("quickstart")).name == "mine"
    Path("quickstart").unlink()
    Path("quickstart").mkdir()  # a folder is no suite
    assert load_suite(Path("quickstart")).name == "quickstart"


def test_an_installed_package_reads_its_own_copy(tmp_path, monkeypatch):
    package = tmp_path / "site" / "benchbench"
    shutil.copytree(SUITES, package / "shipped_suites")
    monkeypatch.setattr(shipped, "__file__", str(package / "suite" / "file.py"))
    assert shipped.shipped_folder() == package / "shipped_suites"
    shutil.rmtree(package / "shipped_suites")
    with pytest.raises(UserError, match="has no suites beside it; install benchbench again"):
        shipped.shipped_folder()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("quickstrat", "is neither a file nor a suite that benchbench ships; did you mean 'quick"),
        ("suites/none.yaml", "cannot be read (No such file or directory); check the path, or name"),
        ("none.yaml", "cannot be read (No such file or directory); check the path, or name"),
        ("a/quickstart", "cannot be read (No such file or directory); check the path, or name"),
    ],
)
def test_what_is_neither_a_file_nor_shipped_is_refused_in_a_sentence(named, told, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        code, output = run("plan", named)
    assert code == 2
    assert told in output


def test_the_verb_lists_them_a_line_each():
    code, output = run("suites")
    lines = output.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == list(shipped.shipped_suites())
    assert lines[0].endswith(load_suite(Path("quickstart")).description)


def test_a_copy_is_the_suite_to_edit_with_its_schema_and_is_never_written_over(tmp_path):
    code, output = run("suites", "copy", "quickstart", "--to", tmp_path / "new")
    assert code == 0
    copied = tmp_path / "new" / "quickstart.yaml"
    assert str(copied) in output
    assert copied.read_bytes() == (SUITES / "quickstart.yaml").read_bytes()
    schema = tmp_path / "new" / "suite.schema.json"
    assert schema.read_bytes() == (SUITES / "suite.schema.json").read_bytes()
    copied.write_text("edited", encoding="utf-8")
    code, output = run("suites", "copy", "quickstart", "--to", tmp_path / "new")
    assert code == 2
    assert "is there already" in output
    assert copied.read_text(encoding="utf-8") == "edited"
    code, output = run("suites", "copy", "../quickstart")
    assert code == 2
    assert "is not a suite that benchbench ships" in output


def test_data_verbs_take_a_suites_name(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    code, output = run("data", "list", "quickstart")
    assert code == 0
    assert "maze2d-open-v0" in output
    assert "can be made" in output
