"""Compiled functions against torch in double precision."""

import numba
import numpy as np
import pytest
import torch

from sam_core.model import vector_math
from sam_core.model.vector_math import can_compile, gelu_in_place, norm_in_place


def applied(function, x):
    """The compiled function on every value of x."""

    @numba.njit
    def each(x, y):
        for i in range(len(x)):
            y[i] = function(x[i])

    out = np.empty_like(x)
    each(x, out)
    return out


def test_exponential():
    x = np.linspace(-87, 88, 200_001, dtype=np.float32)
    expected = torch.from_numpy(x).double().exp().numpy()
    np.testing.assert_allclose(applied(vector_math.exp, x), expected, rtol=3e-7)


def test_exponential_of_very_small_values_is_almost_nothing():
    assert applied(vector_math.exp, np.array([-1e4, -np.inf], np.float32)).max() < 1e-37


def test_gelu():
    x = np.linspace(-12, 12, 200_001, dtype=np.float32).reshape(3, -1)
    expected = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    error = np.abs(x.copy())
    gelu_in_place(x)
    assert (np.abs(x - expected) <= 2e-7 * error).all()


@pytest.mark.parametrize("channels", [1, 7, 32, 129])
def test_layer_norm_of_the_first_channels_of_a_line(channels):
    rng = np.random.default_rng(channels)
    line, weight, bias = (rng.standard_normal(n, np.float32) for n in (channels + 16, channels, channels))
    beyond, x, w, b = line[channels:].copy(), *(torch.from_numpy(v.copy()).double() for v in (line, weight, bias))
    expected = torch.nn.functional.layer_norm(x[:channels], (channels,), w, b, 1e-5).numpy()
    norm_in_place(line, weight, bias, np.float32(1e-5))
    np.testing.assert_allclose(line[:channels], expected, atol=2e-6)
    np.testing.assert_array_equal(line[channels:], beyond)


@pytest.mark.parametrize(("dtype", "gradients", "can"), [
    (torch.float32, False, True), (torch.bfloat16, False, False), (torch.float32, True, False),
])  # fmt: skip
def test_compiled_passes_need_float32_without_gradients(dtype, gradients, can):
    with torch.set_grad_enabled(gradients):
        assert can_compile(torch.zeros(1, dtype=dtype)) is can


@torch.no_grad()
def test_compiled_passes_do_not_know_of_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_compile(torch.zeros(1))
