"""Models shared by the parity tests: a released one with random weights, and ours holding the same state dict."""

from dataclasses import replace
from typing import Any

import torch

from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.presets import SamConfig
from tests.released import released_sam

TOLERANCE = 1e-4


def same_models(config: SamConfig, *, seed: int = 0) -> tuple[Any, Sam]:
    """The released model and ours, in evaluation mode, with equal weights."""
    released = released_sam(config, seed=seed)
    with torch.device("meta"):
        ours = Sam(config)
    ours.load_state_dict(released.state_dict(), assign=True)
    return released, ours.eval()


def shallow(config: SamConfig) -> SamConfig:
    """One windowed and one global block of the same width, on a 15x15 grid that windows of 14 do not divide."""
    encoder = replace(config.image_encoder, image_size=240, depth=2, global_attn_indexes=(1,))
    return replace(config, image_encoder=encoder)


def prompts_of_every_kind(config: SamConfig, *, n: int) -> dict[str, Prompts]:
    """N random prompts in each combination of points, boxes and masks; coordinates inside the model input."""
    side, low = config.image_size, config.low_res_size
    points, labels = torch.rand(n, 3, 2) * side, torch.randint(-1, 2, (n, 3))
    corners, masks = torch.rand(n, 2, 2) * side, torch.randn(n, 1, low, low) * 8
    boxes = corners.sort(1).values.flatten(1)
    return {
        "click": Prompts(points[:, :1], torch.ones(n, 1, dtype=torch.int64)),
        "points": Prompts(points, labels),
        "box": Prompts(boxes=boxes),
        "box and points": Prompts(points, labels, boxes),
        "mask": Prompts(mask_logits=masks),
        "points and mask": Prompts(points, labels, mask_logits=masks),
        "box and mask": Prompts(boxes=boxes, mask_logits=masks),
        "box, points and mask": Prompts(points, labels, boxes, masks),
    }


def released_decode(released: Any, embedding: torch.Tensor, prompts: Prompts, *, multimask: bool) -> tuple[Any, Any]:
    """Low-resolution logits and predicted IoU of the released model for prompts in the model input frame."""
    points = None if prompts.points is None else (prompts.points, prompts.labels)
    sparse, dense = released.prompt_encoder(points=points, boxes=prompts.boxes, masks=prompts.mask_logits)
    return released.mask_decoder(
        image_embeddings=embedding,
        image_pe=released.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, tolerance: float = TOLERANCE) -> None:
    """Absolute error within the tolerance, shapes equal."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
