"""The suite file: every mistake is one sentence with the place and the cure."""

from pathlib import Path

import pytest

from benchbench.core.errors import UserError
from benchbench.envs import MAZE_PROPRIO
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite, suite_schema
from benchbench.suite.model import AgentSettings, Suite, TrainSettings

SUITES = Path(__file__).parents[2] / "suites"
GOOD = """\
name: mine
seeds: 2
variants: [before, after]
envs:
  - id: bullet-maze2d-open-v0
agent: {feature_dim: 8}
train:
  updates: 10
"""
INLINE = "{name: me, encoder_in: [own], critic: applied, vae: applied}"


def load(tmp_path, text, *overrides):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_suite(path, overrides)


def mistake(tmp_path, text, *overrides):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    message = caught.value.message
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message.replace(f"{tmp_path}/", "")


DATA = "    data: {source: "


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("updates: 10", "updats: 10", "8: train.updats:", "not a key here; did you mean 'updates'"),
        ("updates: 10", "batch-size: 4", "8: train.batch-size:", "did you mean 'batch_size'"),
        ("train:", "Train:", "7: Train:", "did you mean 'train'"),
        ("train:", "zzz:", "7: zzz:", "choose one of base, name, description"),
        ("updates: 10", "updates: many", "8: train.updates:", "integer, not 'many'"),
        ("updates: 10", "updates: 1.5", "8: train.updates:", "integer, not 1.5"),
        ("updates: 10", "updates: true", "8: train.updates:", "integer, not True"),
        ("updates: 10", "updates: 0", "8: train.updates:", "greater than or equal to 1, not 0"),
        ("{feature_dim: 8}", "{tau: true}", "6: agent.tau:", "a number, not true"),
        ("{feature_dim: 8}", "{tau: .nan}", "6: agent.tau:", "finite number, not nan"),
        ("{feature_dim: 8}", "{kl_beta: .inf}", "6: agent.kl_beta:", "finite number, not inf"),
        ("{feature_dim: 8}", "{tau: 1x}", "6: agent.tau:", "not '1x'"),
        ("{feature_dim: 8}", "{hidden: []}", "6: agent.hidden:", "is empty; give at least one"),
        (
            "{feature_dim: 8}",
            "{encoder: vit}",
            "6: agent.encoder:",
            "unknown encoder 'vit'; choose one",
        ),
        (
            "{feature_dim: 8}",
            "{encoder: a-b:c}",
            "6: agent.encoder:",
            "module:name for one of your",
        ),
        ("{feature_dim: 8}", "{algorithm: lapoo}", "6: agent.algorithm:", "did you mean 'lapo'?"),
        ("{feature_dim: 8}", "{algorithm: cloning}", "3: variants:", "'before' does not fit: clon"),
        ("{feature_dim: 8}", "8", "6: agent:", "should hold keys and values, not 8"),
        ("name: mine", "name: ../up", "1: name:", "not '../up'"),
        ("seeds: 2", "seeds: 0", "2: seeds:", "greater than or equal to 1, not 0"),
        ("seeds: 2", "seeds: 1.5", "2: seeds:", "integer, not 1.5"),
        ("seeds: 2", "seeds: ten", "2: seeds:", "integer, not 'ten'"),
        ("seeds: 2", "seeds: [0, 1.5]", "2: seeds.1:", "integer, not 1.5"),
        ("seeds: 2", "seeds: [-1]", "2: seeds.0:", "greater than or equal to 0, not -1"),
        ("seeds: 2", "seeds: []", "2: seeds:", "is empty: give a count, or at least one seed"),
        ("seeds: 2", "seeds: [3, 1, 3]", "2: seeds:", "names the seed 3 twice"),
        ("[before, after]", "[]", "3: variants:", "is empty; give at least one"),
        ("[before, after]", "before", "3: variants:", "should be a list, not 'before'"),
        ("[before, after]", "[before, aftr]", "3: variants:", "'aftr' is not a variant; did you"),
        ("[before, after]", "[after, after]", "3: variants:", "names the variant 'after' twice"),
        ("[before, after]", "[5]", "3: variants.0:", "should hold keys and values, not 5"),
        ("maze2d-open", "maze2d-opn", "5: envs.0.id:", "did you mean 'bullet-maze2d-open-v0'"),
        ("agent:", "  - id: bullet-maze2d-open-v0\nagent:", "4: envs:", "names the environment"),
        ("agent:", "    pixls: {}\nagent:", "6: envs.0.pixls:", "did you mean 'pixels'"),
        ("agent:", f"{DATA}waypoint, nois: 1}}\nagent:", "6: envs.0.data.nois:", "mean 'noise'"),
        ("agent:", f"{DATA}d4r}}\nagent:", "6: envs.0.data:", "did you mean 'd4rl'"),
        ("agent:", f"{DATA}d4rl}}\nagent:", "6: envs.0.data.source:", "does not fit"),
        ("agent:", "    proprio: [speed]\nagent:", "6: envs.0.proprio:", "no 'speed'; choose"),
        ("seeds: 2\n", "", " seeds:", "is missing; add it"),
        ("agent:", "seeds: 3\nagent:", "6:", "duplicate key 'seeds'; keep one"),
        ("updates: 10", "updates: 10\n  updates: 20", "9:", "duplicate key 'updates'"),
        ("train:", "[1, 2]:", "7:", "a key is not plain text"),
        ("train:", "on:", "7:", "a key is not plain text"),
        ("updates: 10", "updates: [10", "9:", "is not valid YAML"),
        ("updates: 10", "a: b: c", "8:", "is not valid YAML: mapping values are not allowed"),
        ("updates: 10", "updates: *ten", "8:", "is not valid YAML: found undefined alias"),
        ("updates: 10", "updates: \a", " ", "is not valid YAML: unacceptable character"),
        ("updates: 10", "updates: 2020-13-45", " ", "month must be in 1..12"),
        ("updates: 10", "updates: &a [*a]", " ", "an alias refers to itself"),
        ("updates: 10", "updates: !!python/object:os.system x", "8:", "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_cure(tmp_path, old, new, place, words):
    assert GOOD.count(old) == 1
    message = mistake(tmp_path, GOOD.replace(old, new))
    assert message.startswith(f"mine.yaml:{place}")
    assert words in message


def test_every_mistake_has_its_own_line_in_the_order_of_the_file(tmp_path):
    text = GOOD.replace("seeds: 2\n", "").replace("updates: 10", "updats: 10\n  batch_size: 0")
    text = text.replace("[before, after]", "[before, 5, {name: me, encodr_in: [own]}]")
    with pytest.raises(UserError) as caught:
        load(tmp_path, text.replace("open-v0", "opn-v0"))
    lines = caught.value.message.replace(f"{tmp_path}/", "").splitlines()
    expected = [
        ("mine.yaml: seeds: ", "is missing; add it"),
        ("mine.yaml:2: variants.1: ", "should hold keys and values, not 5"),
        ("mine.yaml:2: variants.2.critic: ", "is missing; add it"),
        ("mine.yaml:2: variants.2.vae: ", "is missing; add it"),
        ("mine.yaml:2: variants.2.encodr_in: ", "did you mean 'encoder_in'?"),
        ("mine.yaml:4: envs.0.id: ", "did you mean 'bullet-maze2d-open-v0'?"),
        ("mine.yaml:7: train.updats: ", "did you mean 'updates'?"),
        ("mine.yaml:8: train.batch_size: ", "greater than or equal to 1, not 0"),
    ]
    assert len(lines) == len(expected)
    for place, words in expected:
        assert any(line.startswith(place) and words in line for line in lines), place
    numbers = [int(line.split(":")[1]) if line[9] == ":" and line[10].isdigit() else 0
               for line in lines]  # fmt: skip
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (("encoder_in: [own]", "encoder_in: []"), "", "write critic: dropped, or put the encoder"),
        (("encoder_in: [own]", "encoder_in: [vae]"), "", "that gradient would be dropped"),
        (("encoder_in: [own]", "encoder_in: [own, vae]"), "", "of its own and into others"),
        (("encoder_in: [own]", "encoder_in: [vae, vae]"), "", "names an optimizer twice"),
        (("encoder_in: [own]", "encoder_in: own"), ".encoder_in", "should be a list, not 'own'"),
        (("encoder_in", "encodr_in"), ".encodr_in", "did you mean 'encoder_in'"),
        (("critic: applied, ", ""), ".critic", "is missing; add it"),
        (("vae: applied", "vae: aplied"), ".vae", "'applied', 'dropped' or 'detached', not 'apl"),
        (("name: me", "name: before"), "", "is a variant of benchbench's own; choose another"),
        (("name: me", "name: Me"), ".name", "not 'Me'"),
        (("name: me", "name: 5"), ".name", "string, not 5"),
    ],
)
def test_an_inline_variant_without_sense_is_refused_with_the_reason(tmp_path, change, key, words):
    variants = f"[after, {INLINE.replace(*change)}]"
    message = mistake(tmp_path, GOOD.replace("[before, after]", variants))
    assert message.startswith(f"mine.yaml:3: variants.1{key}: ")
    assert words in message


def test_an_inline_variant_with_sense_is_a_routing(tmp_path):
    suite = load(tmp_path, GOOD.replace("[before, after]", f"[after, {INLINE}]"))
    after, mine = suite.routings
    assert (after.name, mine.name) == ("after", "me")
    assert (mine.encoder_in, mine.critic, mine.actor) == (("own",), "applied", "detached")


@pytest.mark.parametrize("text", ["", "[1, 2]\n", "just words\n"])
def test_a_file_that_is_no_mapping(tmp_path, text):
    assert mistake(tmp_path, text).endswith("writes a suite to edit")


def test_files_that_cannot_be_read(tmp_path):
    assert "is not UTF-8 text" in mistake(tmp_path, b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read .*; check the path"):
        load_suite(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"cannot be read .*; check the path"):
        load_suite(tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.updats=5", "train.updats: is not a key here; did you mean 'updates'"),
        ("train.updates=x", "train.updates: input should be a valid integer, not 'x'"),
        ("envs.0.id=foo", "envs.0.id: is not an environment"),
        ("train.updates", "write it as key=value"),
        ("=5", "write it as key=value"),
        ("train.=5", "write it as key=value"),
        (".updates=5", "write it as key=value"),
        ("train.updates=[", "is not valid YAML: "),
        ("envs.1.id=foo", "the suite has no place 'envs.1.id'; lists take a number"),
        ("envs.first.id=foo", "the suite has no place 'envs.first.id'; lists take a number"),
        ("variants.2=frozen", "the suite has no place 'variants.2'"),
        ("seeds.0=1", "the suite has no place 'seeds.0'"),
        ("name.x=1", "the suite has no place 'name.x'"),
    ],
)
def test_a_mistaken_set_is_named(tmp_path, override, words):
    message = mistake(tmp_path, GOOD, "seeds=3", override)
    assert f"--set {override}" in message
    assert words in message


def test_set_reaches_lists_and_sections_the_file_does_not_have(tmp_path):
    suite = load(
        tmp_path, GOOD, "envs.0.pixels.size=32", "variants.1=frozen", "deltas={score: 3}",
        "agent.actor_lr=1e-3", "seeds=[4, 7]",
    )  # fmt: skip
    assert suite.envs[0].pixels.size == 32
    assert suite.variants == ("before", "frozen")
    assert (suite.deltas.score, suite.agent.actor_lr, suite.seed_list) == (3.0, 1e-3, (4, 7))
    assert suite.agent.feature_dim == 8  # what the file says beside it stays


def test_a_number_without_a_dot_is_a_number(tmp_path):
    """YAML 1.1 reads 1e-4 as text."""
    suite = load(tmp_path, GOOD.replace("{feature_dim: 8}", "{encoder_lr: 1e-4, critic_lr: 1}"))
    assert (suite.agent.encoder_lr, suite.agent.critic_lr) == (0.0001, 1.0)


@pytest.mark.parametrize("change", ["observation: state\n", ""])
def test_states_have_no_variants(tmp_path, change):
    text = GOOD + change
    if not change:
        text = GOOD.replace("agent:", "    observation: state\nagent:")
    message = mistake(tmp_path, text)
    assert "observation: state has no encoder" in message
    assert "write variants: [frozen]" in message
    alone = load(tmp_path, text.replace("[before, after]", "[frozen]"))
    assert {cell.observation for cell in expand(alone)} == {"state"}


def test_a_state_has_nothing_beside_it(tmp_path):
    text = GOOD.replace("[before, after]", "[frozen]") + "observation: state\n"
    text = text.replace("agent:", "    proprio: [velocity]\nagent:")
    message = mistake(tmp_path, text)
    assert message.startswith("mine.yaml:6: envs.0.proprio:")
    assert message.endswith("take proprio out, or write observation: pixels")
    load(tmp_path, text.replace("    proprio", "    observation: pixels\n    proprio"))
    message = mistake(tmp_path, text.replace("open-v0", "open-v0\n    observation: state"))
    assert message.startswith("mine.yaml:7: envs.0.proprio:")


def test_an_environment_overrides_exactly_the_keys_it_states(tmp_path):
    text = GOOD.replace(
        "agent:",
        "    agent: {tau: 0.5, hidden: [256, 256, 256]}\n    train: {batch_size: 7}\n"
        "    pixels: {stack: 5}\n  - id: bullet-maze2d-umaze-v0\nagent:",
    )
    text = text.replace("{feature_dim: 8}", "{feature_dim: 8, tau: 0.1, hidden: [32]}")
    cells = expand(load(tmp_path, text + "pixels: {size: 32}\n"))
    one, other = cells[0], cells[-1]
    assert other.agent == AgentSettings(feature_dim=8, tau=0.1, hidden=(32,))
    assert other.train == TrainSettings(updates=10)
    # A default that is stated is an override too: hidden is back at (256, 256, 256).
    assert one.agent == AgentSettings(feature_dim=8, tau=0.5)
    assert one.train == TrainSettings(updates=10, batch_size=7)
    assert (one.pixels.size, one.pixels.stack) == (32, 5)
    assert (other.pixels.size, other.pixels.stack) == (32, 3)


def test_proprio_names_are_the_environments():
    for names in ([], ["velocity"], list(MAZE_PROPRIO)):
        made = Suite.model_validate(
            {"name": "x", "seeds": 1, "variants": ["after"],
             "envs": [{"id": "bullet-maze2d-open-v0", "proprio": names}]}
        )  # fmt: skip
        assert list(made.envs[0].proprio) == names


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_suites_load_and_name_their_schema(path):
    assert load_suite(path).name == path.stem
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./suite.schema.json"


def test_the_shipped_schema_is_the_models():
    shipped = (SUITES / "suite.schema.json").read_text(encoding="utf-8")
    assert shipped == suite_schema(), "run: benchbench schema > suites/suite.schema.json"
