"""Simulated annotators: clicks until they are content, then the brush; time by the cost model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sam_core import annotators
from sam_core.annotators import Costs, Drawn, Habits, draw, nothing, prominence, work_through
from sam_core.geometry import frame_of
from sam_core.masks.batch import MaskBatch
from sam_core.masks.packed import PackedMasks
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, look_at
from sam_core.presets import vit_test
from sam_core.windows import Box, window_around

SIZE = 64


def blocks(count: int) -> NDArray[np.bool_]:
    """Squares of 16 px in different places, bool [count, 64, 64]."""
    masks = np.zeros((count, SIZE, SIZE), np.bool_)
    for index in range(count):
        y, x = divmod(index, 3)
        masks[index, 4 + 20 * y : 20 + 20 * y, 4 + 20 * x : 20 + 20 * x] = True
    return masks


def pixels(found: Drawn, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What was drawn of objects of that shape, bool [N, H, W]."""
    return PackedMasks(truth.shape[1:], tuple(found.rle)).dense()


@pytest.fixture
def sam() -> Sam:
    return Sam(vit_test()).eval()


def look(window: Box) -> ImageEmbedding:
    """Nothing to see, wherever one looks."""
    frame = frame_of((SIZE, SIZE), image_size=SIZE, crop_box=window)
    return ImageEmbedding(ImageFeatures(torch.zeros(1, 32, 4, 4)), (frame,))


def answers_after(monkeypatch: pytest.MonkeyPatch, truth: NDArray[np.bool_], clicks: int) -> list[Prompts]:
    """Let the model know the object under the first click once it has been given so many."""
    asked: list[Prompts] = []

    def decode(_: Sam, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> MaskBatch:
        asked.append(prompts)
        assert prompts.points is not None
        first = prompts.points[:, 0].long()
        which = [int(np.flatnonzero(truth[:, y, x])[0]) for x, y in first.tolist()]
        known = prompts.points.shape[1] >= clicks
        small = F.avg_pool2d(torch.from_numpy(truth[which]).float()[:, None], 4) * 2 - 1
        logits = small if known else torch.full_like(small, -1.0)
        outputs = 3 if multimask else 1
        iou = torch.arange(outputs).float().expand(len(which), outputs)
        return MaskBatch(logits.repeat(1, outputs, 1, 1) * 9, iou, embedding.frames[0])

    monkeypatch.setattr(annotators, "decode", decode)
    return asked


@pytest.mark.parametrize("needed", [1, 3])
def test_clicks_stop_when_the_mask_is_good(monkeypatch: pytest.MonkeyPatch, sam: Sam, needed: int) -> None:
    truth = blocks(4)
    asked = answers_after(monkeypatch, truth, needed)
    found = draw(sam, look, PackedMasks.of(truth))
    assert found.clicks.tolist() == [needed] * 4
    assert found.brushed.tolist() == [0] * 4
    assert (pixels(found, truth) & truth).sum() > 0.9 * truth.sum()
    assert (found.first_iou > 0.9).all() == (needed == 1)
    assert len(asked) == needed
    assert asked[0].mask_logits is None
    assert all(prompts.mask_logits is not None for prompts in asked[1:])
    assert truth[np.arange(4), found.points[:, 1].astype(int), found.points[:, 0].astype(int)].all()


def test_what_clicks_do_not_reach_is_brushed(monkeypatch: pytest.MonkeyPatch, sam: Sam) -> None:
    truth = blocks(2)
    answers_after(monkeypatch, truth, 99)
    found = draw(sam, look, PackedMasks.of(truth), Habits(clicks=3))
    assert found.clicks.tolist() == [3, 3]
    assert all(0 < brushed < 256 for brushed in found.brushed)  # a spot around the clicks was found, and nothing else
    assert (pixels(found, truth) == truth).all()


def test_a_real_model_and_batches_that_change_nothing(photo: NDArray[np.uint8], sam: Sam) -> None:
    truth = np.zeros((5, *photo.shape[:2]), np.bool_)
    for index in range(5):
        truth[index, 20 * index + 5 : 20 * index + 100, 40 * index + 5 : 40 * index + 120] = True
    whole, cut = (draw(sam, look_at(sam, photo), PackedMasks.of(truth), prompts_per_batch=size) for size in (32, 2))
    assert whole.clicks.tolist() == cut.clicks.tolist()
    np.testing.assert_allclose(whole.first_iou, cut.first_iou, atol=1e-3)
    assert (pixels(whole, truth)[whole.brushed > 0] == truth[whole.brushed > 0]).all()


def test_small_objects_are_drawn_in_their_window_as_in_an_image_of_its_own(photo: NDArray[np.uint8], sam: Sam) -> None:
    truth = np.zeros((3, *photo.shape[:2]), np.bool_)
    truth[0, 10:300, 20:400] = True  # too large for a window
    truth[1, 100:110, 200:212] = True
    truth[2, -12:, -9:] = True
    looked: list[Box] = []

    def look_and_note(window: Box) -> ImageEmbedding:
        looked.append(window)
        return look_at(sam, photo)(window)

    found = draw(sam, look_and_note, PackedMasks.of(truth), Habits(clicks=2))
    assert looked[0] == (0, 0, photo.shape[1], photo.shape[0])
    for index, box in ((1, (200, 100, 212, 110)), (2, (photo.shape[1] - 9, photo.shape[0] - 12, *photo.shape[1::-1]))):
        x0, y0, x1, y1 = window = window_around(photo.shape[:2], box)
        assert looked[index] == window
        assert x1 - x0 < 200
        alone = draw(
            sam,
            look_at(sam, np.ascontiguousarray(photo[y0:y1, x0:x1])),
            PackedMasks.of(cut := truth[index : index + 1, y0:y1, x0:x1]),
            Habits(clicks=2, zoom=0),
        )
        np.testing.assert_allclose(found.first_iou[index], alone.first_iou[0], atol=1e-3)
        assert np.abs(found.points[index] - alone.points[0] - (x0, y0)).max() == 0
        drawn, again = pixels(found, truth)[index], pixels(alone, cut)[0]
        assert (drawn[y0:y1, x0:x1] == again).all()
        assert drawn.sum() == again.sum()


def test_work_stops_when_the_time_is_used_up(monkeypatch: pytest.MonkeyPatch, sam: Sam) -> None:
    costs = Costs(find=4, click=2, brush=10)
    answers_after(monkeypatch, blocks(6), 1)  # 6 s each
    truth = PackedMasks.of(blocks(6))
    for at_once in (1, 4, 16):
        found = work_through(sam, look, truth, costs, seconds=20, at_once=at_once)
        assert len(found) == 4  # the fourth is begun at 18 s and finished
    assert len(work_through(sam, look, truth, costs, seconds=1000)) == 6
    assert len(work_through(sam, look, truth[:0], costs, seconds=1000)) == 0
    assert len(work_through(sam, look, truth, costs, seconds=0)) == 0
    assert len(nothing()) == 0


def test_the_cost_model_is_the_stated_one() -> None:
    costs = Costs(find=4, click=2, brush=10, stroke=0.1)
    assert costs.drawing(np.array([1, 9]), np.array([0, 400])).tolist() == [6.0, 4 + 18 + 10 + 2]
    assert prominence(PackedMasks.of(blocks(3)[[0, 1, 2]] & (np.arange(SIZE) > 10))).tolist()[-1] == 0
    with pytest.raises(ValueError, match="working times are 0 or more"):
        Costs(find=-1)
    for bad in ({"iou": 0.0}, {"iou": 1.5}, {"clicks": 0}):
        with pytest.raises(ValueError, match="at least 1 click"):
            Habits(**bad)
    with pytest.raises(ValueError, match="zoom is 0, or 2 or more"):
        Habits(zoom=1)
