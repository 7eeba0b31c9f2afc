"""The encoder for many images on a CPU is the model's own, for any model and in any number of lanes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam_core.lanes import open_lanes
from sam_core.model import linear
from sam_core.model.cpu_encoder import cpu_encoder
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.linear import SplitLinear
from sam_core.model.sam import Sam
from sam_core.model.tiny_vit import TinyViT
from sam_core.model.window_memory import WindowMemory
from sam_core.presets import EncoderConfig, TinyEncoderConfig, at_image_size, vit_t, vit_test
from tests.released import randomise

SIDE = 128


def model_with(encoder: EncoderConfig) -> Sam:
    sam = Sam(replace(at_image_size(vit_test(), SIDE), image_encoder=encoder)).eval()
    randomise(sam, seed=1)
    return sam


def tiny() -> EncoderConfig:
    encoder = at_image_size(vit_t(), SIDE).image_encoder
    assert isinstance(encoder, TinyEncoderConfig)
    return replace(encoder, out_chans=vit_test().image_encoder.out_chans)


def pictures() -> list[Tensor]:
    """Model inputs [1, 3, SIDE, SIDE], padded below."""
    made = torch.randn(4, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    made[:, :, :, 100:] = 0
    return list(made)


@pytest.mark.parametrize("encoder", [at_image_size(vit_test(), SIDE).image_encoder, tiny()])
def test_lanes_encode_as_the_model_does(encoder: EncoderConfig) -> None:
    sam = model_with(encoder)
    fast = cpu_encoder(sam)

    def encode(picture: Tensor) -> ImageFeatures:
        with torch.no_grad():
            return fast(picture)

    with open_lanes(torch.device("cpu"), 3) as lanes:
        together = list(lanes.map(encode, pictures()))
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as alone:
        for picture, found in zip(pictures(), together, strict=True):
            assert torch.equal(found.embedding, alone.submit(encode, picture).result().embedding)
            with torch.no_grad():
                torch.testing.assert_close(found.embedding, sam.image_encoder(picture).embedding, rtol=1e-4, atol=1e-4)


def test_tiles_and_a_memory_of_padding_are_used_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "has_tiles", lambda: True)
    fast = cpu_encoder(model_with(at_image_size(vit_test(), SIDE).image_encoder))
    assert isinstance(fast, WindowMemory)
    assert any(isinstance(layer, SplitLinear) for layer in fast._encoder.modules())
    small = cpu_encoder(model_with(tiny()))
    assert isinstance(small, TinyViT)
    assert any(isinstance(layer, SplitLinear) for layer in small.modules())
