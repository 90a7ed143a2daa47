"""The same environment under several settings: names and conditions."""

import pytest

from benchbench.core.errors import UserError
from benchbench.suite.grid import expand, select
from benchbench.suite.load import load_suite
from benchbench.suite.model import Suite

MAZE, HOPPER = "bullet-maze2d-open-v0", "bullet-hopper-v0"
TWO = {"plain": {}, "small-lr": {"agent.encoder_lr": 1e-4}}
TEXT = """\
name: mine
seeds: 2
variants: [before, after]
envs:
  - id: bullet-maze2d-open-v0
    data: {noise: 0.3}
conditions:
  plain: {}
  other: {agent.encoder_lr: 1e-4}
"""


def suite(**more):
    plain = {"name": "x", "seeds": 2, "variants": ["before", "after"], "envs": [{"id": MAZE}]}
    return Suite.model_validate(plain | more)


def mistake(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_suite(path)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{tmp_path}/")


def test_each_condition_holds_the_whole_grid_under_its_own_label():
    cells = expand(suite(envs=[{"id": MAZE}, {"id": HOPPER}], conditions=TWO))
    labels = list(dict.fromkeys(cell.stratum for cell in cells))
    assert labels == [f"{env}@{c}" for env in (MAZE, HOPPER) for c in ("plain", "small-lr")]
    assert len(cells) == len({cell.key for cell in cells}) == 2 * 2 * 2 * 2
    rates = {cell.condition: cell.agent.encoder_lr for cell in cells}
    assert rates == {"plain": 2e-4, "small-lr": 1e-4}


def test_a_named_condition_without_settings_is_the_suite_as_it_was():
    """So that adding conditions to a suite keeps the cells that are finished."""
    before = {cell.key for cell in expand(suite())}
    cells = expand(suite(conditions=TWO))
    assert {cell.key for cell in cells if cell.condition == "plain"} == before
    assert {c.key for c in expand(suite(envs=[{"id": MAZE, "name": "open"}]))} == before


def test_a_seed_draws_the_same_under_every_condition_and_name():
    cells = expand(suite(conditions=TWO))
    cells += expand(suite(envs=[{"id": MAZE, "name": "open", "train": {"updates": 5}}]))
    assert len({(cell.seed, cell.stream("weights")) for cell in cells}) == 2


def test_a_condition_goes_before_what_suite_and_environment_state():
    env = {"id": MAZE, "agent": {"encoder_lr": 3e-4, "tau": 0.1}, "pixels": {"size": 32},
           "data": {"noise": 0.3, "transitions": 900}}  # fmt: skip
    over = {"agent.encoder_lr": 1e-4, "pixels.stack": 2, "evaluate": {"every": 7},
            "train.updates": 9, "data.noise": 0.9}  # fmt: skip
    cell = expand(suite(envs=[env], agent={"vae_lr": 5e-4}, conditions={"c": over}))[0]
    assert (cell.agent.encoder_lr, cell.agent.tau, cell.agent.vae_lr) == (1e-4, 0.1, 5e-4)
    assert (cell.pixels.size, cell.pixels.stack) == (32, 2)
    assert (cell.evaluate.every, cell.train.updates) == (7, 9)
    assert (cell.data.source.noise, cell.data.source.transitions) == (0.9, 900)


def test_a_condition_reaches_the_distractions():
    tints = {"plain": {}, "tint": {"pixels.distract": "easy"},
             "drop": {"pixels": {"distract": "easy"}, "evaluate.distract": "hard"}}  # fmt: skip
    made = suite(conditions=tints)
    layers = {cell.condition: (cell.pixels.distract, cell.unseen) for cell in expand(made)}
    assert layers["plain"] == (None, None)
    assert layers["tint"][0] is not None
    assert layers["tint"][1] is None
    assert layers["drop"][1] is not None
    assert made.has_unseen
    stored = Suite.model_validate(made.model_dump(mode="json", exclude_unset=True))
    assert [cell.key for cell in expand(stored)] == [cell.key for cell in expand(made)]


def test_another_source_takes_the_place_of_the_whole_source():
    env = {"id": "maze2d-open-v0", "data": {"noise": 0.3}}
    cell = expand(suite(envs=[env], conditions={"theirs": {"data.source": "d4rl"}}))[0]
    assert cell.data.source.model_dump() == {"source": "d4rl"}


def test_the_same_environment_stands_twice_under_two_names():
    envs = [{"id": MAZE}, {"id": MAZE, "name": "wide", "pixels": {"size": 64}}]
    found = {(cell.stratum, cell.env, cell.pixels.size) for cell in expand(suite(envs=envs))}
    assert found == {(MAZE, MAZE, 84), ("wide", MAZE, 64)}


def test_only_takes_conditions_labels_names_and_ids():
    envs = [{"id": MAZE}, {"id": MAZE, "name": "wide", "pixels": {"size": 64}}]
    cells = expand(suite(envs=envs, conditions=TWO))
    assert {c.condition for c in select(cells, {"condition": {"plain"}})} == {"plain"}
    assert {c.stratum for c in select(cells, {"env": {"wide@plain"}})} == {"wide@plain"}
    assert {c.name for c in select(cells, {"env": {"wide"}})} == {"wide"}
    assert select(cells, {"env": {MAZE}}) == cells
    with pytest.raises(UserError, match="no such condition; it has plain, small-lr"):
        select(cells, {"condition": {"plane"}})


RATE = "{agent.encoder_lr: 1e-4}"


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        (RATE, "{agent.encodr_lr: 1}", "9: conditions.other.agent.encodr_lr:", "'encoder_lr'"),
        (RATE, "{agnt.tau: 1}", "9: conditions.other", "did you mean 'agent'"),
        (RATE, "{agent.tau: 7}", "9: conditions.other.agent.tau:", "less than or equal to 1"),
        (RATE, "{agent: {tua: 7}}", "9: conditions.other.agent.tua:", "did you mean 'tau'"),
        (RATE, "{seeds: 3}", "9: conditions.other.seeds:", "not a key here"),
        (RATE, "{data.nois: 1}", "9: conditions.other.data.nois:", "did you mean 'noise'"),
        (RATE, "{data.noise: -1}", "9: conditions.other.data.noise:", "greater than or equal to 0"),
        (RATE, "{proprio: [speed]}", "9: conditions.other.proprio:", "no 'speed'"),
        (RATE, "{agent: {tau: 0.1}, agent.tau: 0.2}", "9: conditions.other", "'tau' is stated twi"),
        ("lr: 1e-4", "lr: 2e-4", "9: conditions.other:", "changes nothing"),
        (RATE, "{}", "9: conditions.other:", "has the same settings as bullet-maze2d-open-v0@plai"),
        ("other:", "Other!:", "9: conditions", "small letters, digits and"),
        ("other:", "plain:", "9:", "duplicate key 'plain'"),
        ("    data:", "    name: all\n    data:", "6: envs.0.name:", "is the mean of all"),
        ("    data:", "    name: a@b\n    data:", "6: envs.0.name:", "letters, digits and"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, place, words):
    assert TEXT.count(old) == 1
    message = mistake(tmp_path, TEXT.replace(old, new))
    assert message.startswith(f"mine.yaml:{place}")
    assert words in message


def test_two_names_of_the_same_settings_are_refused(tmp_path):
    two = "  - id: bullet-maze2d-open-v0\n    name: two\n    data: {noise: 0.3}\n"
    message = mistake(tmp_path, TEXT.partition("conditions:")[0] + two)
    assert message.startswith("mine.yaml:7: envs.1:")
    assert "two has the same settings as bullet-maze2d-open-v0" in message


def test_a_condition_can_be_set_on_the_command_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    agent = load_suite(path, ["conditions.other.agent.tau=0.5"]).conditions["other"].agent
    assert (agent.tau, agent.encoder_lr) == (0.5, 1e-4)


def test_stored_suites_with_conditions_are_read_again():
    made = suite(conditions=TWO)
    again = Suite.model_validate(made.model_dump(mode="json", exclude_unset=True))
    assert [cell.key for cell in expand(again)] == [cell.key for cell in expand(made)]
