"""Outputs and fine features of the mask decoder; its parity with the released one is tested with the whole model."""

import torch
import torch.nn.functional as F

from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.mask_decoder import MaskDecoder
from sam_core.presets import vit_test
from tests.released import randomise
from tests.sam_core.model.reference import assert_close


def decoder() -> MaskDecoder:
    built = MaskDecoder(vit_test().mask_decoder).eval()
    randomise(built, seed=0)
    return built


def inputs(*, images: int, prompts: int) -> tuple[ImageFeatures, torch.Tensor, torch.Tensor, torch.Tensor]:
    fine = (torch.randn(images, 8, 8, 8), torch.randn(images, 4, 16, 16))
    features = ImageFeatures(torch.randn(images, 32, 4, 4), fine)
    return features, torch.randn(1, 32, 4, 4), torch.randn(prompts, 2, 32), torch.randn(1, 32, 1, 1)


@torch.no_grad()
def test_single_and_multiple_outputs_are_parts_of_one_decoding():
    model, (features, pe, sparse, dense) = decoder(), inputs(images=1, prompts=3)
    single = model(features, pe, sparse, dense, multimask=False)
    multiple = model(features, pe, sparse, dense, multimask=True)
    assert (single.logits.shape, single.iou.shape) == ((3, 1, 16, 16), (3, 1))
    assert (multiple.logits.shape, multiple.iou.shape) == ((3, 3, 16, 16), (3, 3))
    tokens = model.attend(features.embedding, pe, sparse, dense)
    iou = model.iou_prediction_head(tokens.iou)
    assert torch.equal(torch.cat([single.iou, multiple.iou], dim=1), iou)
    filters = model.mask_filters(tokens.masks, slice(None))
    logits = torch.einsum("nmc,nchw->nmhw", filters, model.upscale(tokens.image, features.fine))
    assert_close(torch.cat([single.logits, multiple.logits], dim=1), logits, tolerance=1e-5)


@torch.no_grad()
def test_fine_features_join_after_each_transposed_convolution():
    model, image = decoder(), torch.randn(2, 32, 4, 4)
    at_8, at_4 = torch.randn(1, 8, 8, 8), torch.randn(1, 4, 16, 16)
    first, norm, _, second, _ = model.output_upscaling
    x = F.conv_transpose2d(image, first.weight, first.bias, stride=2) + at_8
    x = F.layer_norm(x.permute(0, 2, 3, 1), (8,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)
    x = F.conv_transpose2d(F.gelu(x), second.weight, second.bias, stride=2) + at_4
    assert_close(model.upscale(image, (at_8, at_4)), F.gelu(x), tolerance=1e-5)
    assert_close(model.upscale(image, ()), model.output_upscaling(image), tolerance=1e-6)


@torch.no_grad()
def test_features_of_one_image_serve_all_prompts():
    model, (features, pe, sparse, dense) = decoder(), inputs(images=1, prompts=3)
    shared = model(features, pe, sparse, dense, multimask=True)
    repeated = model(features.take(torch.zeros(3, dtype=torch.int64)), pe, sparse, dense, multimask=True)
    assert_close(shared.logits, repeated.logits, tolerance=1e-5)
    assert_close(shared.iou, repeated.iou, tolerance=1e-5)
