"""The word tokenizer of the small CLIP, and that its weights follow from a seed."""

import torch

from tests.benchmarks.text_prompts.clip_small import new_clip, vocabulary
from tests.small_clip import SIZES, TEXTS


def test_the_vocabulary_is_every_word_once() -> None:
    assert vocabulary(["A red, red star!", "the Star"]) == ("a", "red", "star", "the")


def test_words_become_numbers_between_two_marks() -> None:
    clip = new_clip(SIZES, vocabulary(TEXTS))
    ids, truncated = clip.tokens(["a RED zebra, star", "star"])
    decoded = clip.tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert decoded == ["[START]", "a", "red", "[UNK]", "star", "[END]"]
    assert clip.tokenizer.convert_ids_to_tokens(ids[1].tolist()) == ["[START]", "star", "[END]", *["[PAD]"] * 3]
    assert truncated == (False, False)


def test_weights_follow_from_the_seed() -> None:
    one, same, other = (new_clip(SIZES, vocabulary(TEXTS), seed=seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
