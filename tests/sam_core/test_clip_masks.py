"""Crops of masks, embedded and ranked."""

import numpy as np
import pytest
import torch

from sam_core.clip_masks import embed_masks, nearness
from sam_core.masks.rle import encode
from tests.fake_clip import COLOURS, FakeClip


def test_a_mask_is_nearest_to_the_word_for_it() -> None:
    image, rles = np.full((40, 60, 3), 128, np.uint8), []
    for number, name in enumerate(("red", "green", "blue")):
        mask = np.zeros((40, 60), bool)
        mask[5 + number : 25, 20 * number + 3 : 20 * number + 15] = True
        image[mask] = COLOURS[name]
        rles.append(encode(mask))
    clip = FakeClip()
    near = nearness(embed_masks(clip, image, rles), clip.embed_texts(["blue", "red"]).vectors)
    assert near.shape == (2, 3)
    assert near.argmax(1).tolist() == [2, 0]
    torch.testing.assert_close(near.amax(1), torch.ones(2))


def test_no_masks_have_no_embeddings_and_empty_ones_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert embed_masks(FakeClip(), image, []).shape == (0, 16)
    with pytest.raises(ValueError, match="empty mask"):
        embed_masks(FakeClip(), image, [encode(np.zeros((8, 8), bool))])
