"""The released generator, `segment-anything==1.0`, made to answer like ours: masks, rejections, seconds per step.

The algorithm and the modules are the package's own. Around them are put: a clock on its functions, and a witness that
notes the rows which its tables lose. Both cost milliseconds per image.

A model with a convolutional stem, which the package cannot build, is the package's model with two modules of ours: the
stem in the place of the patch embedding, and an upscaling that adds the stem's fine features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sam_core.masks.batch import Generation, MaskRecords, Reason, Rejections, StepSeconds
from sam_core.model.conv_stem import ConvStem
from sam_core.model.sam import Sam
from sam_core.presets import ImageEncoderConfig
from sam_core.recipes import Recipe, SmallMaskRule
from tests.benchmarks.clock import Clock, clock_of
from tests.released import released_architecture, released_generator

AMG = "segment_anything.automatic_mask_generator"
STEP_OF_FUNCTION = {
    "batched_nms": "nms",
    "uncrop_masks": "rle",
    "mask_to_rle_pytorch": "rle",
    "coco_encode_rle": "rle",
    "area_from_rle": "rle",
}
"""Which step a function of the released module belongs to; bringing logits to full size, filters, stability, boxes and
the rest are "select"."""


def released_recipe(recipe: Recipe) -> Recipe:
    """The recipe without what the released generator does not know: the rule on full-image masks, and dropping masks
    that consist of small parts."""
    return replace(recipe, full_image_fraction=0.0, small_masks=SmallMaskRule.KEEP_LARGEST)


def released_model(sam: Sam) -> Any:
    """The released model with the weights of ours, on the same device, in evaluation mode."""
    encoder = sam.config.image_encoder
    assert isinstance(encoder, ImageEncoderConfig), "the released encoder is a plain ViT"
    conv = encoder.stem == "conv"
    encoder = replace(encoder, stem="patch")
    model = released_architecture(replace(sam.config, image_encoder=encoder))
    if conv:
        stem = RememberingStem(encoder.embed_dim, encoder.out_chans)
        model.image_encoder.patch_embed = stem
        model.mask_decoder.output_upscaling = FineUpscaling(model.mask_decoder.output_upscaling, lambda: stem.fine)
    model.load_state_dict(sam.state_dict())
    return model.to(sam.device).eval()


class RememberingStem(ConvStem):
    """Our stem where a patch embedding is expected; keeps the fine features of the last image."""

    fine: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        tokens, self.fine = super().forward(x)
        return tokens


class FineUpscaling(nn.Sequential):
    """The released upscaling, with fine features added after each transposed convolution."""

    def __init__(self, layers: nn.Sequential, fine: Callable[[], tuple[Tensor, ...]]) -> None:
        super().__init__(*layers)
        self._fine = fine

    def forward(self, x: Tensor) -> Tensor:
        to_stride_8, norm, activation, to_stride_4, last_activation = self
        at_8, at_4 = self._fine()
        out: Tensor = last_activation(to_stride_4(activation(norm(to_stride_8(x) + at_8))) + at_4)
        return out


class ReleasedGenerator:
    """The released generator on our model and recipe. Raises ValueError for a recipe that it cannot follow."""

    def __init__(self, sam: Sam, recipe: Recipe, *, points_per_batch: int = 64, hurried: bool = False) -> None:
        if recipe != released_recipe(recipe):
            raise ValueError("the released generator has no rule on full-image masks and drops no masks of small parts")
        self._model = released_model(sam)
        self._clock = clock_of(sam.device.type)
        self._hurried = hurried
        if hurried:
            self._model.image_encoder.compile(dynamic=False)
        self._generator = released_generator(self._model, recipe, points_per_batch=points_per_batch)

    def generate(self, image: npt.NDArray[np.uint8]) -> Generation:
        """Masks, rejections and seconds per step of an image uint8 RGB [H, W, 3]."""
        steps, witness = StepClock(self._clock), Witness(self._model.mask_decoder.num_multimask_outputs)
        half = torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._hurried)
        with half, self._observed(steps, witness), steps.spent_on("select"):
            found = self._generator.generate(image)
        size = (image.shape[0], image.shape[1])
        return Generation(as_records(found, size), witness.rejections(), StepSeconds(**steps.seconds))

    @contextmanager
    def _observed(self, steps: StepClock, witness: Witness) -> Iterator[None]:
        generator, model = self._generator, self._model
        module = import_module(AMG)
        with ExitStack() as patches:
            for name, step in STEP_OF_FUNCTION.items():
                patches.enter_context(mock.patch.object(module, name, steps.timed(getattr(module, name), step)))
            for owner, name, step in (
                (generator.predictor, "set_image", "encode"),
                (model.prompt_encoder, "forward", "decode"),
                (model.mask_decoder, "forward", "decode"),
                (generator, "postprocess_small_regions", "regions"),
            ):
                patches.enter_context(mock.patch.object(owner, name, steps.timed(getattr(owner, name), step)))
            patches.enter_context(mock.patch.object(module, "MaskData", witness.table(module.MaskData)))
            follow = witness.follow(generator._process_crop)
            patches.enter_context(mock.patch.object(generator, "_process_crop", follow))
            yield


class StepClock:
    """Seconds by step, where a step inside another one is counted once, as the inner one."""

    def __init__(self, clock: Clock) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock = clock
        self._step = ""
        self._since = 0.0

    @contextmanager
    def spent_on(self, step: str) -> Iterator[None]:
        outer = self._switch(step)
        try:
            yield
        finally:
            self._switch(outer)

    def timed(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.spent_on(step):
                return function(*args, **kwargs)

        return wrapper

    def _switch(self, step: str) -> str:
        now, before = self._clock(), self._step
        if before:
            self.seconds[before] += now - self._since
        self._step, self._since = step, now
        return before


class Witness:
    """Notes every candidate that the released generator drops.

    Its tables pass through the rules in a fixed order and gain columns on the way, so the columns say which rule it is.
    """

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs
        self._crop = (0, 0, 0, 0)
        self._rows: list[dict[str, npt.NDArray[Any]]] = []

    def follow(self, process_crop: Callable[..., Any]) -> Callable[..., Any]:
        """`_process_crop`, with the witness knowing the crop."""

        def wrapper(image: npt.NDArray[np.uint8], crop_box: list[int], *rest: Any) -> Any:
            x0, y0, x1, y1 = crop_box
            self._crop = (x0, y0, x1, y1)
            return process_crop(image, crop_box, *rest)

        return wrapper

    def table(self, mask_data: type) -> type:
        """A subclass of `MaskData` that reports to this witness."""
        witness = self

        class WitnessedData(mask_data):  # type: ignore[misc]
            def __init__(self, **columns: Any) -> None:
                if columns:
                    columns["output"] = torch.arange(len(columns["points"])) % witness._outputs
                super().__init__(**columns)

            def filter(self, keep: Tensor) -> None:
                witness.note(self, keep)
                super().filter(keep)

            def to_numpy(self) -> None:
                for name, values in self.items():
                    if isinstance(values, Tensor) and values.dtype == torch.bfloat16:
                        self[name] = values.float()  # of which numpy knows
                super().to_numpy()

        return WitnessedData

    def note(self, data: Any, keep: Tensor) -> None:
        """Books the rows of a table that are about to be dropped; keep: bool [N] or indices."""
        columns = dict(data.items())
        gone = np.ones(len(columns["points"]), np.bool_)
        gone[_numpy(keep)] = False
        n, placed = int(gone.sum()), "crop_boxes" in columns
        corner = (0, 0) if placed else self._crop[:2]
        boxes = _numpy(columns["crop_boxes"])[gone] if placed else np.tile(self._crop, (n, 1))
        stability = columns.get("stability_score")
        self._rows.append(
            {
                "reason": np.full(n, reason_of(columns).code, np.int8),
                "points": (_numpy(columns["points"])[gone] + corner).astype(np.float32),
                "output": _numpy(columns["output"])[gone].astype(np.int8),
                "predicted_iou": _numpy(columns["iou_preds"])[gone].astype(np.float32),
                "stability_score": np.full(n, np.nan, np.float32) if stability is None else _numpy(stability)[gone],
                "crop_boxes": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(np.int32),
            }
        )

    def rejections(self) -> Rejections:
        """Everything noted, in order."""
        return Rejections(**{name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]})


def reason_of(columns: dict[str, Any]) -> Reason:
    """The rule at which a table of the released generator is filtered, by the columns that it has by then."""
    if "stability_score" not in columns:
        return Reason.IOU
    if "boxes" not in columns:
        return Reason.STABILITY
    if "rles" not in columns:
        return Reason.BOX_AT_CROP_EDGE
    if "crop_boxes" not in columns:
        return Reason.NMS_IN_CROP
    return Reason.NMS_ACROSS_CROPS if isinstance(columns["points"], Tensor) else Reason.SMALL_REGION


def as_records(found: list[dict[str, Any]], size: tuple[int, int]) -> MaskRecords:
    """The released generator's output for one image; its boxes count from the first to the last pixel."""

    def column(name: str, width: int | None = None) -> npt.NDArray[Any]:
        values = np.array([mask[name] for mask in found], np.float64)
        return values if width is None else values.reshape(-1, width)

    return MaskRecords(
        size=size,
        rle=tuple(mask["segmentation"]["counts"].encode() for mask in found),
        boxes=(column("bbox", 4) + [0, 0, 1, 1]).astype(np.int64),
        areas=column("area").astype(np.int64),
        predicted_iou=column("predicted_iou").astype(np.float32),
        stability_score=column("stability_score").astype(np.float32),
        points=column("point_coords", 2).astype(np.float32),
        crop_boxes=column("crop_box", 4).astype(np.int32),
    )


def _numpy(values: Any) -> npt.NDArray[Any]:
    """On the host; numpy knows no bfloat16."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    host = values.detach().cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()
