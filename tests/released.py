"""The released code, `segment-anything==1.0`, as the reference of parity tests.

It needs four functions of torchvision, which has no build for a CPU-only PyTorch: its import gets stand-ins for them.
Fresh models of that package have zero relative and absolute positions and unit norms; errors in those would go
unseen, so every builder here randomises all parameters.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sam_core.presets import SamConfig
from sam_core.recipes import Recipe


def import_released() -> None:
    """Imports `segment_anything`, where torchvision is not installed with the stand-ins for it.

    They are gone afterwards: other libraries look whether torchvision is there.
    """
    if "segment_anything" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401
    except ImportError:
        before = set(sys.modules)
        _register("torchvision.ops.boxes", batched_nms=_batched_nms, box_area=_box_area)
        _register("torchvision.transforms.functional", resize=_resize, to_pil_image=Image.fromarray)
        import segment_anything  # noqa: F401

        for name in [name for name in set(sys.modules) - before if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


def released_sam(config: SamConfig, *, seed: int = 0) -> Any:
    """The released `Sam` of this configuration, every parameter random, in evaluation mode."""
    sam = released_architecture(config)
    randomise(sam, seed=seed)
    return sam.eval()


def released_architecture(config: SamConfig) -> Any:
    """The released classes put together as `build_sam.py` does, for any size. Initialised as they come."""
    import_released()
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    encoder, decoder = config.image_encoder, config.mask_decoder
    assert encoder.stem == "patch", "the released code has patch embeddings only"
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=encoder.image_size,
            patch_size=encoder.patch_size,
            embed_dim=encoder.embed_dim,
            depth=encoder.depth,
            num_heads=encoder.num_heads,
            mlp_ratio=encoder.mlp_ratio,
            out_chans=encoder.out_chans,
            norm_layer=lambda dim: nn.LayerNorm(dim, eps=1e-6),
            use_rel_pos=True,
            window_size=encoder.window_size,
            global_attn_indexes=encoder.global_attn_indexes,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=decoder.transformer_dim,
            image_embedding_size=(encoder.grid, encoder.grid),
            input_image_size=(encoder.image_size, encoder.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=decoder.transformer_dim,
            transformer=TwoWayTransformer(
                depth=decoder.depth,
                embedding_dim=decoder.transformer_dim,
                num_heads=decoder.num_heads,
                mlp_dim=decoder.mlp_dim,
            ),
            num_multimask_outputs=decoder.num_multimask_outputs,
            iou_head_depth=decoder.iou_head_depth,
            iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        ),
        pixel_mean=list(config.pixel_mean),
        pixel_std=list(config.pixel_std),
    )


def released_generator(sam: Any, recipe: Recipe, *, points_per_batch: int = 64) -> Any:
    """The released generator on a model of the released classes, with the values of a recipe."""
    import_released()
    from segment_anything import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(
        sam,
        points_per_side=recipe.points_per_side,
        points_per_batch=points_per_batch,
        pred_iou_thresh=recipe.min_predicted_iou,
        stability_score_thresh=recipe.min_stability_score,
        stability_score_offset=recipe.stability_offset,
        box_nms_thresh=recipe.nms_iou,
        crop_n_layers=recipe.crop_layers,
        crop_nms_thresh=recipe.crop_nms_iou,
        crop_overlap_ratio=recipe.crop_overlap,
        crop_n_points_downscale_factor=recipe.crop_points_downscale,
        min_mask_region_area=recipe.min_region_area,
        output_mode="coco_rle",
    )


def randomise(model: nn.Module, *, seed: int) -> None:
    """Random weights, norms, biases and positions, such that logits come out at a few units as in a trained model."""
    generator = torch.Generator().manual_seed(seed)
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    matrices = {module.weight for module in model.modules() if isinstance(module, layers)}
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter in matrices:
            parameter.data = noise * 1.4 * parameter[0].numel() ** -0.5
        else:
            parameter.data = parameter.data + 0.25 * noise


def _register(name: str, **functions: Any) -> None:
    """Puts a module called `name`, and its parents, into the import system."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:depth]))
        module.__spec__ = ModuleSpec(module.__name__, loader=None)  # asked for by who looks whether a package is there
        sys.modules.setdefault(module.__name__, module)
    for function, value in functions.items():
        setattr(sys.modules[name], function, value)


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _box_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Greedy suppression inside each group of `idxs`; kept indices by falling score."""
    offset = idxs.to(boxes) * (boxes.max() + 1 if boxes.numel() else 0)
    kept = _nms((boxes + offset[:, None]).numpy(), scores.float().numpy(), iou_threshold)
    return torch.as_tensor(kept, dtype=torch.int64)


def _nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        inter = np.prod(np.clip(high - low, 0, None), axis=1)
        order = order[~(inter / (areas[best] + areas[order] - inter) > iou_threshold)]
    return kept
