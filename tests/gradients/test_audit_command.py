"""The audit's command and its picture, and what importing it takes."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchbench.cli.main import main
from benchbench.cli.suite_audit import Bar, Flow, flows_figure
from benchbench.gradients import audit as audit_room
from benchbench.routing import REGISTRY

QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.yaml"


# ------------------------------------------------------------ the public face


def test_the_readmes_example_does_what_it_says():
    result = doctest.testmod(audit_room, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (result.failed, result.attempted > 5) == (0, True)


def test_importing_benchbench_imports_no_torch():
    code = "import sys, benchbench; assert 'torch' not in sys.modules; assert benchbench.audit"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_picture_draws_each_fate_of_its_own():
    loop = ("zero_grad", "critic_optimizer"), ("backward", "critic_loss"), ("step", "critic_loss")
    bars = Bar("critic_loss", 0.5, 1, (2,), 3), Bar("vae_loss", 0.25, -2, (), 0)
    (ax,) = flows_figure([Flow("mine", ("critic_optimizer",), loop, bars)]).axes
    applied, dropped = ax.patches
    assert (applied.get_x(), applied.get_width(), applied.get_hatch()) == (1, 1, None)
    assert (dropped.get_x(), dropped.get_width()) == (-0.5, 0.5)
    assert dropped.get_hatch()
    signs = [(line.get_marker(), line.get_xdata()[0]) for line in ax.lines]
    assert ("v", 2) in signs
    assert ("X", 0) in signs
    assert "0.5" in [text.get_text() for text in ax.texts]


SMALL = (
    "--set", "pixels.size=16", "--set", "train.batch_size=8", "--set", "agent.hidden=[16]",
    "--set", "envs.0.data.transitions=1500",
)  # fmt: skip


def test_the_command_shows_the_flows_of_the_variants_and_draws_them(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    figure = tmp_path / "flows.svg"
    command = ["audit", str(QUICKSTART), *SMALL, "--figure", str(figure)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    before, after = result.output.split("══ after ══")
    assert "warning 1: critic_loss puts a gradient on obs_encoder, and actorvae_optimizer" in before
    assert "no warnings" in after
    assert result.output.count("measured: as declared") == 2
    svg = figure.read_bytes()
    assert svg.startswith(b"<?xml")
    chosen = [f"--variant={name}" for name in REGISTRY]
    result = CliRunner().invoke(main, ["audit", str(QUICKSTART), *SMALL, *chosen])
    assert result.exit_code == 0, result.output
    assert [f"══ {name} ══" in result.output for name in REGISTRY] == [True] * len(REGISTRY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variant", "befor"], "did you mean 'before'?"),
        (["--figure", "flows.gif"], "ends in .png, .svg, .pdf"),
        (["--figure", "nowhere/flows.png"], "make it first"),
        (
            [
                f"--set={key}"
                for key in ("observation=state", "variants=[frozen]", "envs.0.proprio=[]")
            ],
            "no encoder to audit",
        ),
    ],
)
def test_mistakes_in_the_command_are_told_without_a_traceback(options, words):
    result = CliRunner().invoke(main, ["audit", str(QUICKSTART), *options])
    assert result.exit_code == 2, result.output
    assert words in result.output
