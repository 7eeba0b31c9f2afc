"""Windows against the released code."""

import pytest
import torch

from sam_core.model.windows import partition, unpartition
from tests.released import import_released


@pytest.mark.parametrize(("h", "w", "size"), [(4, 4, 2), (4, 4, 3), (5, 7, 3), (64, 64, 14), (2, 3, 8)])
def test_windows_are_the_released_ones(h, w, size):
    import_released()
    from segment_anything.modeling.image_encoder import window_partition

    x = torch.randn(2, h, w, 5)
    expected, _ = window_partition(x, size)
    windows = partition(x, size)
    assert torch.equal(windows, expected)
    assert torch.equal(unpartition(windows, h, w), x)


@pytest.mark.parametrize(("h", "w", "size"), [(4, 4, 2), (5, 7, 3)])
def test_outside_of_the_grid_a_vector_stands(h, w, size):
    x, outside = torch.randn(2, h, w, 5), torch.randn(5)
    windows = partition(x, size, outside)
    shifted = partition(x - outside, size) + outside
    torch.testing.assert_close(windows, shifted)
    assert torch.equal(unpartition(windows, h, w), x)
