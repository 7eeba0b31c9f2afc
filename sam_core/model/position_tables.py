"""Position tables on grids of another size: how a model trained at one input size goes on at another."""

import torch.nn.functional as F
from torch import Tensor

from sam_core.presets import SamConfig, TinyEncoderConfig


def resize_relative_table(table: Tensor, length: int) -> Tensor:
    """Relative positions [L, c] -> [length, c], linearly, as `get_rel_pos` of the released code does."""
    if table.shape[0] == length:
        return table
    return F.interpolate(table.T[None], size=length, mode="linear")[0].T


def resize_absolute_table(table: Tensor, h: int, w: int) -> Tensor:
    """Absolute positions on any grid, [1, *, *, C] -> [1, h, w, C], bicubic; a linear ramp stays one."""
    if table.shape[1:3] == (h, w):
        return table
    resized = F.interpolate(table.permute(0, 3, 1, 2), size=(h, w), mode="bicubic", antialias=True)
    return resized.permute(0, 2, 3, 1)


def resize_model_state(state: dict[str, Tensor], config: SamConfig) -> dict[str, Tensor]:
    """The state dict of the same model at another input size, made to fit `config`.

    Only `pos_embed` and the `rel_pos` tables of global blocks change; everything else is passed on as it is.
    """
    encoder = config.image_encoder
    resized = dict(state)
    if isinstance(encoder, TinyEncoderConfig):  # its windows do not change with the input
        return resized
    if encoder.absolute_positions:
        key = "image_encoder.pos_embed"
        resized[key] = resize_absolute_table(state[key], encoder.grid, encoder.grid)
    for block in range(encoder.depth):
        for axis in "hw":
            key = f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"
            resized[key] = resize_relative_table(state[key], 2 * encoder.attention_side(block) - 1)
    return resized
