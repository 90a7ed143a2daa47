"""``pixels.distract`` and ``evaluate.distract`` in a suite: what they stand for, and refusals."""

import copy

import pytest
from helpers.suites import TINY
from pydantic import ValidationError

from benchbench.suite.environments import KNOWN_ENVS
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite
from benchbench.suite.pixels import PRESETS, DistractSettings, key_of, refusal

MOVING = {"background": {"strength": 0.5}}


def suite(distract=None, unseen=None, **more):
    told = copy.deepcopy(TINY) | more
    if distract is not None:
        told["pixels"]["distract"] = distract
    if unseen is not None:
        told["evaluate"]["distract"] = unseen
    return Suite.model_validate(told)


def first(*arguments, **more):
    return expand(suite(*arguments, **more))[0]


def test_nothing_that_distracts_leaves_the_key_as_it_was():
    plain = first().key
    assert first({}).key == plain
    assert first({"seed": 4}).key == plain
    assert first({"tint": {"strength": 0}, "background": {"strength": 0}}).key == plain
    assert first({"tint": {"strength": 0.1}}).key != plain


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_parts_that_it_stands_for(preset):
    settings = DistractSettings(preset=preset)
    told = settings.identity()
    assert set(told) == {"tint", "background", "objects", "camera", "seed"}
    parts = {name: part for name, part in told.items() if name != "seed"}
    assert first({"preset": preset}).key == first(parts).key
    own = DistractSettings.model_validate({"preset": preset, "tint": {"strength": 0.9}})
    assert own.tint.strength == 0.9
    assert own.camera == settings.camera
    assert DistractSettings.model_validate(settings.model_dump()) == settings


def test_presets_get_harder_in_every_part():
    easy, medium, hard = (DistractSettings(preset=name) for name in PRESETS)
    for part in ("tint", "background", "camera"):
        strengths = [getattr(one, part).strength for one in (easy, medium, hard)]
        assert strengths == sorted(set(strengths))
    assert easy.background.textures < medium.background.textures < hard.background.textures
    assert easy.objects.count < medium.objects.count < hard.objects.count


def test_what_is_unseen_is_the_training_with_what_is_stated_in_its_place():
    seen = {"tint": {"strength": 0.4}, "noise": {"strength": 0.1}}
    unseen = suite(seen, {"tint": {"strength": 0.8}}).evaluate.unseen(suite(seen).pixels)
    assert unseen.tint.strength == 0.8
    assert unseen.noise.strength == 0.1
    other = first(seen, {"seed": 3}).unseen
    assert other.identity() == first(seen).pixels.distract.identity() | {"seed": 3}
    clean = first(seen, {"tint": {"strength": 0}, "noise": {"strength": 0}}).unseen
    assert clean.identity() == {}
    preset = first(seen | {"seed": 2}, {"preset": "hard"}).unseen
    assert preset.identity() == DistractSettings(preset="hard", seed=2).identity()
    assert first(None, {"preset": "easy"}).unseen.tint.strength == 0.2
    assert len({first(seen).key, first(seen, {"seed": 1}).key, first(seen, {"seed": 2}).key}) == 3


def test_an_environment_states_its_own():
    envs = [TINY["envs"][0], {"id": "maze2d-umaze-v1", "pixels": {"distract": None}}]
    cells = expand(suite({"preset": "easy"}, envs=envs))
    assert cells[0].pixels.distract.preset == "easy"
    assert cells[-1].pixels.distract is None


@pytest.mark.parametrize(
    ("distract", "unseen", "more", "words"),
    [
        ({"tint": {"strength": 2}}, None, {}, "less than or equal to 1"),
        ({"preset": "cruel"}, None, {}, "'easy', 'medium' or 'hard'"),
        ({"tint": {"strngth": 1}}, None, {}, "strngth"),
        ({"tint": {"strength": 0.4}}, {"tint": {"strength": 0.4}}, {}, "nothing in them is unseen"),
        (None, {}, {}, "nothing in them is unseen"),
        (None, None, {"claims": ["robustness"]}, "state them under evaluate.distract"),
        (
            MOVING,
            None,
            {"envs": [{"id": "mine", "data": {"source": "file", "path": "x.npz"}}]},
            r"envs\.0\.pixels\.distract\.background: mine has pictures of your own",
        ),
        (
            None,
            MOVING,
            {"envs": [{"id": "vd4rl:distracting/walker_walk/medium"}]},
            r"envs\.0\.evaluate\.distract\.background: .* has a background of its own that moves",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(distract, unseen, more, words):
    with pytest.raises(ValidationError, match=words):
        suite(distract, unseen, **more)


def test_every_listed_environment_can_be_keyed_but_those_with_backgrounds_of_their_own():
    without = {env for env in KNOWN_ENVS if key_of(env) is None}
    assert without == {env for env in KNOWN_ENVS if ":distracting/" in env}
    tinted = DistractSettings.model_validate({"tint": {"strength": 1}, "camera": {"strength": 1}})
    assert not any(refusal(env, tinted) for env in (*KNOWN_ENVS, "mine"))


def test_own_pictures_belong_to_the_key(tmp_path):
    distract = {"background": {"strength": 1, "pictures": str(tmp_path / "absent")}}
    one = first(distract)
    assert dict(one.pictures) == {str(tmp_path / "absent"): "absent"}
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.png").write_bytes(b"pixels")
    other = first({"background": {"strength": 1, "pictures": str(tmp_path / "here")}})
    assert len(dict(other.pictures)[str(tmp_path / "here")]) == 64
    assert other.settings()["pictures"] != one.settings()["pictures"]


def test_robustness_is_judged_where_something_is_unseen():
    assert "robustness" not in suite({"preset": "easy"}).judged
    assert suite({"preset": "easy"}, {"seed": 1}).judged[-1] == "robustness"
    assert suite(None, {"seed": 1, "preset": "easy"}, claims=["score"]).judged == ("score",)
