"""Single prompts get three masks, several one, and a text beside others goes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_core.answers import answer, is_single
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from tests.fake_clip import FakeClip

TEXT = FakeClip().embed_texts(["a red wheel", "the sky"]).vectors
POINTS, LABELS = torch.tensor([[[90.0, 80.0]], [[200.0, 150.0]]]), torch.ones(2, 1, dtype=torch.int64)
BOXES = torch.tensor([[10.0, 10.0, 200.0, 150.0]]).expand(2, 4)


@pytest.fixture(scope="module")
def sam(text_checkpoint: Path) -> Sam:
    return load_model(text_checkpoint).sam


@pytest.fixture(scope="module")
def embedding(sam: Sam, photo: NDArray[np.uint8]) -> ImageEmbedding:
    return encode(sam, [photo])


@pytest.mark.parametrize("prompts", [Prompts(text=TEXT), Prompts(POINTS, LABELS), Prompts(boxes=BOXES)])
def test_a_single_prompt_gets_three_masks(sam: Sam, embedding: ImageEmbedding, prompts: Prompts) -> None:
    assert is_single(prompts)
    found = answer(sam, embedding, prompts)
    torch.testing.assert_close(found.logits, decode(sam, embedding, prompts, multimask=True).logits)
    assert found.iou.shape == (2, 3)


def test_several_prompts_without_text_get_one(sam: Sam, embedding: ImageEmbedding) -> None:
    prompts = Prompts(POINTS, LABELS, BOXES)
    assert not is_single(prompts)
    found = answer(sam, embedding, prompts)
    torch.testing.assert_close(found.logits, decode(sam, embedding, prompts, multimask=False).logits)


def test_a_text_goes_first_and_its_best_mask_goes_on(sam: Sam, embedding: ImageEmbedding) -> None:
    first = decode(sam, embedding, Prompts(text=TEXT), multimask=True)
    best = torch.stack([logits[iou.argmax()] for logits, iou in zip(first.logits, first.iou, strict=True)])[:, None]
    for others in ({"points": POINTS, "labels": LABELS}, {"boxes": BOXES}):
        found = answer(sam, embedding, Prompts(text=TEXT, **others))
        expected = decode(sam, embedding, Prompts(text=TEXT, mask_logits=best, **others), multimask=False)
        torch.testing.assert_close(found.logits, expected.logits)
        given = answer(sam, embedding, Prompts(text=TEXT, mask_logits=-best, **others))
        assert not torch.equal(given.logits, found.logits)  # a mask that is given stays


def test_a_text_moves_the_mask(sam: Sam, embedding: ImageEmbedding) -> None:
    found = answer(sam, embedding, Prompts(text=TEXT)).logits
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_a_model_without_text_prompts_and_another_width_are_refused(
    tiny_checkpoint: Path, sam: Sam, embedding: ImageEmbedding
) -> None:
    with pytest.raises(ValueError, match="vit_test takes no text prompts"):
        answer(load_model(tiny_checkpoint).sam, embedding, Prompts(text=TEXT))
    with pytest.raises(ValueError, match=r"width 16, not \[3\]"):
        answer(sam, embedding, Prompts(text=torch.ones(1, 3)))
