"""Products of tiles against numpy's in double precision."""

import numpy as np
import pytest

from sam_core.model.tile_products import add_product, columns_of


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 12, 23])
@pytest.mark.parametrize(("depth", "columns"), [(1, 8), (5, 16), (3, 24), (17, 40), (0, 8)])
def test_is_added_to_what_is_there(rows, depth, columns):
    rng = np.random.default_rng(rows)
    a, b, out = (rng.standard_normal(s, np.float32) for s in ((rows, depth), (depth, columns), (rows, columns)))
    expected = out + a.astype(np.float64) @ b
    add_product(a, b, out)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_rows_may_lie_anywhere():
    """A transposed factor, columns of a wider one, and a window of a result whose surroundings stay as they are."""
    rng = np.random.default_rng(0)
    a, b, out = (rng.standard_normal(s, np.float32) for s in ((9, 11), (9, 40), (13, 32)))
    before = out.copy()
    add_product(a.T, b[:, 8:24], out[1:12, 8:24])
    expected = before.astype(np.float64)
    expected[1:12, 8:24] += a.T.astype(np.float64) @ b[:, 8:24]
    np.testing.assert_allclose(out, expected, atol=1e-5)
    outside = np.ones(out.shape, bool)
    outside[1:12, 8:24] = False
    np.testing.assert_array_equal(out[outside], before[outside])


@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_columns_are_filled_up_with_zeros(rows):
    x = np.random.default_rng(rows).standard_normal((rows, 5), np.float32)
    columns = columns_of(x)
    assert columns.shape == (5, 8 if rows <= 8 else 16)
    np.testing.assert_array_equal(columns[:, :rows], x.T)
    assert not columns[:, rows:].any()
