"""Compiled writing and reading against attention in torch, in double precision and with the first token said."""

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.llvm_tiles import has_tiles
from sam_core.model import compiled_image_side, tiled_image_side
from sam_core.model.absorbed_attention import beside_first

N, H, C, D = 3, 2, 32, 8
NEEDS_TILES = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")
COMPILED = [  # for images of so many positions, to what bound: of scores in the hundreds, what is left out shows
    *((compiled_image_side, length, 1e-4) for length in (1, 47, 48, 100)),
    *(pytest.param(tiled_image_side, length, 2e-3, marks=NEEDS_TILES) for length in (64, 192)),
]


def layer_norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(C)
    norm.weight.data, norm.bias.data = torch.randn(C), torch.randn(C)
    return norm


def expected(image: Tensor, scores: Tensor, messages: Tensor, norm: nn.LayerNorm, positions: Tensor, probes: Tensor):
    """scores [N, H, T, L] and messages [N, H, T, C] of all tokens."""
    image, scores, messages, positions, probes = (x.double() for x in (image, scores, messages, positions, probes))
    written = image + torch.einsum("nhtl,nhtc->nlc", scores.softmax(2), messages)
    after = F.layer_norm(written, (C,), norm.weight.double(), norm.bias.double(), norm.eps)
    return after, (probes @ (after + positions).transpose(1, 2)).softmax(-1) @ after


@pytest.mark.parametrize(("compiled", "length", "bound"), COMPILED)
@pytest.mark.parametrize("tokens", [2, 7])
@torch.no_grad()
def test_one_image_for_all(compiled: ModuleType, length: int, bound: float, tokens: int) -> None:
    torch.manual_seed(length)
    image, positions, norm, probes = (
        torch.randn(1, length, C),
        torch.randn(1, length, C),
        layer_norm(),
        torch.randn(N, 5, C),
    )
    queries, keys, messages = (
        torch.randn(H, length, D),
        torch.randn(N, H, tokens, D),
        torch.randn(N, H * tokens, C),
    )
    told = beside_first(messages, H)
    beside = keys[:, :, 1:] - keys[:, :, :1]
    after, seen = compiled.write_shared_and_read(image, queries, beside, told, norm, positions, probes)
    scores = torch.einsum("nhtd,hld->nhtl", keys, queries)
    for ours, theirs in zip(
        (after, seen), expected(image, scores, messages.unflatten(1, (H, -1)), norm, positions, probes), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, atol=bound, rtol=bound)


@pytest.mark.parametrize(("compiled", "length", "bound"), COMPILED)
@torch.no_grad()
def test_images_of_their_own_are_written_into(compiled: ModuleType, length: int, bound: float) -> None:
    """Large scores must not overflow."""
    torch.manual_seed(length)
    image, positions, norm, probes = (
        torch.randn(N, length, C),
        torch.randn(1, length, C),
        layer_norm(),
        torch.randn(N, 9, C),
    )
    compared, offsets, messages = 30 * torch.randn(N, H * 7, C), torch.randn(N, H * 7, 1), torch.randn(N, H * 7, C)
    scores = (compared.double() @ (image + positions).transpose(1, 2).double() + offsets).unflatten(1, (H, -1))
    theirs = expected(image, scores, messages.unflatten(1, (H, -1)), norm, positions, probes)
    scoring = beside_first(compared, H).others, beside_first(offsets, H).others
    ours = compiled.write_own_and_read(image, scoring, H, beside_first(messages, H), norm, positions, probes)
    assert ours[0] is image
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, atol=2 * bound, rtol=2 * bound)


@pytest.mark.parametrize(
    ("length", "channels", "whole"), [(4096, 256, True), (64, 32, True), (96, 256, False), (64, 48, False)]
)
def test_what_tiles_can_hold(length: int, channels: int, whole: bool) -> None:
    assert tiled_image_side.can_split_image(length, channels) is whole
