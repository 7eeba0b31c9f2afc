"""A CLIP of transformers with random weights that takes milliseconds."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.text_prompts.clip_small import SmallClipConfig, new_clip, save_clip, vocabulary

SIZES = SmallClipConfig(
    image_size=16, patch_size=4, width=16, heads=2, vision_layers=2, text_layers=1, embedding=8, context=8
)
TEXTS = ("a red star", "the blue ring", "left of")


def write_small_clip(folder: Path, *, seed: int = 0, sizes: SmallClipConfig = SIZES) -> Path:
    """The folder, with such a CLIP in it."""
    save_clip(new_clip(sizes, vocabulary(TEXTS), seed=seed), folder)
    return folder
