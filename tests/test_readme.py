"""The README and the pages beside what they describe say what is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.agent import agent_class
from benchbench.agent.networks import make_encoder
from benchbench.cli.main import main
from benchbench.routing import REGISTRY
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / ".github" / "workflows" / "README.md",
        ROOT / "benchbench" / "README.md",
        ROOT / "suites" / "README.md",
        *(ROOT / "results").rglob("*.md"),
    ]
)
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}


def test_ci_runs_the_readmes_second_command():
    command = next(line for line in README.splitlines() if line.endswith("-m pytest"))
    venv, install, test = command.split(" && ")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert venv in script
    assert install.split()[-1] in script
    assert test in script


SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
COMMANDS = sorted(
    {
        " ".join(found.split())
        for text in TEXT.values()
        for found in [
            *re.findall(r"`(benchbench\s[^`]+)`", SHELL.sub("", text)),
            *(
                c
                for block in SHELL.findall(text)
                for c in re.findall(r"benchbench [^#\n&]+", block)
            ),
        ]
    }
    - {"benchbench --help"}
)


def test_every_verb_is_on_a_page():
    named = {command.split()[1] for command in COMMANDS}
    assert named == set(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_a_page_is_one_that_the_command_line_takes(command, tmp_path, monkeypatch):
    words = shlex.split(command)[1:]
    group = main
    while isinstance(group, click.Group) and (words or not group.invoke_without_command):
        verb = words.pop(0)
        assert verb in group.commands, f"{verb} is not a verb"
        group = group.commands[verb]
    monkeypatch.chdir(tmp_path)
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
    if words:  # else the verb is only mentioned
        group.make_context(verb, words)


def test_the_suites_page_names_every_variant():
    page = TEXT[ROOT / "suites" / "README.md"]
    listed = page[page.index("`benchbench variants`") :].split("Only `before`")[0]
    assert set(re.findall(r"`([a-z-]+)`", listed)) >= set(REGISTRY)
    shown = CliRunner().invoke(main, ["variants"]).output
    assert all(routing.why in shown for routing in REGISTRY.values())


def test_the_readmes_suite_is_a_suite(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert len(expand(load_suite(path))) == 10 * len(yaml.safe_load(text)["variants"])


def test_the_readmes_audit_finds_what_it_says():
    """The loop is the first story on the audit's own page, where the names are shorter."""
    page = ROOT / "benchbench" / "gradients" / "README.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    code = code.replace("_opt", "_optimizer").replace("encoder", "obs_encoder")
    head = "import torch, benchbench\nfrom torch import nn\n"
    done = subprocess.run([sys.executable, "-"], input=head + code, capture_output=True, text=True)
    warning = README[README.index("warning 1:") :].split("```")[0].removeprefix("warning 1:")
    assert " ".join(warning.split()) in " ".join(done.stdout.split())


def test_the_readmes_agent_and_encoder_are_usable(tmp_path, monkeypatch):
    code = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "(LAPO)" in b)
    # By another name than the README's: a module of that name may have been imported before.
    (tmp_path / "of_the_readme.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert agent_class("of_the_readme:Steeper")
    assert make_encoder("of_the_readme:body", 6, 16, 8)(
        torch.zeros(2, 6, 16, 16, dtype=torch.uint8)
    ).shape == (2, 8)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_of_the_pages_are_there(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT[page]):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_readme_can_be_read_in_ten_minutes():
    assert len(README.splitlines()) <= 150


def test_the_readmes_python_runs(tmp_path, tiny_data, monkeypatch):
    code = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if ".run(" in b)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "quickstart.yaml").write_text(yaml.safe_dump(TINY))
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "results" / "tiny" / "cells.parquet").exists()
