"""The prompt side of a model as ONNX: clicks to low-resolution masks, for browsers and other programs.

The graphs are traced from the modules that Python uses (`PromptEncoder`, `AbsorbedDecoder`): nothing is written again.
Two graphs, because a person clicks many times on one image:

    prepare   image features -> what all prompts on that image share; once per image, and per mask given as a prompt
    decode    that and one prompt -> four masks at low resolution and their predicted IoU; once per click

Bringing logits to the image's own pixels is left to whoever runs the graphs (`geometry.upscale_logits` says how).
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam_core.model.absorbed_decoder import AbsorbedDecoder, DecodedPrompts, SharedImage
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.prompt_encoder import FOREGROUND, NOT_A_POINT
from sam_core.model.sam import Sam

OPSET = 17


@dataclass(frozen=True, slots=True)
class OnnxDecoder:
    """The bytes of the three graphs; `prepare_with_mask` is `prepare` with the logits of an earlier answer.

    Inputs and outputs, float32 unless said otherwise; C, h, w of the embedding:

    prepare            embedding [1, C, h, w], fine_0, fine_1 where the model has fine features
    prepare_with_mask  the same and mask_logits [1, 1, 4h, 4w]
        outputs        image, positions, keys, values, queries, and cells_0, cells_1 with fine features: see SharedImage
    decode             these and points [1, P, 2] (xy, px of the model input), labels int64 [1, P]: 1 foreground,
                       0 background, 2 and 3 the corners of a box; points without a box end with one labelled -1
        outputs        logits [4, 4h, 4w] and iou [4]: output 0 for several prompts, 1 to 3 for a single one
    """

    prepare: bytes
    prepare_with_mask: bytes
    decode: bytes


def export_decoder(sam: Sam) -> OnnxDecoder:
    """Traces the prompt encoder and the mask decoder of a model on the CPU, which must be in float32."""
    features, logits = _example_features(sam), _example_logits(sam)
    names = ("embedding", *(f"fine_{level}" for level in range(len(features) - 1)))
    shared_names = (*SharedImage._fields[:5], *(f"cells_{level}" for level in range(len(features) - 1)))
    shared = _Prepare(sam)(*features)
    points, labels = torch.zeros(1, 2, 2), torch.tensor([[FOREGROUND, NOT_A_POINT]])
    return OnnxDecoder(
        prepare=_trace(_Prepare(sam), features, names, shared_names),
        prepare_with_mask=_trace(_PrepareWithMask(sam), (logits, *features), ("mask_logits", *names), shared_names),
        decode=_trace(
            _Decode(sam),
            (points, labels, *shared),
            ("points", "labels", *shared_names),
            ("logits", "iou"),
            {"points": {1: "prompts"}, "labels": {1: "prompts"}},
        ),
    )


class _Prepare(nn.Module):
    """Image features -> the fields of SharedImage, without a mask prompt."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, embedding: Tensor, *fine: Tensor) -> tuple[Tensor, ...]:
        return _share(
            self.sam, ImageFeatures(embedding, fine), self.sam.prompt_encoder.no_mask_embed.weight[..., None, None]
        )


class _PrepareWithMask(nn.Module):
    """The same with low-resolution logits as a prompt."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, mask_logits: Tensor, embedding: Tensor, *fine: Tensor) -> tuple[Tensor, ...]:
        return _share(self.sam, ImageFeatures(embedding, fine), self.sam.prompt_encoder.mask_downscaling(mask_logits))


def _share(sam: Sam, features: ImageFeatures, dense: Tensor) -> tuple[Tensor, ...]:
    """The fields of SharedImage, flat; `dense` is the dense prompt."""
    shared = AbsorbedDecoder(sam.mask_decoder).share(features, sam.prompt_encoder.dense_positions(), dense)
    return (shared.image, shared.positions, shared.keys, shared.values, shared.queries, *shared.fine)


class _Decode(nn.Module):
    """One prompt on a prepared image -> logits [4, 4h, 4w], iou [4]."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, points: Tensor, labels: Tensor, *shared: Tensor) -> tuple[Tensor, Tensor]:
        decoder, grid = AbsorbedDecoder(self.sam.mask_decoder), self.sam.config.image_encoder.grid
        decoder.outputs = slice(None)
        first, positions, keys, values, queries, *cells = shared
        image = SharedImage(first, positions, keys, values, queries, tuple(cells), (grid, grid), seen=(grid, grid))
        sparse = self.sam.prompt_encoder.embed(points, labels, None).sparse
        decoded = decoder.decode(image, sparse)
        return self._draw(decoder, image, decoded), decoded.iou[0]

    def _draw(self, decoder: AbsorbedDecoder, image: SharedImage, decoded: DecodedPrompts) -> Tensor:
        return decoder.draw(image, decoded, torch.ones(decoded.iou.shape, dtype=torch.bool))


def _trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    dynamic: dict[str, dict[int, str]] | None = None,
) -> bytes:
    """The ONNX file of a module. With gradients on, which keeps the numba kernels of a CPU out of the trace."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # shapes that the trace keeps as constants are constants here
        torch.onnx.export(
            module.eval(),
            inputs,
            buffer,  # type: ignore[arg-type]  # the exporter that traces writes to it, whatever its stub says
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def _example_features(sam: Sam) -> tuple[Tensor, ...]:
    """Features of the right shapes: embedding, then the fine ones of a convolutional stem."""
    encoder = sam.config.image_encoder
    channels, grid = encoder.out_chans, encoder.grid
    embedding = torch.zeros(1, channels, grid, grid)
    if encoder.stem == "patch":
        return (embedding,)
    return (
        embedding,
        torch.zeros(1, channels // 4, 2 * grid, 2 * grid),
        torch.zeros(1, channels // 8, 4 * grid, 4 * grid),
    )


def _example_logits(sam: Sam) -> Tensor:
    side = sam.config.low_res_size
    return torch.zeros(1, 1, side, side)
