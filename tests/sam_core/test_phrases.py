"""Phrases in sentences, averaged; what is refused and what is said."""

import pytest
import torch
import torch.nn.functional as F

from sam_core.phrases import embed_phrases
from tests.fake_clip import FakeClip


def test_the_mean_over_templates_has_length_one() -> None:
    clip, templates = FakeClip(), ("{}", "photo of {}")
    found = embed_phrases(clip, ["a wheel", "the sky"], templates)
    for phrase, vector in zip(("a wheel", "the sky"), found.vectors, strict=True):
        each = clip.embed_texts([phrase, f"photo of {phrase}"]).vectors
        torch.testing.assert_close(vector, F.normalize(each.mean(0), dim=0))
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(2))


def test_one_template_is_the_phrase_itself() -> None:
    clip = FakeClip()
    torch.testing.assert_close(embed_phrases(clip, [" red "]).vectors, clip.embed_texts(["red"]).vectors)


def test_a_phrase_is_cut_off_when_any_of_its_sentences_is() -> None:
    long = "one two three four five six seven"
    assert embed_phrases(FakeClip(), ["red", long]).truncated == (False, True)
    assert embed_phrases(FakeClip(), ["one two three"], ("{}", "a b c d {}")).truncated == (True,)


@pytest.mark.parametrize("phrases", [[], [""], ["red", "  "]])
def test_an_empty_text_is_refused_before_a_template_hides_it(phrases: list[str]) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        embed_phrases(FakeClip(), phrases, ("a photo of {}.",))


def test_bytes_of_another_encoding_are_no_text() -> None:
    """As Python reads them from a command line; the library's tokenizer ended in a traceback."""
    with pytest.raises(ValueError, match=r"the text 'a gr\\udcfcn star' is not in UTF-8"):
        embed_phrases(FakeClip(), ["red", "a gr\udcfcn star"])
    assert len(embed_phrases(FakeClip(), ["grün", "猫"]).vectors) == 2


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} {}",)])
def test_templates_have_one_place(templates: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a template is a sentence with"):
        embed_phrases(FakeClip(), ["red"], templates)
