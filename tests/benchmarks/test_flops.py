"""Arithmetic by formula against torch's own count of the products that the models really compute."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sam_core.model.absorbed_decoder import AbsorbedDecoder
from sam_core.model.conv_stem import ConvStem
from sam_core.model.sam import Sam
from sam_core.model.tiny_vit import TinyViT
from sam_core.presets import SamConfig, TinyEncoderConfig, stage_three, vit_b, vit_h, vit_l, vit_n, vit_t, vit_test
from tests.benchmarks.flops import (
    absorbed_decoder_macs,
    encoder_macs,
    matrix_rate,
    released_decoder_macs,
    stem_macs,
)
from tests.released import released_architecture

PROMPTS = 3


def patched(config: SamConfig) -> SamConfig:
    """The configuration with the patch embedding that the released code knows."""
    return replace(config, image_encoder=replace(config.image_encoder, stem="patch"))


def counted() -> FlopCounterMode:
    return FlopCounterMode(display=False)


@pytest.mark.parametrize("config", [vit_test(), patched(vit_n()), vit_b()], ids=lambda config: config.name)
@torch.no_grad()
def test_encoder(config: SamConfig) -> None:
    released = released_architecture(config).to("meta")
    with counted() as counter:
        released.image_encoder(torch.empty(1, 3, config.image_size, config.image_size, device="meta"))
    assert 2 * encoder_macs(config.image_encoder) == counter.get_total_flops()


@torch.no_grad()
def test_tiny_encoder() -> None:
    config = vit_t().image_encoder
    assert isinstance(config, TinyEncoderConfig)
    with torch.device("meta"):
        encoder, image = TinyViT(config).eval(), torch.empty(1, 3, config.image_size, config.image_size)
    with sdpa_kernel(SDPBackend.MATH), counted() as counter:
        encoder(image)
    assert 2 * encoder_macs(config) == counter.get_total_flops()


@torch.no_grad()
def test_convolutional_stem() -> None:
    config = vit_n().image_encoder
    with torch.device("meta"):
        stem, image = (
            ConvStem(config.embed_dim, config.out_chans),
            torch.empty(1, 3, config.image_size, config.image_size),
        )
    with counted() as counter:
        stem(image)
    assert 2 * stem_macs(config) == counter.get_total_flops()


@pytest.mark.parametrize("config", [vit_test(), patched(vit_n()), stage_three(vit_b())], ids=lambda config: config.name)
@torch.no_grad()
def test_released_decoder(config: SamConfig) -> None:
    released = released_architecture(config).to("meta")
    embedding = torch.empty(1, config.mask_decoder.transformer_dim, *[config.image_encoder.grid] * 2, device="meta")
    with counted() as counter:
        released.mask_decoder(
            image_embeddings=embedding,
            image_pe=embedding,
            sparse_prompt_embeddings=torch.empty(PROMPTS, 2, embedding.shape[1], device="meta"),
            dense_prompt_embeddings=embedding.expand(PROMPTS, -1, -1, -1),
            multimask_output=True,
        )
    macs = released_decoder_macs(config)
    assert 2 * macs.total(crops=1, prompts=PROMPTS, drawn=PROMPTS) == counter.get_total_flops()


@pytest.mark.parametrize("config", [vit_test(), stage_three(vit_test())], ids=lambda config: config.name)
def test_absorbed_decoder(config: SamConfig) -> None:
    sam = Sam(config).eval()
    features = sam.image_encoder(torch.randn(1, 3, config.image_size, config.image_size))
    sparse, dense = sam.prompt_encoder.embed(torch.rand(PROMPTS, 1, 2), torch.ones(PROMPTS, 1, dtype=torch.int64), None)
    sparse = sparse.expand(-1, 2, -1)
    decoder = AbsorbedDecoder(sam.mask_decoder)
    wanted = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    with sdpa_kernel(SDPBackend.MATH), counted() as counter:  # gradients on: products of compiled passes do not count
        shared = decoder.share(features, sam.prompt_encoder.dense_positions(), dense)
        decoder.draw(shared, decoder.decode(shared, sparse), wanted)
    macs = absorbed_decoder_macs(config)
    assert 2 * macs.total(crops=1, prompts=PROMPTS, drawn=2) == counter.get_total_flops()


def test_known_sizes() -> None:
    """Published: 486, 1493 and 2981 GMAC for the encoders, 1.81 for the decoder."""
    giga = [encoder_macs(config.image_encoder) / 1e9 for config in (vit_b(), vit_l(), vit_h())]
    assert [round(macs) for macs in giga] == [486, 1493, 2981]
    decoder = released_decoder_macs(vit_b())
    assert round((decoder.ask + decoder.draw) / 1e9, 2) == 1.81


def test_matrix_rate_is_a_rate() -> None:
    assert matrix_rate("cpu") > 1e9
