"""Softmax beside a zero, compiled and plain, against torch's own with the zero written out."""

import pytest
import torch

from sam_core.model.softmax import softmax_beside_zero


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(3, 6, 37), (2, 1, 16), (1, 6, 1)])
@torch.no_grad()
def test_as_with_the_zero_written_out(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    """float32 goes through the compiled passes, float64 through torch; large scores must not overflow."""
    scores = 30 * torch.randn(size, dtype=dtype)
    scores[0, 0, 0], scores[-1, -1, -1] = 500, -500
    zero = torch.zeros(size[0], 1, size[2], dtype=torch.float64)
    expected = torch.cat([zero, scores.double()], dim=1).softmax(1)[:, 1:]
    torch.testing.assert_close(softmax_beside_zero(scores.clone()).double(), expected, atol=1e-6, rtol=1e-5)
