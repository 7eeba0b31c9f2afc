"""Batches: what of them is shown, and merged ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_core.training.nano_presets import nano_things
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, averaged, is_seen, merge, shown


@pytest.fixture(scope="module")
def batch() -> TrainBatch:
    config = replace(nano_things()[0], image_size=96, masks_per_image=4, min_area=12)
    return merge([scene_sample(config, np.random.default_rng([3, n]), number=n) for n in range(6)])


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
