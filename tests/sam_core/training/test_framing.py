"""How photographs are cut: against plain numpy, and what may never happen."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core.training.framing import Framing, draw_framing, frame_image, frame_mask, photo_batch, whole_framing
from sam_core.training.presets import train_preset
from sam_core.training.targets import averaged

CONFIG = replace(train_preset("fine_tune")[0], image_size=64, jitter=(0.1, 2.0), min_area=4, masks_per_image=3)


def half(height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


@pytest.mark.parametrize("shape", [(40, 90), (300, 200), (64, 64)])
def test_a_framing_lies_in_the_resized_image_and_in_the_input(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    factors = []
    for _ in range(300):
        framing = draw_framing(*shape, CONFIG, rng)
        assert max(framing.size) <= 64
        assert framing.top + framing.size[0] <= framing.resized[0]
        assert framing.left + framing.size[1] <= framing.resized[1]
        factors.append(max(framing.resized) / 64)
    assert min(factors) > 0.08
    assert max(factors) <= 2.02
    assert abs(np.mean(factors) - 1.05) < 0.1  # uniform between 0.1 and 2


def test_without_jitter_the_whole_image_fills_the_input() -> None:
    framing = draw_framing(50, 100, replace(CONFIG, jitter=(1, 1), flip=0), np.random.default_rng(0))
    assert framing == whole_framing(50, 100, 64) == Framing((32, 64), 0, 0, (32, 64), False)


def test_image_and_mask_are_cut_alike() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    image = np.repeat(mask[..., None] * np.uint8(255), 3, -1)
    for seed in range(20):
        framing = draw_framing(60, 80, replace(CONFIG, jitter=(0.5, 2), flip=0.5), np.random.default_rng(seed))
        pixels, framed = frame_image(image, framing, 64), frame_mask(mask, framing, 64)
        assert np.array_equal(pixels[..., 0] >= 128, framed)
        assert not pixels[framing.size[0] :].any()
        assert not framed[:, framing.size[1] :].any()


def test_a_mirror_turns_left_into_right() -> None:
    framing = Framing((64, 64), 0, 0, (64, 64), True)
    assert np.array_equal(frame_mask(half(64, 64), framing, 64), half(64, 64)[:, ::-1])


def test_masks_of_more_than_nine_tenths_and_tiny_ones_are_left_out() -> None:
    nearly_all = np.ones((100, 100), bool)
    nearly_all[:9] = False  # 91 %
    tiny = np.zeros((100, 100), bool)
    tiny[50, 50] = True
    config = replace(CONFIG, jitter=(1, 1), flip=0)
    made = photo_batch(
        np.zeros((100, 100, 3), np.uint8), [lambda: nearly_all, lambda: tiny], config, np.random.default_rng(0), 5
    )
    assert made is None
    made = photo_batch(
        np.zeros((100, 100, 3), np.uint8),
        [lambda: nearly_all, lambda: half(100, 100)],
        config,
        np.random.default_rng(0),
        5,
    )
    assert made is not None
    assert len(made.masks) == 1
    assert made.numbers.tolist() == [5]


def test_the_least_area_is_that_of_the_framed_mask() -> None:
    """Of 20 x 20 px, and of 12 x 12, of which an input of 64 px leaves about 8 x 8."""
    config = replace(CONFIG, jitter=(1, 1), flip=0, min_area=100)
    large, small = np.zeros((2, 100, 100), bool)
    large[10:30, 10:30], small[60:72, 60:72] = True, True
    image, rng = np.zeros((100, 100, 3), np.uint8), np.random.default_rng(0)
    made = photo_batch(image, [lambda: small, lambda: large], config, rng, 0)
    assert made is not None
    assert len(made.masks) == 1
    assert made.masks[0, :22, :22].sum() == made.masks.sum()
    assert photo_batch(image, [lambda: small], config, rng, 0) is None


def test_no_more_masks_than_asked_for_and_every_one_shows() -> None:
    rng = np.random.default_rng(1)
    masks = [np.roll(half(90, 70), shift, axis=0) & (rng.random((90, 70)) < 0.9) for shift in range(10)]
    for seed in range(30):
        made = photo_batch(
            np.zeros((90, 70, 3), np.uint8), [lambda m=m: m for m in masks], CONFIG, np.random.default_rng(seed), 0
        )
        assert made is not None
        assert 1 <= len(made.masks) <= 3
        assert (made.masks.sum((1, 2)) >= 4).all()


def test_embeddings_follow_the_masks_that_were_chosen() -> None:
    config = replace(CONFIG, jitter=(1, 1), flip=0, masks_per_image=2)
    image = np.zeros((64, 64, 3), np.uint8)
    masks = [np.zeros((64, 64), bool) for _ in range(4)]
    for number, mask in enumerate(masks[:3]):
        mask[20 * number : 20 * number + 10] = True  # the last one is empty and left out
    texts = [np.full((3, 2), number, np.float16) + np.array([[0], [0.25], [0.5]], np.float16) for number in range(4)]
    drawn = set()
    for seed in range(30):
        made = photo_batch(image, [lambda m=m: m for m in masks], config, np.random.default_rng(seed), 0, texts=texts)
        assert made is not None
        assert made.text is not None
        assert made.text.shape == (2, 2)
        tops = made.masks.any(2).int().argmax(1)
        assert (made.text[:, 0].floor() == tops // 20).all()
        drawn |= set((made.text[:, 0] % 1).tolist())
    assert drawn == {0.0, 0.25, 0.5}


def test_a_photograph_can_be_seen_through_the_window_of_one_of_its_masks() -> None:
    """Small objects then fill a tenth of the input or more, in colours that say which one is looked at."""
    image = np.zeros((600, 800, 3), np.uint8)
    masks = []
    for number, (y, x) in enumerate([(20, 30), (300, 500), (580, 780)]):
        mask = np.zeros((600, 800), bool)
        mask[y : y + 12, x : x + 12] = True
        image[mask] = 80 * (number + 1)
        masks.append(mask)
    config = replace(CONFIG, jitter=(1, 1), flip=0, window_share=1.0)
    seen = set()
    for seed in range(12):
        made = photo_batch(image, [lambda m=m: m for m in masks], config, np.random.default_rng(seed), 0)
        assert made is not None
        assert len(made.masks) == 1
        assert 6 <= int(made.masks[0].any(0).sum()) <= 13  # 64 / 10 to 64 / 5
        (colour,) = set(made.images[0][made.masks[0]].flatten().tolist()) & {80, 160, 240}
        seen.add(colour)
    assert seen == {80, 160, 240}
    half_of_them = replace(config, window_share=0.5, min_area=1)
    made = [photo_batch(image, [lambda: masks[1]], half_of_them, np.random.default_rng(n), 0) for n in range(40)]
    assert 10 <= sum(batch is not None for batch in made) <= 30  # of a whole image it is no pixel that can be predicted


def test_no_mask_of_the_smallest_area_is_empty_where_models_predict() -> None:
    """Nuclei of 12 to 40 px of a 384 px input, against the area average that is the loss's target."""
    (config,) = train_preset("fine_tune")
    config = replace(config, jitter=(1, 1), flip=0, window_share=0, masks_per_image=400)
    rng = np.random.default_rng(0)
    rows, columns = np.indices((384, 384))
    masks = []
    for radius in rng.uniform(2, 3.5, 400):
        y, x = rng.uniform(5, 379, 2)
        masks.append(np.hypot(rows - y, columns - x) < radius)
    shares = [mask.reshape(96, 4, 96, 4).mean((1, 3)) for mask in masks]
    expected = [m for m, share in zip(masks, shares, strict=True) if m.sum() >= config.min_area and share.max() > 0.5]
    batch = photo_batch(np.zeros((384, 384, 3), np.uint8), [lambda m=m: m for m in masks], config, rng, 0)
    assert batch is not None
    assert len(masks) > len(expected) == len(batch.masks) > 100
    assert min(map(np.sum, expected)) < 24  # some small ones lie well
    assert (averaged(batch.masks, 96).amax((1, 2)) > 0.5).all()
