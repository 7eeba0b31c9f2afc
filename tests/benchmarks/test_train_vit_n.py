"""Training without Ray: batches that follow from their number, and a schedule that follows the clock."""

from dataclasses import replace

import torch

from sam_core.training.presets import nano_gpu
from tests.benchmarks.gpu_training import LOTS, at_this_pace
from tests.benchmarks.train_vit_n import Scenes


def test_a_batch_is_the_same_whoever_makes_it() -> None:
    config = replace(nano_gpu()[0], image_size=64, images=2, min_area=20)
    one, other = (Scenes(config, banks=3)[5] for _ in range(2))
    assert one.numbers.tolist() == [10, 11]
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.masks, other.masks)
    assert not torch.equal(one.images, Scenes(config, banks=3)[6].images)
    assert set(one.image_of.tolist()) == {0, 1}
    assert int(one.masks.flatten(1).sum(1).min()) >= config.min_area


def test_the_schedule_is_as_long_as_the_pace_promises() -> None:
    constant, falling, _ = nano_gpu()
    assert at_this_pace(falling, 10, 0.01).learning_rate.iterations == LOTS  # too early to tell
    halfway = at_this_pace(falling, 400, 0.5).learning_rate
    assert halfway.iterations == 800
    assert halfway.at(0) < halfway.at(60) > halfway.at(400) > halfway.at(790) > 0
    kept = at_this_pace(constant, 400, 0.5).learning_rate
    assert kept.at(400) == kept.at(799) == kept.base
