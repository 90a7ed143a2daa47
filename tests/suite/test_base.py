"""Suites that build on another."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite

BASE = """\
name: base
seeds: 2
variants: [before, after]
envs:
  - id: bullet-maze2d-open-v0
agent: {feature_dim: 8, tau: 0.1}
train: {updates: 10}
"""
HEAD = "base: ../base.yaml\nname: mine\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def load(folder, text):
    path = folder / "sub" / "mine.yaml"
    path.write_text(text)
    return load_suite(path)


def mistake(folder, text):
    with pytest.raises(UserError) as caught:
        load(folder, text)
    return caught.value.message.replace(f"{folder}/", "").replace("sub/../", "")


def test_mappings_are_merged_and_lists_and_values_replaced(folder):
    suite = load(folder, HEAD + "seeds: [7]\nvariants: [after]\nagent: {tau: 0.2}\n")
    assert (suite.name, suite.seed_list) == ("mine", (7,))
    assert [routing.name for routing in suite.routings] == ["after"]
    assert (suite.agent.feature_dim, suite.agent.tau, suite.train.updates) == (8, 0.2, 10)


def test_a_suite_that_changes_nothing_but_its_name_has_the_cells_of_its_base(folder):
    keys = [cell.key for cell in expand(load_suite(folder / "base.yaml"))]
    assert [cell.key for cell in expand(load(folder, HEAD))] == keys


def test_a_shipped_suite_is_a_base_by_its_name(folder):
    mine = load(folder, "base: quickstart\nname: mine\nseeds: 1\n")
    assert mine.envs == load_suite(Path("quickstart")).envs
    assert mine.seed_list == (0,)


def test_conditions_may_take_away_what_a_base_states(folder):
    mine = load(folder, "base: quickstart\nname: mine\nconditions: "
                        "{plain: {}, clean: {pixels.distract: null}}\n")  # fmt: skip
    distract = {cell.condition: cell.pixels.distract for cell in expand(mine)}
    assert distract["clean"] is None
    assert distract["plain"] is not None


def test_a_base_has_a_base(folder):
    (folder / "middle.yaml").write_text("base: base.yaml\nname: middle\ntrain: {batch_size: 3}\n")
    mine = load(folder, "base: ../middle.yaml\nname: mine\ntrain: {n_step: 4}\n")
    assert (mine.train.updates, mine.train.batch_size, mine.train.n_step) == (10, 3, 4)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "agent: {tua: 1}\n", "sub/mine.yaml:3: agent.tua:", "did you mean 'tau'"),
        (HEAD + "envs: [{id: hoper}]\n", "sub/mine.yaml:3: envs.0.id:", "not an environment"),
        (HEAD + "train:\n  updates: 0\n", "sub/mine.yaml:4: train.updates:", "greater than"),
        ("base: ../base.yaml\n", "sub/mine.yaml: name:", "is missing"),
        ("base: quikstart\nname: mine\n", "sub/mine.yaml:1: base:", "did you mean 'quickstart'"),
        ("name: mine\nbase: ../bass.yaml\n", "sub/mine.yaml:2: base:", "is not a file"),
        ("name: mine\nbase: 3\n", "sub/mine.yaml:2: base:", "name or path, not 3"),
        ("name: mine\nbase: mine.yaml\n", "sub/mine.yaml:2: base:", "builds on itself"),
        (BASE + "bsae: quickstart\n", "sub/mine.yaml:8: bsae:", "did you mean 'base'"),
    ],
)
def test_a_mistake_names_the_right_file_and_line(folder, text, place, words):
    message = mistake(folder, text)
    assert message.startswith(place)
    assert words in message


def test_a_mistake_of_the_base_is_named_there(folder):
    (folder / "base.yaml").write_text(BASE.replace("updates: 10", "updats: 10"))
    message = mistake(folder, HEAD + "train: {n_step: 2}\n")
    assert message.startswith("base.yaml:7: train.updats:")


def test_a_circle_is_refused(folder):
    (folder / "base.yaml").write_text("base: sub/mine.yaml\n" + BASE)
    message = mistake(folder, HEAD)
    assert message.startswith("base.yaml:1: base: builds on itself")
    assert "mine.yaml builds on base.yaml builds on mine.yaml" in message


def test_plan_show_prints_the_merged_suite(folder):
    load(folder, HEAD + "agent: {tau: 0.2}\n")
    asked = ["plan", str(folder / "sub" / "mine.yaml"), "--show", "--set", "train.updates=5"]
    shown = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.output) == yaml.safe_load(BASE) | {
        "name": "mine", "agent": {"feature_dim": 8, "tau": 0.2}, "train": {"updates": 5}
    }  # fmt: skip
