"""Compiles what the generator runs on a CPU, so that no image waits for it: `python -m sam_core.compile_ahead`."""

from dataclasses import replace

import numpy as np

from sam_core.generator import MaskGenerator
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.presets import MaskDecoderConfig, at_image_size, vit_test
from sam_core.recipes import Recipe

_EVERYTHING = Recipe(
    points_per_side=2,
    crop_layers=1,
    min_predicted_iou=0,
    min_stability_score=0,
    min_region_area=4,
    crop_edge_tolerance=0,
)
"""Keeps masks whatever they look like, and cleans them."""


def compile_ahead() -> None:
    """Generate masks once with `vit_n` and once as released models do; the machine code that this needs stays on disk,
    beside the modules.

    It is made for this kind of CPU: on another one, an image waits for its own.
    """
    rows, columns = np.ogrid[:96, :128]
    disc = np.hypot(rows - 48, columns - 64) < 30
    image = np.repeat(np.where(disc, 220, 40).astype(np.uint8)[:, :, None], 3, 2)
    for sam in (load_model("vit_n").sam, _wide()):
        MaskGenerator(sam, _EVERYTHING).generate(image)


def _wide() -> Sam:
    """A small model with what the released ones have and `vit_n` has not: attention over a grid so large, and a decoder
    so wide, that they are compiled in another way."""
    small = at_image_size(vit_test(), 512)
    encoder = replace(small.image_encoder, out_chans=256)
    return Sam(replace(small, image_encoder=encoder, mask_decoder=MaskDecoderConfig())).eval()


if __name__ == "__main__":
    compile_ahead()
