"""What goes into and comes out of mask generation, as types whose columns stay equally long.

Shapes: N masks or prompts, M outputs per prompt, R rejected candidates, [h, w] low-resolution logits.
Boxes of results are xywh in px of the original image, as in COCO: w and h count pixels, so one pixel has w = h = 1.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame, upscale_logits


class Reason(StrEnum):
    """Why a candidate mask was not kept, in the order in which the generator asks."""

    IOU = "iou"
    STABILITY = "stability"
    BOX_AT_CROP_EDGE = "box_at_crop_edge"
    AREA = "area"
    NMS_IN_CROP = "nms_in_crop"
    NMS_ACROSS_CROPS = "nms_across_crops"
    SMALL_REGION = "small_region"

    @property
    def code(self) -> int:
        """Position in the order above; what `Rejections.reason` stores."""
        return tuple(Reason).index(self)


@dataclass(frozen=True, slots=True)
class MaskBatch:
    """Masks decoded for N prompts on one image or crop, still at low resolution.

    logits  float [N, M, h, w], the padded square model input at a quarter of its side; above 0 is mask
    iou     float [N, M], the model's own estimate of each mask's IoU
    """

    logits: Tensor
    iou: Tensor
    frame: Frame

    def __post_init__(self) -> None:
        if self.logits.ndim != 4 or self.iou.shape != self.logits.shape[:2]:
            raise ValueError(f"MaskBatch: logits {tuple(self.logits.shape)} and iou {tuple(self.iou.shape)} do not fit")

    def __len__(self) -> int:
        return len(self.logits)

    def best(self) -> "MaskBatch":
        """Of each prompt the output with the highest predicted IoU: M becomes 1."""
        each, best = torch.arange(len(self.logits), device=self.iou.device), self.iou.argmax(1)
        return MaskBatch(self.logits[each, best][:, None], self.iou[each, best][:, None], self.frame)

    def masks(self, threshold: float = 0.0) -> Tensor:
        """bool [N, M, crop height, crop width]: logits brought to the crop's own pixels, then thresholded."""
        return upscale_logits(self.logits, self.frame) > threshold


@dataclass(frozen=True, slots=True)
class MaskRecords:
    """The kept masks of one image, best first.

    size             (height, width) of the original image, px
    rle              COCO compressed counts, column-major over the whole original image
    boxes            int64 [N, 4] xywh, px, original image
    areas            int64 [N], px
    predicted_iou    float32 [N]
    stability_score  float32 [N]
    points           float32 [N, 2] xy of the prompt, px, original image
    crop_boxes       int32 [N, 4] xywh of the crop that the mask was found in, px, original image
    """

    size: tuple[int, int]
    rle: tuple[bytes, ...]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    points: NDArray[np.float32]
    crop_boxes: NDArray[np.int32]

    def __post_init__(self) -> None:
        _check_equal_lengths(self, skip="size")

    def __len__(self) -> int:
        return len(self.rle)


@dataclass(frozen=True, slots=True)
class Rejections:
    """The candidates of one image that were not kept.

    reason           int8 [R], `Reason.code`
    points           float32 [R, 2] xy of the prompt, px, original image
    output           int8 [R], which of the prompt's outputs, 0 to 2
    predicted_iou    float32 [R]
    stability_score  float32 [R], NaN where the candidate fell before stability was computed
    crop_boxes       int32 [R, 4] xywh, px, original image
    """

    reason: NDArray[np.int8]
    points: NDArray[np.float32]
    output: NDArray[np.int8]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    crop_boxes: NDArray[np.int32]

    def __post_init__(self) -> None:
        _check_equal_lengths(self)

    def __len__(self) -> int:
        return len(self.reason)

    @classmethod
    def none(cls) -> Self:
        """Of an image on which every candidate was kept, or of which only the kept masks are known."""
        scores, pairs, fours = np.zeros(0, np.float32), np.zeros((0, 2), np.float32), np.zeros((0, 4), np.int32)
        codes = np.zeros(0, np.int8)
        return cls(codes, pairs, codes, scores, scores, fours)

    def counts(self) -> dict[Reason, int]:
        """How many candidates fell for each reason, zeros included."""
        counts = np.bincount(self.reason, minlength=len(Reason)).tolist()
        return dict(zip(Reason, counts, strict=True))


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds per step of one image by `time.perf_counter`, summed over threads that work side by side."""

    encode: float = 0.0
    decode: float = 0.0
    select: float = 0.0
    nms: float = 0.0
    regions: float = 0.0
    rle: float = 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything the generator says about one image. Every candidate is either a mask or a rejection."""

    masks: MaskRecords
    rejections: Rejections
    seconds: StepSeconds

    @property
    def candidates(self) -> int:
        return len(self.masks) + len(self.rejections)


def _check_equal_lengths(columns: Any, *, skip: str = "") -> None:
    lengths = {field.name: len(getattr(columns, field.name)) for field in fields(columns) if field.name != skip}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(columns).__name__}: columns differ in length: {lengths}")
