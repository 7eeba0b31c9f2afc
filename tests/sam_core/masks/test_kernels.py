"""The fused kernel against the plain path: every number and every run equal, not merely close."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sam_core.geometry import Frame, frame_of
from sam_core.masks import bilinear, kernels, plain
from sam_core.masks.batch import MaskBatch
from sam_core.masks.bilinear import resize
from sam_core.masks.candidates import Measures

FRAMES = {
    "landscape": frame_of((200, 300), image_size=256),
    "portrait": frame_of((333, 111), image_size=256),
    "square": frame_of((256, 256), image_size=256),
    "shrunk": frame_of((100, 150), image_size=256),
    "1024": frame_of((600, 800), image_size=1024),
    "crop at the top left": frame_of((300, 400), image_size=256, crop_box=(0, 0, 230, 170)),
    "crop inside": frame_of((300, 400), image_size=256, crop_box=(50, 60, 333, 217)),
    "crop at the bottom right": frame_of((300, 400), image_size=256, crop_box=(170, 130, 400, 300)),
    "crop of full height": frame_of((300, 400), image_size=256, crop_box=(100, 0, 250, 300)),
    "very wide": frame_of((3, 2000), image_size=256),
    "very high": frame_of((2000, 2), image_size=256),
    "one pixel": frame_of((1, 1), image_size=256),
    "small model": frame_of((300, 200), image_size=64),
}


def blobs(n: int, *, grid: int, seed: int, mean: float, side: int = 64) -> Tensor:
    """Smooth random logits [n, side, side] with details of about side / grid px."""
    coarse = mean + 5 * torch.randn(n, 1, grid, grid, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (side, side), mode="bicubic")[:, 0]


def assert_equal(ours: Measures, theirs: Measures) -> None:
    assert ours.stability_score.tolist() == theirs.stability_score.tolist()
    assert ours.stability_score.dtype == theirs.stability_score.dtype
    assert ours.areas.tolist() == theirs.areas.tolist()
    assert ours.boxes.tolist() == theirs.boxes.tolist()
    assert [runs.tolist() for runs in ours.runs] == [runs.tolist() for runs in theirs.runs]


def compare(logits: Tensor, frame: Frame, *, offset: float = 1.0) -> None:
    assert_equal(kernels.measure(logits, frame, offset=offset), plain.measure(logits, frame, offset=offset))


@pytest.mark.parametrize("mean", [-8.0, 0.0, 8.0], ids=["sparse", "half", "dense"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_smooth_masks(frame: Frame, mean: float) -> None:
    compare(blobs(20, grid=7, seed=0, mean=mean), frame)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_noise(frame: Frame) -> None:
    compare(torch.randn(5, 64, 64, generator=torch.Generator().manual_seed(0)), frame)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("value", [-9.0, -1.0, -0.5, 0.0, 0.5, 9.0])
def test_constant_logits(frame: Frame, value: float) -> None:
    """Empty, exactly at a threshold, between thresholds, and everything."""
    compare(torch.full((2, 64, 64), value), frame)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize(("prompts", "outputs"), [(0, 3), (4, 3), (5, 1)])
def test_pixels_are_those_of_the_batch(frame: Frame, prompts: int, outputs: int) -> None:
    logits = blobs(prompts * outputs + 1, grid=7, seed=1, mean=0)[1:].view(prompts, outputs, 64, 64)
    batch = MaskBatch(logits, torch.zeros(prompts, outputs), frame)
    found = kernels.pixels(batch)
    assert found.dtype == torch.bool
    assert torch.equal(found, batch.masks())


def test_pixels_of_half_precision_are_those_of_the_batch() -> None:
    batch = MaskBatch(blobs(2, grid=7, seed=2, mean=0)[:, None].bfloat16(), torch.zeros(2, 1), FRAMES["landscape"])
    assert torch.equal(kernels.pixels(batch), batch.masks())


@pytest.mark.parametrize("row", [0, 31, 63])
@pytest.mark.parametrize("column", [0, 31, 63])
def test_single_pixels_also_in_the_padding(row: int, column: int) -> None:
    logits = torch.full((1, 64, 64), -20.0)
    logits[0, row, column] = 30.0
    for name in ("landscape", "portrait", "crop inside"):
        compare(logits, FRAMES[name])


def test_bars_that_touch_borders_join_into_one_run() -> None:
    """Full-height bars run on from column to column; a bar at the foot and one at the top meet in the next column."""
    logits = torch.full((3, 64, 64), -9.0)
    logits[0, :, 20:40] = 9.0
    logits[1, 32:, 20:30] = 9.0
    logits[1, :20, 30:40] = 9.0
    logits[2, :, 50:] = 9.0
    for frame in FRAMES.values():
        compare(logits, frame)


@pytest.mark.parametrize("offset", [0.01, 0.5, 3.0])
def test_other_offsets(offset: float) -> None:
    compare(blobs(10, grid=9, seed=1, mean=0.0), FRAMES["landscape"], offset=offset)


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_very_small_and_very_large_logits(scale: float) -> None:
    compare(scale * blobs(10, grid=9, seed=2, mean=0.0), FRAMES["crop inside"])


def test_masks_of_one_batch_do_not_touch_each_other() -> None:
    logits = blobs(12, grid=9, seed=3, mean=0.0)
    together = kernels.measure(logits, FRAMES["crop of full height"], offset=1.0)
    for k, one in enumerate(logits):
        alone = kernels.measure(one[None], FRAMES["crop of full height"], offset=1.0)
        assert alone.runs[0].tolist() == together.runs[k].tolist()


def test_logits_of_any_layout() -> None:
    logits = blobs(6, grid=5, seed=4, mean=0.0)
    expected = plain.measure(logits, FRAMES["landscape"], offset=1.0)
    turned = logits.transpose(1, 2).contiguous().transpose(1, 2)
    assert_equal(kernels.measure(turned, FRAMES["landscape"], offset=1.0), expected)


def test_no_masks() -> None:
    for frame in FRAMES.values():
        compare(torch.empty(0, 64, 64), frame)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    extent=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    image_size=st.sampled_from([128, 192, 512]),
    side=st.sampled_from([32, 64]),
    grid=st.integers(2, 20),
    mean=st.floats(-10, 10),
    seed=st.integers(0, 10**6),
)
def test_any_crop_of_any_image(
    size: tuple[int, int],
    corner: tuple[float, float],
    extent: tuple[float, float],
    image_size: int,
    side: int,
    grid: int,
    mean: float,
    seed: int,
) -> None:
    height, width = size
    x0, y0 = int(corner[0] * width), int(corner[1] * height)
    x1, y1 = min(width, x0 + 1 + int(extent[0] * width)), min(height, y0 + 1 + int(extent[1] * height))
    frame = frame_of(size, image_size=image_size, crop_box=(x0, y0, x1, y1))
    compare(blobs(3, grid=grid, seed=seed, mean=mean, side=side), frame)


@pytest.mark.parametrize(("source", "target"), [(64, 256), (170, 200), (256, 111), (100, 100), (1, 500), (500, 1)])
def test_tables_are_those_of_interpolate(source: int, target: int) -> None:
    """Resizing unit vectors reads off interpolate's own weights."""
    table = resize(source, target, kept=target)
    units = torch.eye(source)[:, None]
    theirs = F.interpolate(units, target, mode="linear", align_corners=False)[:, 0].numpy()
    ours = np.zeros_like(theirs)
    np.add.at(ours, (table.low, np.arange(target)), table.low_weight)
    np.add.at(ours, (table.high, np.arange(target)), table.high_weight)
    assert np.array_equal(ours, theirs)


def test_a_torch_that_does_not_fuse_rounds_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bilinear, "fuses", lambda: False)
    table = resize.__wrapped__(170, 200, kept=200)
    scale, half = np.float32(170) / np.float32(200), np.float32(0.5)
    for place in range(200):
        centre = max(np.float32(0), np.float32(scale * np.float32(place + 0.5)) - half)
        assert table.high_weight[place] == centre - np.floor(centre)
    assert not np.array_equal(table.high_weight, resize(170, 200, kept=200, fused=True).high_weight)
