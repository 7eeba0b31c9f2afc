"""Numbers and run-lengths of upscaled logits against the released operations."""

from types import ModuleType

import numpy as np
import pytest
import torch

from sam_core import geometry
from sam_core.geometry import Frame, frame_of, upscale_logits
from sam_core.masks import plain
from sam_core.masks.plain import measure
from sam_core.presets import vit_test
from tests.released import released_architecture

FRAMES = {
    "landscape": frame_of((60, 90), image_size=64),
    "portrait": frame_of((200, 70), image_size=64),
    "crop": frame_of((200, 300), image_size=64, crop_box=(90, 40, 240, 160)),
    "one pixel": frame_of((1, 1), image_size=64),
    "very wide": frame_of((1, 3000), image_size=64),
}


def blobs(n: int, *, seed: int = 0) -> torch.Tensor:
    """Smooth random logits [N, 16, 16], positive in places, the last one nowhere."""
    coarse = 4 * torch.randn(n, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    logits = torch.nn.functional.interpolate(coarse, (16, 16), mode="bicubic")[:, 0]
    logits[-1] = -9.0
    return logits


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_equals_the_released_post_processing(amg: ModuleType, frame: Frame) -> None:
    logits = blobs(40)
    sam = released_architecture(vit_test())
    full = sam.postprocess_masks(logits[:, None], frame.input_size, frame.crop_size)[:, 0]
    stability = amg.calculate_stability_score(full, 0.0, 1.0).nan_to_num(0.0)
    boxes = amg.uncrop_boxes_xyxy(amg.batched_mask_to_box(full > 0), list(frame.crop_box))
    whole = amg.uncrop_masks(full > 0, list(frame.crop_box), *frame.original_size)

    measures = measure(logits, frame, offset=1.0)
    assert np.array_equal(measures.stability_score, stability.numpy())
    assert np.array_equal(measures.boxes, boxes.numpy())
    assert np.array_equal(measures.areas, whole.sum(dim=(1, 2)).numpy())
    assert [runs.tolist() for runs in measures.runs] == [runs["counts"] for runs in amg.mask_to_rle_pytorch(whole)]


def test_no_masks() -> None:
    measures = measure(torch.empty(0, 16, 16), FRAMES["crop"], offset=1.0)
    assert measures.stability_score.shape == measures.areas.shape == measures.runs.shape == (0,)
    assert measures.boxes.shape == (0, 4)


def test_few_masks_of_large_pictures_are_held_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def upscaled(logits: torch.Tensor, frame: Frame) -> torch.Tensor:
        held.append(len(logits))
        return upscale_logits(logits, frame)

    monkeypatch.setattr(plain, "upscale_logits", upscaled)
    monkeypatch.setattr(geometry, "PIXELS_AT_ONCE", 3 * 60 * 90)
    measure(blobs(8), FRAMES["landscape"], offset=1.0)
    assert held == [3, 3, 2]
