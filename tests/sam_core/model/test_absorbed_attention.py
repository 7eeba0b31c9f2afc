"""Tokens beside the first of their head against all tokens, in double precision."""

import torch

from sam_core.model.absorbed_attention import beside_first, weights_beside_first, weights_over_tokens

PROMPTS, HEADS, TOKENS, POSITIONS, CHANNELS = 3, 4, 5, 11, 8


def test_the_first_token_can_stay_unsaid() -> None:
    probes, messages = torch.randn(2, PROMPTS, HEADS * TOKENS, CHANNELS, dtype=torch.float64)
    image = torch.randn(PROMPTS, POSITIONS, CHANNELS, dtype=torch.float64).transpose(1, 2)
    expected = weights_over_tokens(probes @ image, HEADS).transpose(1, 2) @ messages

    told = beside_first(messages, HEADS)
    weights = weights_beside_first(beside_first(probes, HEADS).others @ image, HEADS)
    assert weights.shape == (PROMPTS, HEADS * (TOKENS - 1), POSITIONS)
    torch.testing.assert_close(told.first + weights.transpose(1, 2) @ told.others, expected)
