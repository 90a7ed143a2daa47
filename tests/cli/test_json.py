"""JSON for programs says what the text says, and completion knows the suite."""

import json

import pytest
import yaml
from click.shell_completion import ShellComplete, get_completion_class
from click.testing import CliRunner
from helpers.results_factory import NOTHING, make_rows, make_suite, write_results
from helpers.suites import TINY

from benchbench.cli.main import main
from benchbench.report import gallery


@pytest.fixture
def suite_file(tmp_path, monkeypatch, tiny_data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return "tiny.yaml"


def printed(*words):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_plan_names_every_cell_and_its_data(suite_file):
    told = printed("plan", suite_file, "--device", "cpu", "--json")
    assert [cell["variant"] for cell in told["cells"]] == TINY["variants"]
    assert {cell["state"] for cell in told["cells"]} == {"to run"}
    assert told["data"][0]["here"] is True
    assert told["seconds"] > 0


def test_the_status_of_what_was_never_run(suite_file):
    told = printed("status", suite_file, "--json")
    assert [cell["state"] for cell in told["cells"]] == ["missing"] * 3
    assert [cell["done"] for cell in told["cells"]] == [0] * 3


def test_an_audit_says_that_each_variant_is_as_declared(suite_file):
    told = printed("audit", suite_file, "--variant", "before", "--json")
    assert [(one["variant"], one["as_declared"]) for one in told] == [("before", True)]


def test_a_report_prints_its_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "save", lambda figure, folder, name, pdf=False: [
        (folder / f"{name}.{kind}").write_bytes(b"<svg/>") for kind in ("png", "svg")
    ])  # fmt: skip
    suite = make_suite(seeds=2)
    write_results(tmp_path / "synthetic", suite, *make_rows(suite, NOTHING))
    told = printed("report", "synthetic", "--results", str(tmp_path), "--json")
    score = next(one for one in told["claims"] if one["claim"] == "score")
    assert score["verdict"] == "inconclusive"
    assert score["f"] is None, "what is not known is null, so that any JSON reader takes it"


@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        ("--only va", 4, ["plain,variant="]),
        ("--only variant =", 5, [f"plain,{name}" for name in TINY["variants"]]),
        ("--only variant = a", 6, ["plain,after"]),
        ("--set train.updates = 5 --only variant = a", 10, ["plain,after"]),
    ],
)
def test_bash_which_breaks_words_at_equals_completes_them_too(
    suite_file, monkeypatch, words, at, offered
):
    monkeypatch.setenv("COMP_WORDS", f"benchbench run {suite_file} {words}")
    monkeypatch.setenv("COMP_CWORD", str(at))
    shell = get_completion_class("bash")(main, {}, "benchbench", "_BENCHBENCH_COMPLETE")
    assert shell.complete().split("\n") == offered


def test_the_shell_completes_onlys_values_and_suites(suite_file):
    shell = ShellComplete(main, {}, "benchbench", "_BENCHBENCH_COMPLETE")

    def offered(*words):
        return [one.value for one in shell.get_completions(list(words[:-1]), words[-1])]

    variants = [f"variant={name}" for name in TINY["variants"]]
    assert offered("run", suite_file, "--only", "variant=") == variants
    assert offered("run", suite_file, "--only", "env=m") == ["env=maze2d-open-v0"]
    assert "quickstart" in offered("run", "qui")
    assert offered("run", "no-such-suite", "--only", "env=") == []
