"""Windows that are as in the crop before are not computed again, and everything comes out as it does without."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_core.generator import MaskGenerator
from sam_core.model import window_memory
from sam_core.model.image_encoder import ImageEncoder
from sam_core.model.sam import Sam
from sam_core.model.window_memory import WindowMemory
from sam_core.presets import ImageEncoderConfig, at_image_size, vit_n, vit_test
from sam_core.recipes import Recipe
from tests.conftest import REPOSITORY
from tests.released import randomise

SIDE = 128
"""A grid of 8 x 8 tokens, in windows of 3 x 3 that reach beyond it."""


def encoder_of(**changes: object) -> ImageEncoder:
    config = at_image_size(vit_test(), SIDE)
    assert isinstance(config.image_encoder, ImageEncoderConfig)
    encoder = ImageEncoder(replace(config.image_encoder, **changes)).eval()  # type: ignore[arg-type]
    randomise(encoder, seed=0)
    return encoder


def crop(height: int, width: int, seed: int) -> Tensor:
    """A crop [1, 3, SIDE, SIDE] of so many px, beyond which there is padding."""
    picture = torch.zeros(1, 3, SIDE, SIDE)
    picture[:, :, :height, :width] = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    return picture


def crops() -> list[Tensor]:
    """Wide ones, a tall one, one without padding, and what stands there twice."""
    made = [crop(80, SIDE, 0), crop(70, SIDE, 1), crop(SIDE, 40, 2), crop(SIDE, 33, 3), crop(SIDE, SIDE, 4)]
    return [*made, made[-1], crop(16, 16, 5), crop(16, 16, 6)]


@torch.inference_mode()
def test_crops_come_out_as_without_a_memory_bit_for_bit() -> None:
    encoder = encoder_of(depth=3, global_attn_indexes=(2,))
    memory = WindowMemory(encoder)
    for picture in crops():
        assert torch.equal(memory(picture).embedding, encoder(picture).embedding)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="MKL's variable")
def test_they_do_on_a_processor_that_rounds_few_rows_in_its_own_way() -> None:
    """As MKL does with AVX2 and no more, in several of these shapes."""
    code = f"import {__name__} as module; module.{test_crops_come_out_as_without_a_memory_bit_for_bit.__name__}()"
    environment = os.environ | {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("alike", [True, False])
@torch.inference_mode()
def test_windows_that_are_as_before_are_not_computed_where_they_come_out_alike(
    monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    monkeypatch.setattr(window_memory, "_alone_as_among_others", lambda *_: alike)
    encoder = encoder_of(depth=3, global_attn_indexes=(2,))
    memory, seen = WindowMemory(encoder), []
    encoder.blocks[0].register_forward_hook(lambda block, given, out: seen.append(tuple(out.shape[1:3])))
    for picture in crops():
        memory(picture)
    fewer = [(8, 8), (6, 8), (8, 8), (8, 3), (8, 8), (3, 3), (8, 8), (3, 3)]
    assert seen == (fewer if alike else [(8, 8)] * len(fewer))


@torch.inference_mode()
def test_a_shape_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, ...]] = []
    monkeypatch.setattr(window_memory, "_alone_as_among_others", lambda _, *shape: tried.append(shape[1:]) or True)
    memory = WindowMemory(encoder_of())
    for seed in range(4):
        memory(crop(70, SIDE, seed))
    assert tried == [(6, 9)]  # whole windows, of which the last reaches beyond the grid


@torch.inference_mode()
def test_a_stem_of_convolutions_sees_past_the_border() -> None:
    """So that padding beside the picture differs from padding farther away."""
    config = vit_n().image_encoder
    assert isinstance(config, ImageEncoderConfig)
    encoder, side = ImageEncoder(config).eval(), config.image_size
    randomise(encoder, seed=0)
    memory = WindowMemory(encoder)
    for seed, height in enumerate((side // 2, side // 2, side // 3)):
        picture = torch.zeros(1, 3, side, side)
        picture[:, :, :height] = torch.randn(3, height, side, generator=torch.Generator().manual_seed(seed))
        found, expected = memory(picture), encoder(picture)
        assert torch.equal(found.embedding, expected.embedding)
        assert all(map(torch.equal, found.fine, expected.fine))


def test_the_generator_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a second picture as wide as the first, the windows of padding are not computed."""
    monkeypatch.setattr(window_memory, "_alone_as_among_others", lambda *_: True)
    sam, seen = Sam(at_image_size(vit_test(), SIDE)), []
    sam.image_encoder.blocks[0].register_forward_hook(lambda block, given, out: seen.append(tuple(out.shape[1:3])))  # type: ignore[index,operator]
    generator = MaskGenerator(sam.eval(), Recipe(points_per_side=1))
    for seed in range(2):
        generator.generate(np.random.default_rng(seed).integers(0, 256, (70, 128, 3), np.uint8))
    assert seen == [(8, 8), (6, 8)]


def test_other_weights_are_noticed() -> None:
    """Whether a step of training wrote them, or another checkpoint took their place."""
    encoder, picture = encoder_of(), crop(60, SIDE, 0)
    memory = WindowMemory(encoder)
    scales = encoder.blocks[0].mlp.lin2.weight
    for change in (lambda: scales.mul_(1.5), lambda: setattr(scales, "data", scales * 0.5)):
        with torch.no_grad():
            memory(picture)
            change()
            assert torch.equal(memory(picture).embedding, encoder(picture).embedding)


def test_gradients_go_through_all_of_it() -> None:
    encoder = encoder_of()
    memory = WindowMemory(encoder)
    for seed in range(2):
        picture = crop(60, SIDE, seed)
        torch.testing.assert_close(memory(picture).embedding, encoder(picture).embedding, atol=0, rtol=0)
    assert memory(picture).embedding.requires_grad


@pytest.mark.parametrize("changes", [{"global_attn_indexes": (0,)}, {"depth": 1, "global_attn_indexes": ()}])
@torch.inference_mode()
def test_encoders_that_begin_with_a_global_block_or_have_none(changes: dict[str, object]) -> None:
    encoder = encoder_of(**changes)
    memory = WindowMemory(encoder)
    for seed in range(2):
        picture = crop(60, SIDE, seed)
        assert torch.equal(memory(picture).embedding, encoder(picture).embedding)
