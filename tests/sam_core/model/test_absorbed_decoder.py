"""The absorbed decoder against the plain one, which is itself compared with the released code."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam_core.llvm_tiles import has_tiles
from sam_core.model import absorbed_decoder, split_products
from sam_core.model.absorbed_decoder import AbsorbedDecoder
from sam_core.model.sam import Sam
from sam_core.model.upscaling import UNSEEN
from sam_core.presets import SamConfig, at_image_size, stage_three, vit_n, vit_test


def randomised(config: SamConfig) -> Sam:
    torch.manual_seed(7)
    sam = Sam(config).eval()
    for parameter in sam.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return sam


def narrow() -> SamConfig:
    """Channels that do not fill vectors."""
    config = vit_test()
    return replace(
        config,
        image_encoder=replace(config.image_encoder, out_chans=24),
        mask_decoder=replace(config.mask_decoder, transformer_dim=24),
    )


@pytest.mark.parametrize("config", [vit_test(), stage_three(vit_test()), at_image_size(vit_n(), 128), narrow()])
@torch.no_grad()
def test_same_iou_and_masks_as_the_plain_decoder(config: SamConfig) -> None:
    sam = randomised(config)
    features = sam.image_encoder(torch.randn(1, 3, config.image_size, config.image_size))
    points = torch.rand(5, 1, 2) * config.image_size
    labels = torch.ones(5, 1, dtype=torch.int64)
    sparse, dense = sam.prompt_encoder.embed(points, labels, None)
    positions = sam.prompt_encoder.dense_positions()
    plain = sam.mask_decoder(features, positions, sparse, dense, multimask=True)

    absorbed = AbsorbedDecoder(sam.mask_decoder)
    shared = absorbed.share(features, positions, dense)
    decoded = absorbed.decode(shared, sparse)
    wanted = torch.rand(5, 3) > 0.5
    wanted[2] = False
    torch.testing.assert_close(decoded.iou, plain.iou, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(absorbed.draw(shared, decoded, wanted), plain.logits[wanted], atol=1e-4, rtol=1e-4)


def whole_tiles() -> SamConfig:
    """64 positions of 128 channels."""
    config = at_image_size(vit_test(), 128)
    return replace(
        config,
        image_encoder=replace(config.image_encoder, out_chans=128),
        mask_decoder=replace(config.mask_decoder, transformer_dim=128),
    )


def answers(sam: Sam, *, split: bool) -> tuple[Tensor, Tensor]:
    """Predicted IoU and all masks of five clicks."""
    torch.manual_seed(3)
    side = sam.config.image_size
    features = sam.image_encoder(torch.randn(1, 3, side, side))
    sparse, dense = sam.prompt_encoder.embed(torch.rand(5, 1, 2) * side, torch.ones(5, 1, dtype=torch.int64), None)
    decoder = AbsorbedDecoder(sam.mask_decoder, split=split)
    shared = decoder.share(features, sam.prompt_encoder.dense_positions(), dense)
    decoded = decoder.decode(shared, sparse)
    return decoded.iou, decoder.draw(shared, decoded, torch.ones(5, 3, dtype=torch.bool))


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for products that holds no numbers until something is written there."""
    given = split_products._pieces

    def pieces(shape: tuple[int, ...], kind: torch.dtype) -> split_products.Split:
        made = given(shape, kind)
        for half in made:
            half[:] = 0x7FC0 if kind == torch.uint16 else 0x7FC07FC0
        return made

    monkeypatch.setattr(split_products, "_pieces", pieces)


@pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")
@pytest.mark.parametrize("config", [whole_tiles(), stage_three(whole_tiles()), at_image_size(vit_n(), 128), vit_test()])
@pytest.mark.usefixtures("poisoned")
@torch.no_grad()
def test_nearly_the_same_with_products_taken_apart_where_there_are_whole_tiles(config: SamConfig) -> None:
    sam = randomised(config)
    for exact, nearly in zip(answers(sam, split=False), answers(sam, split=True), strict=True):
        torch.testing.assert_close(nearly, exact, atol=2e-4 * float(exact.abs().max()), rtol=0)
        assert torch.equal(nearly, exact) is (config.mask_decoder.transformer_dim % 128 > 0)


@torch.no_grad()
def test_products_are_not_taken_apart_where_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absorbed_decoder, "has_tiles", lambda: False)
    sam = randomised(whole_tiles())
    for exact, same in zip(answers(sam, split=False), answers(sam, split=True), strict=True):
        assert torch.equal(same, exact)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_draws_nothing_when_nothing_is_wanted(dtype: torch.dtype) -> None:
    """In float32 the rows that are seen go through compiled passes, in other types all cells at once."""
    sam = randomised(vit_test()).to(dtype)
    features = sam.image_encoder(torch.randn(1, 3, 64, 64, dtype=dtype))
    sparse, dense = sam.prompt_encoder.embed(torch.rand(2, 1, 2), torch.ones(2, 1, dtype=torch.int64), None)
    absorbed = AbsorbedDecoder(sam.mask_decoder)
    shared = absorbed.share(features, sam.prompt_encoder.dense_positions(), dense)
    assert absorbed.draw(shared, absorbed.decode(shared, sparse), torch.zeros(2, 3, dtype=torch.bool)).shape == (
        0,
        16,
        16,
    )


@pytest.mark.parametrize("config", [vit_test(), at_image_size(vit_n(), 128)], ids=["plain", "fine features"])
@torch.no_grad()
def test_what_is_padding_is_not_drawn(config: SamConfig) -> None:
    sam = randomised(config)
    side = config.image_encoder.grid
    features = sam.image_encoder(torch.randn(1, 3, config.image_size, config.image_size))
    points = torch.rand(7, 1, 2) * config.image_size
    sparse, dense = sam.prompt_encoder.embed(points, torch.ones(7, 1, dtype=torch.int64), None)
    absorbed = AbsorbedDecoder(sam.mask_decoder)
    shared = absorbed.share(features, sam.prompt_encoder.dense_positions(), dense, seen=(side - 1, side - 2))
    wanted = torch.rand(7, 3) > 0.5
    drawn = absorbed.draw(shared, absorbed.decode(shared, sparse), wanted)
    plain = sam.mask_decoder(features, sam.prompt_encoder.dense_positions(), sparse, dense, multimask=True)
    rows, columns = 4 * (side - 1), 4 * (side - 2)
    torch.testing.assert_close(
        drawn[:, :rows, :columns], plain.logits[wanted][:, :rows, :columns], atol=1e-4, rtol=1e-4
    )
    assert (drawn[:, rows:] == UNSEEN).all()
    assert (drawn[:, :, columns:] == UNSEEN).all()


@torch.no_grad()
def test_compiled_as_in_torch() -> None:
    """With gradients nothing is compiled; one mask for each prompt, and prompts of three points."""
    sam = randomised(at_image_size(vit_n(), 96))
    features = sam.image_encoder(torch.randn(1, 3, 96, 96))
    sparse, dense = sam.prompt_encoder.embed(96 * torch.rand(4, 3, 2), torch.ones(4, 3, dtype=torch.int64), None)
    absorbed = AbsorbedDecoder(sam.mask_decoder, outputs=slice(0, 1))
    shared = absorbed.share(features, sam.prompt_encoder.dense_positions(), dense)
    compiled = absorbed.decode(shared, sparse)
    with torch.enable_grad():
        plain = absorbed.decode(shared, sparse)
    for ours, expected in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, expected.detach(), atol=1e-4, rtol=1e-4)
