"""The model that training begins with: loaded and fitted to the configuration, or new."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sam_core.model.position_tables import resize_model_state
from sam_core.model.sam import Sam
from sam_core.presets import SamConfig, at_image_size
from sam_core.training.config import TrainConfig
from sam_core.training.distillation import adopt_decoder
from sam_core.training.initialise import align_cross_attention, deepened, set_drop_path
from workflows.models import Model


def first_model(config: TrainConfig, start: Model | None, teacher: Sam | None = None) -> Sam:
    """The model before the first step: loaded, its position tables fitted to the input's size, or new from the seed.

    Raises ValueError when the checkpoint holds another model than the configuration trains.
    """
    torch.manual_seed(config.seed)
    model = Sam(config.sam)
    if start:
        loaded = start.load()
        require_same_model(config, loaded.sam.config, start.path)
        state = resize_model_state(loaded.sam.state_dict(), model.config)
        state = deepened(state, depth=model.config.mask_decoder.depth)
        model.load_state_dict(new_text_prompt(model) | state)
    elif config.align_start:
        align_cross_attention(model)
    if teacher:
        adopt_decoder(model, teacher)
        model.prompt_encoder.requires_grad_(False)
        model.mask_decoder.requires_grad_(False)
    model.image_encoder.requires_grad_(not config.freeze_encoder)
    set_drop_path(model, config.drop_path)
    return model


def new_text_prompt(model: Sam) -> dict[str, Tensor]:
    """The part of a model's state that a model without text prompts lacks."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("text_prompt.")}


def require_same_model(config: TrainConfig, found: SamConfig, start: str) -> None:
    """Raises ValueError when a checkpoint holds another model than the configuration trains, input size, missing
    layers of the mask decoder and missing text prompts aside."""
    if found.text_width not in (0, config.text_width):
        raise ValueError(
            f"{start} takes text prompts of width {found.text_width}: train it with a preset for text and its own CLIP"
        )
    wanted, held = config.sam, at_image_size(found, config.image_size)
    decoder = replace(held.mask_decoder, depth=max(held.mask_decoder.depth, wanted.mask_decoder.depth))
    if (held.image_encoder, decoder) != (wanted.image_encoder, wanted.mask_decoder):
        raise ValueError(
            f"{start} holds {found.name}, the preset trains {wanted.name}: choose the preset of that model, or "
            "give --model"
        )
