"""Training without Ray: batches that follow from their number, and a schedule that follows the clock."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.training.draws import prompt_draws
from sam_core.training.interactive import first_prompts
from sam_core.training.nano_presets import nano_gpu, nano_things
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from tests.benchmarks.gpu_training import LOTS, Stage, at_this_pace, mirrored, replayed, train
from tests.benchmarks.train_vit_n import Options, Scenes, stages


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


def test_stages_are_those_of_the_preset(tmp_path: Path) -> None:
    assert stages(Options(tmp_path, (1, 2, 3))) == nano_gpu()
    with pytest.raises(ValueError, match="nano_things has 1 stages; --seconds names 2"):
        stages(Options(tmp_path, (1, 2), preset="nano_things"))


def test_things_of_a_folder_stand_in_the_scenes(tmp_path: Path) -> None:
    rows, columns = np.indices((80, 90)) - 40
    opacity = np.where(np.hypot(rows, columns) < 36, 255, 0)
    Image.fromarray(np.dstack([rows, columns, rows, opacity]).astype(np.uint8)).save(tmp_path / "thing.png")
    config = replace(nano_gpu()[0], image_size=64, images=2, min_area=20)
    plain, with_things = (Scenes(config, 3, folder)[5] for folder in (None, tmp_path))
    assert len(with_things.masks)
    assert not torch.equal(plain.images, with_things.images)


def test_a_scene_is_seen_again_with_other_prompts() -> None:
    config = replace(nano_gpu()[0], image_size=64, images=2, min_area=20)
    scenes = Scenes(config, 1)
    seen = list(islice(replayed(iter([scenes[0], scenes[1], scenes[2]]), 3, 0), 9))
    numbers = [tuple(batch.numbers.tolist()) for batch in seen]
    assert len(set(numbers)) == 9
    assert [numbers[at] for at in (0, 3, 6)] == [(0, 1), (2, 3), (4, 5)]
    known = [each.images for scene in (scenes[0], scenes[1], scenes[2]) for each in (scene, mirrored(scene))]
    assert all(any(torch.equal(batch.images, images) for images in known) for batch in seen)
    assert len(list(replayed(iter([scenes[0]]), 1, 0))) == 1
    again = next(batch for batch in seen[1:] if torch.equal(batch.images, seen[0].images))
    first, second = (first_prompts(batch, config, prompt_draws(batch, config.seed)) for batch in (seen[0], again))
    assert not torch.equal(first.xy, second.xy)


@pytest.fixture(scope="module")
def things() -> TrainBatch:
    config = replace(nano_things()[0], image_size=96, masks_per_image=4, min_area=12)
    return merge([scene_sample(config, np.random.default_rng([3, n]), number=n) for n in range(6)])


def test_a_mirror_turns_what_is_not_padding(things: TrainBatch) -> None:
    turned = mirrored(things)
    assert len({width for _, width in things.sizes.tolist()}) > 1
    for before, after, (_, width) in zip(things.images, turned.images, things.sizes.tolist(), strict=True):
        assert np.array_equal(after[:, :width], before.numpy()[:, width - 1 :: -1] if width else before)
        assert not after[:, width:].any()
    for before, after, image in zip(things.masks, turned.masks, things.image_of.tolist(), strict=True):
        width = int(things.sizes[image, 1])
        assert np.array_equal(after[:, :width], before.numpy()[:, width - 1 :: -1])


def test_centres_turn_with_their_masks_and_twice_is_not_at_all(things: TrainBatch) -> None:
    assert things.centres is not None
    for each in (things, mirrored(things)):
        assert each.centres is not None
        x, y = each.centres.long().T
        assert each.masks[torch.arange(len(x)), y, x].all()
    turned = mirrored(things).centres
    assert turned is not None
    assert torch.equal(things.centres[:, 0] + turned[:, 0], things.sizes[things.image_of, 1] - 1.0)
    again = mirrored(mirrored(things))
    for name in ("images", "sizes", "masks", "image_of", "numbers", "centres"):
        assert torch.equal(getattr(again, name), getattr(things, name))


@pytest.fixture
def subnormals_as_before() -> Iterator[None]:
    """A training takes them for zero; the thread's other tests do not."""
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("subnormals_as_before")
def test_a_stage_begins_with_a_checkpoint_and_leaves_another(tmp_path: Path) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_model(Sam(vit_test()), before, dtype=torch.float16)
    config = replace(nano_gpu()[0], model="vit_test", image_size=64, images=2, min_area=20, bfloat16=False)
    scenes = Scenes(config, 1)
    told = train(
        Stage(config, 0.01, str(before), after, {"weights": "of a test"}, "cpu"), map(scenes.__getitem__, count())
    )
    assert told["steps"] >= 1
    assert told["skipped"] == 0
    old, new = load_model(before), load_model(after)
    assert new.metadata["weights"] == "of a test"
    moved = [torch.equal(a, b) for a, b in zip(old.sam.parameters(), new.sam.parameters(), strict=True)]
    assert not all(moved)
    assert after.with_suffix(".csv").read_text().startswith("step,learning_rate,focal")
