"""Batches: mirrored, merged and sent."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_core.training.nano_presets import nano_things
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, averaged, is_seen, merge, mirrored, shown


@pytest.fixture(scope="module")
def batch() -> TrainBatch:
    config = replace(nano_things()[0], image_size=96, masks_per_image=4, min_area=12)
    return merge([scene_sample(config, np.random.default_rng([3, n]), number=n) for n in range(6)])


def test_a_mirror_turns_what_is_not_padding(batch: TrainBatch) -> None:
    turned = mirrored(batch)
    assert len({width for _, width in batch.sizes.tolist()}) > 1
    for before, after, (_, width) in zip(batch.images, turned.images, batch.sizes.tolist(), strict=True):
        assert np.array_equal(after[:, :width], before.numpy()[:, width - 1 :: -1] if width else before)
        assert not after[:, width:].any()
    for before, after, image in zip(batch.masks, turned.masks, batch.image_of.tolist(), strict=True):
        width = int(batch.sizes[image, 1])
        assert np.array_equal(after[:, :width], before.numpy()[:, width - 1 :: -1])


def test_centres_turn_with_their_masks_and_twice_is_not_at_all(batch: TrainBatch) -> None:
    assert batch.centres is not None
    for each in (batch, mirrored(batch)):
        assert each.centres is not None
        x, y = each.centres.long().T
        assert each.masks[torch.arange(len(x)), y, x].all()
    turned = mirrored(batch).centres
    assert turned is not None
    assert torch.equal(batch.centres[:, 0] + turned[:, 0], batch.sizes[batch.image_of, 1] - 1.0)
    again = mirrored(mirrored(batch))
    for name in ("images", "sizes", "masks", "image_of", "numbers", "centres"):
        assert torch.equal(getattr(again, name), getattr(batch, name))


def test_what_is_shown_is_no_padding(batch: TrainBatch) -> None:
    for seen, (height, width) in zip(shown(batch), batch.sizes.tolist(), strict=True):
        assert seen[:height, :width].all()
        assert seen.sum() == height * width


def test_merged_batches_agree_on_having_centres(batch: TrainBatch) -> None:
    both = merge([batch, batch])
    assert both.centres is not None
    assert len(both.centres) == 2 * len(batch.masks)
    with pytest.raises(ValueError, match="some batches have centres and some have none"):
        merge([batch, replace(batch, centres=None)])


@pytest.mark.parametrize("covered", range(17))
def test_a_mask_is_seen_where_it_covers_more_than_half_of_a_pixel(covered: int) -> None:
    cell = np.arange(16).reshape(4, 4) < covered
    mask = np.zeros((32, 32), bool)
    mask[8:12, 20:24] = cell
    assert is_seen(mask) == bool((averaged(torch.from_numpy(mask)[None], 8) > 0.5).any()) == (covered > 8)
