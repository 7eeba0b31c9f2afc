"""Captioned scenes: phrases mean one thing, words are learnable, pictures show what the lists say."""

import numpy as np
import pytest

from sam_core.scenes.captioned import Thing, Wording, describe, held_out, looks, render_captioned, words_of_all
from sam_core.scenes.captioned.drawing import outline, pattern_fields
from sam_core.scenes.captioned.phrases import Needs, fitting, worded
from sam_core.scenes.captioned.scene import CaptionedScene
from sam_core.scenes.captioned.things import SHAPES, Look, Side, carried, side_of
from tests.benchmarks.text_prompts.clip_small import vocabulary

SIZE = 96


@pytest.fixture(scope="module")
def scenes() -> list[CaptionedScene]:
    return [render_captioned(np.random.default_rng([0, n]), looks(), size=SIZE) for n in range(40)]


def test_a_fifth_of_the_looks_is_kept_apart_and_every_word_is_among_the_others() -> None:
    apart = [look for look in looks() if held_out(look)]
    others = [look for look in looks() if not held_out(look)]
    assert 0.18 < len(apart) / len(looks()) < 0.22
    for name in ("shape", "colour", "texture"):
        words = {getattr(look, name) for look in looks()}
        assert {getattr(look, name) for look in others} == words
        assert {getattr(look, name) for look in apart} == words


def test_a_scene_follows_from_its_generator() -> None:
    one, same = (render_captioned(np.random.default_rng(3), looks(), size=SIZE) for _ in range(2))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.masks, same.masks)
    assert one.things == same.things


def test_masks_are_where_things_are(scenes: list[CaptionedScene]) -> None:
    for scene in scenes:
        assert scene.masks.shape == (len(scene.things), SIZE, SIZE)
        for place, (thing, mask) in enumerate(zip(scene.things, scene.masks, strict=True)):
            rows, columns = np.nonzero(mask)
            assert len(rows) > 20
            assert abs(columns.mean() - thing.x) < 0.5 * thing.extent
            assert abs(rows.mean() - thing.y) < 0.5 * thing.extent
            burden = carried(scene.things, place)
            if burden is not None:
                assert (scene.masks[burden] & ~mask).sum() == 0


def test_colours_are_those_of_the_words(scenes: list[CaptionedScene]) -> None:
    """The most frequent hue of plain things; what lies on them and shadows aside."""
    means = {}
    for scene in scenes:
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            if thing.look.texture == "plain" and thing.large:
                means.setdefault(thing.look.colour, []).append(np.median(scene.image[mask], axis=0))
    red, green, blue = (np.mean(means[colour], axis=0).argmax() for colour in ("red", "green", "blue"))
    assert (red, green, blue) == (0, 1, 2)
    assert np.mean(means["white"]) > np.mean(means["black"]) + 80


@pytest.mark.parametrize("wording", Wording)
def test_phrases_mean_one_thing_alone(scenes: list[CaptionedScene], wording: Wording) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for scene in scenes:
        for place in range(len(scene.things)):
            phrase = describe(scene.things, place, SIZE, rng, wording)
            if phrase:
                found += 1
                assert fitting(scene.things, phrase.description, SIZE) == [place]
    assert found > 0.85 * sum(len(scene.things) for scene in scenes)


def test_every_word_is_known_and_wordings_differ(scenes: list[CaptionedScene]) -> None:
    known = set(vocabulary(words_of_all()))
    said: dict[Wording, set[str]] = {}
    for wording in Wording:
        rng = np.random.default_rng(1)
        phrases = [describe(s.things, n, SIZE, rng, wording) for s in scenes for n in range(len(s.things))]
        said[wording] = {phrase.text for phrase in phrases if phrase}
        assert set(vocabulary(said[wording])) <= known
    assert not said[Wording.TRAINED] & said[Wording.HELD_OUT]


def test_every_kind_of_need_occurs(scenes: list[CaptionedScene]) -> None:
    rng = np.random.default_rng(2)
    phrases = [describe(s.things, n, SIZE, rng) for s in scenes for n in range(len(s.things)) for _ in range(3)]
    assert {phrase.needs for phrase in phrases if phrase} == set(Needs)


def things() -> tuple[Thing, ...]:
    red, blue = Look("circle", "red", "plain"), Look("square", "blue", "striped")
    return Thing(red, True, 20, 50, 15), Thing(red, True, 75, 50, 15), Thing(blue, True, 75, 15, 14)


def test_twins_are_told_apart_by_where_they_are() -> None:
    rng = np.random.default_rng(0)
    phrases = [describe(things(), 0, SIZE, rng) for _ in range(60)]
    assert {phrase.needs for phrase in phrases if phrase} <= {Needs.POSITION, Needs.RELATION}
    assert all("left" in phrase.text for phrase in phrases if phrase)
    below = [phrase for _ in range(60) if (phrase := describe(things(), 1, SIZE, rng))]
    assert any("below" in phrase.text or "under" in phrase.text for phrase in below)


def test_sides() -> None:
    first, second, third = things()
    assert side_of(first, second) is Side.LEFT
    assert side_of(second, first) is Side.RIGHT
    assert side_of(second, third) is Side.BELOW
    assert side_of(third, second) is Side.ABOVE


def test_a_phrase_that_cannot_be_found_is_none() -> None:
    twin = things()[0]
    assert describe((twin, twin), 0, SIZE, np.random.default_rng(0)) is None


def test_words_are_well_spaced(scenes: list[CaptionedScene]) -> None:
    rng = np.random.default_rng(3)
    for scene in scenes:
        phrase = describe(scene.things, 0, SIZE, rng)
        if phrase:
            for wording in Wording:
                text = worded(phrase.description, rng, wording)
                assert "  " not in text
                assert text == text.strip(" ,")
                assert text.isascii()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fit_their_frame(shape: str) -> None:
    points = np.concatenate(outline(np.random.default_rng(0), shape))
    assert 0.6 < np.abs(points).max() < 1.35


def test_a_shape_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no shape is called 'blob'"):
        outline(np.random.default_rng(0), "blob")


def test_patterns_have_light_and_dark() -> None:
    fields = pattern_fields()
    assert all(field.min() < 30 and field.max() > 225 for field in fields)
