"""A small encoder after a large one: the student's features are fitted to the teacher's, no masks needed.

As in MobileSAM (Zhang et al. 2023, "decoupled distillation"): mean squared error between the two embeddings, and the
teacher's prompt encoder and mask decoder taken over as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.presets import SamConfig
from sam_core.training.config import TrainConfig
from sam_core.training.interactive import Encoder
from sam_core.training.targets import TrainBatch, normalised


def require_pair(ours: SamConfig, theirs: SamConfig) -> None:
    """Raises ValueError when a teacher's embedding or decoder is of another shape than the student's."""
    fine = (ours.image_encoder.stem == "conv", theirs.image_encoder.stem == "conv")
    if ours.mask_decoder != theirs.mask_decoder or fine[0] != fine[1]:
        raise ValueError(
            f"{ours.name} cannot be distilled from {theirs.name}: embeddings of {ours.image_encoder.out_chans} and "
            f"{theirs.image_encoder.out_chans} channels, or decoders that differ"
        )


def adopt_decoder(student: Sam, teacher: Sam) -> None:
    """Give the student the teacher's prompt encoder and mask decoder. Raises ValueError as `require_pair`."""
    require_pair(student.config, teacher.config)
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())


def distil(
    student: Sam,
    teacher: Sam,
    batch: TrainBatch,
    config: TrainConfig,
    *,
    encoder: Encoder | None = None,
    weight: float = 1.0,
) -> float:
    """Accumulate the gradients of one batch of images into the student's encoder; the mean squared error.

    Args:
        student, teacher: on the batch's device; the teacher sees the images at its own input size.
        batch: images; masks are not looked at.
        config: precision.
        encoder: stands in for the student's image encoder.
        weight: factor on the gradient.
    """
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=config.bfloat16):
        found = (encoder or student.image_encoder)(normalised(batch, student.pixel_mean, student.pixel_std))
        wanted = teacher_features(teacher, batch)
    loss = feature_error(found, wanted)
    (loss * weight).backward()
    return loss.item()


@torch.no_grad()
def teacher_features(teacher: Sam, batch: TrainBatch) -> ImageFeatures:
    """The teacher's features of images at its own input size."""
    pixels = normalised(batch, teacher.pixel_mean, teacher.pixel_std)
    side = teacher.config.image_size
    if pixels.shape[-1] != side:
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    features: ImageFeatures = teacher.image_encoder(pixels)
    return features


def feature_error(found: ImageFeatures, wanted: ImageFeatures) -> Tensor:
    """Mean squared error of the embedding, plus that of each fine feature; the teacher's grid is resized to ours."""
    pairs = zip((found.embedding, *found.fine), (wanted.embedding, *wanted.fine), strict=True)
    return torch.stack([F.mse_loss(ours.float(), _on_grid(theirs.float(), ours)) for ours, theirs in pairs]).sum()


def _on_grid(features: Tensor, like: Tensor) -> Tensor:
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, like.shape[-2:], mode="bilinear", antialias=True)
