"""Random numbers belong to the image, whoever it shares a batch with."""

import pytest
import torch

from sam_core.training.draws import prompt_draws
from sam_core.training.targets import TrainBatch, merge


def image(number: int, masks: int) -> TrainBatch:
    return TrainBatch(
        images=torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
        sizes=torch.tensor([[8, 8]]),
        masks=torch.ones(masks, 8, 8, dtype=torch.bool),
        image_of=torch.zeros(masks, dtype=torch.int64),
        numbers=torch.tensor([number]),
    )


def test_an_images_numbers_do_not_depend_on_the_rest_of_the_batch() -> None:
    together = prompt_draws(merge([image(3, 2), image(4, 5)]), seed=1)
    alone = prompt_draws(image(4, 5), seed=1)
    for _ in range(3):
        assert torch.equal(together.uniform()[2:], alone.uniform())
        assert torch.equal(together.normal(4)[2:], alone.normal(4))


def test_other_images_and_seeds_have_other_numbers() -> None:
    first = prompt_draws(image(3, 2), seed=1).uniform()
    assert not torch.equal(first, prompt_draws(image(4, 2), seed=1).uniform())
    assert not torch.equal(first, prompt_draws(image(3, 2), seed=2).uniform())


def test_masks_that_do_not_lie_together_are_refused() -> None:
    batch = merge([image(0, 1), image(1, 1)])
    turned = TrainBatch(batch.images, batch.sizes, batch.masks, batch.image_of.flip(0), batch.numbers)
    with pytest.raises(ValueError, match="lie together"):
        prompt_draws(turned, seed=0)
