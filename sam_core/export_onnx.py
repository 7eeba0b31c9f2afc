"""The prompt side of a model as ONNX: clicks to low-resolution masks, for browsers and other programs.

The graphs are traced from the modules that Python uses (`PromptEncoder`, `AbsorbedDecoder`): nothing is written again.
Several graphs, because a person clicks many times on one image:

    prepare   image features -> what all prompts on that image share; once per image, and per mask given as a prompt
    decode    that and one prompt -> four masks at low resolution and their predicted IoU; once per click
    ask       decode without its last step: the image as the prompt left it, and what it is multiplied with
    draw      the last step for some cells of the embedding: who waits draws what the picture covers before its padding

Bringing logits to the image's own pixels is left to whoever runs the graphs (`geometry.upscale_logits` says how).
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam_core.model.absorbed_decoder import AbsorbedDecoder, SharedImage
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.prompt_encoder import FOREGROUND, NOT_A_POINT
from sam_core.model.sam import Sam
from sam_core.model.upscaling import cells_to_rows, draw_cells, upscaling_of

OPSET = 17


@dataclass(frozen=True, slots=True)
class OnnxDecoder:
    """The bytes of the graphs; `prepare_with_mask` is `prepare` with the logits of an earlier answer.

    Inputs and outputs, float32 unless said otherwise; C, h, w of the embedding:

    prepare            embedding [1, C, h, w], fine_0, fine_1 where the model has fine features
    prepare_with_mask  the same and mask_logits [1, 1, 4h, 4w]
        outputs        image, positions, keys, values, queries, and cells_0, cells_1 with fine features: see SharedImage
    decode             these and points [1, P, 2] (xy, px of the model input), labels int64 [1, P]: 1 foreground,
                       0 background, 2 and 3 the corners of a box; points without a box end with one labelled -1
        outputs        logits [4, 4h, 4w] and iou [4]: output 0 for several prompts, 1 to 3 for a single one
    ask                the inputs of decode but for cells_0 and cells_1
        outputs        asked [h * w, C], filters [4, C/8] and iou [4]
    draw               filters, and n of the h * w cells in any order: asked [n, C], and cells_0 [n, 2, 2, C/4] and
                       cells_1 [n, 2, 2, 2, 2, C/8] with fine features
        outputs        drawn [4, n, 2, 2, 2, 2]: logits at 4y + 2i + a, 4x + 2j + b of cell y, x in the order i, j, a, b
    """

    prepare: bytes
    prepare_with_mask: bytes
    decode: bytes
    ask: bytes
    draw: bytes


def export_decoder(sam: Sam) -> OnnxDecoder:
    """Traces the prompt encoder and the mask decoder of a model on the CPU, which must be in float32."""
    features, logits = _example_features(sam), _example_logits(sam)
    names = ("embedding", *(f"fine_{level}" for level in range(len(features) - 1)))
    cells = tuple(f"cells_{level}" for level in range(len(features) - 1))
    image_names = SharedImage._fields[:5]
    asking, shared_names = ("points", "labels", *image_names), (*image_names, *cells)
    shared = _Prepare(sam)(*features)
    image, fine = shared[:5], shared[5:]
    prompt = torch.zeros(1, 2, 2), torch.tensor([[FOREGROUND, NOT_A_POINT]])
    asked, filters, _ = _Ask(sam)(*prompt, *image)
    drawing = (filters, asked, *(level.flatten(0, 1) for level in fine))
    any_number = {"points": {1: "prompts"}, "labels": {1: "prompts"}}
    some = {name: {0: "cells"} for name in ("asked", *cells)} | {"drawn": {1: "cells"}}
    return OnnxDecoder(
        prepare=_trace(_Prepare(sam), features, names, shared_names),
        prepare_with_mask=_trace(_PrepareWithMask(sam), (logits, *features), ("mask_logits", *names), shared_names),
        decode=_trace(_Decode(sam), (*prompt, *shared), (*asking, *cells), ("logits", "iou"), any_number),
        ask=_trace(_Ask(sam), (*prompt, *image), asking, ("asked", "filters", "iou"), any_number),
        draw=_trace(_Draw(sam), drawing, ("filters", "asked", *cells), ("drawn",), some),
    )


class _Step(nn.Module):
    """Something that a model does, to be traced."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam


class _Prepare(_Step):
    """Image features -> the fields of SharedImage, without a mask prompt."""

    def forward(self, embedding: Tensor, *fine: Tensor) -> tuple[Tensor, ...]:
        return _share(
            self.sam, ImageFeatures(embedding, fine), self.sam.prompt_encoder.no_mask_embed.weight[..., None, None]
        )


class _PrepareWithMask(_Step):
    """The same with low-resolution logits as a prompt."""

    def forward(self, mask_logits: Tensor, embedding: Tensor, *fine: Tensor) -> tuple[Tensor, ...]:
        return _share(self.sam, ImageFeatures(embedding, fine), self.sam.prompt_encoder.mask_downscaling(mask_logits))


def _share(sam: Sam, features: ImageFeatures, dense: Tensor) -> tuple[Tensor, ...]:
    """The fields of SharedImage, flat; `dense` is the dense prompt."""
    shared = AbsorbedDecoder(sam.mask_decoder).share(features, sam.prompt_encoder.dense_positions(), dense)
    return (shared.image, shared.positions, shared.keys, shared.values, shared.queries, *shared.fine)


class _Ask(_Step):
    """One prompt on a prepared image, without its fine features -> asked [L, C], filters [4, C/8], iou [4]."""

    def forward(
        self,
        points: Tensor,
        labels: Tensor,
        image: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        decoder, grid = AbsorbedDecoder(self.sam.mask_decoder, outputs=slice(None)), self.sam.config.image_encoder.grid
        shared = SharedImage(image, positions, keys, values, queries, (), (grid, grid), seen=(grid, grid))
        decoded = decoder.decode(shared, self.sam.prompt_encoder.embed(points, labels, None).sparse)
        return decoded.image[0], decoder.filters(decoded.masks)[0], decoded.iou[0]


class _Draw(_Step):
    """Filters [4, C/8], n cells [n, C] and their fine features -> logits [4, n, 2, 2, 2, 2]."""

    def forward(self, filters: Tensor, asked: Tensor, *cells: Tensor) -> Tensor:
        fine = tuple(level.flatten(0, -2) for level in cells)
        drawn = draw_cells(asked[None], filters[None], upscaling_of(self.sam.mask_decoder.output_upscaling), fine)
        return drawn.view(len(filters), -1, 2, 2, 2, 2)


class _Decode(nn.Module):
    """One prompt on a prepared image -> logits [4, 4h, 4w], iou [4]."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.ask, self.draw = _Ask(sam), _Draw(sam)

    def forward(self, points: Tensor, labels: Tensor, *shared: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.ask.sam.config.image_encoder.grid
        asked, filters, iou = self.ask(points, labels, *shared[:5])
        drawn = self.draw(filters, asked, *(level.flatten(0, 1) for level in shared[5:]))
        return cells_to_rows(drawn, (grid, grid)), iou


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
