"""Linear layers on a CPU, by whatever multiplies faster there.

Torch has float32 multiplied by MKL, made for processors of Intel. On an AMD of the fourth Zen generation oneDNN, which
torch has beside it for other things, takes 6 to 16 % less time for the layers of an image encoder. On Intel's that
multiply tiles of bfloat16, `split_products` takes less than half of it, which a `SplitLinear` asks for
(`tests/benchmarks/LOG.md`).
"""

from collections.abc import Callable
from copy import copy
from functools import cache, partial
from typing import TypeVar

import torch
from llvmlite.binding import get_host_cpu_name
from torch import Tensor, nn

from sam_core.llvm_tiles import has_tiles
from sam_core.model.split_products import Split, can_split, multiply, split_columns
from sam_core.model.vector_math import can_compile

_LIKE_THE_MEASURED = ("znver4", "znver5")
_Model = TypeVar("_Model", bound=nn.Module)


class SplitLinear(nn.Linear):
    """A linear layer that is content with products to 3e-6 on the mean, where these are faster."""


def with_split_products(model: _Model) -> _Model:
    """A twin of a model, whose linear layers are `SplitLinear`, where the processor has tiles; elsewhere the model.

    It is for use, not for training, and has the parameters, buffers and hooks of the model, also later ones. A layer
    whose weight is computed by a hook, as by pruning, stays as it is.
    """
    return _twin(model) if has_tiles() else model


def _twin(model: _Model) -> _Model:
    twin = copy(model)
    twin.training = False
    twin._modules = {name: child and _twin(child) for name, child in model._modules.items()}
    if type(model) is nn.Linear and not model._forward_pre_hooks:
        twin.__class__ = SplitLinear  # type: ignore[assignment]
    return twin


def takes_apart(layer: nn.Linear) -> bool:
    """Whether it is a `SplitLinear`, here, where the model may have come to from another machine."""
    return isinstance(layer, SplitLinear) and has_tiles()


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """layer(x): [..., C] -> [..., D], up to the rounding of float32 or, of a `SplitLinear`, to 3e-6."""
    return prepared(layer, x)(x)


def prepared(layer: nn.Linear, like: Tensor) -> Callable[[Tensor], Tensor]:
    """`linear` of this layer, to be asked more than once for tensors like this one."""
    if not can_compile(like):
        return layer
    if takes_apart(layer) and can_split(*layer.weight.shape):
        bias = like.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach().contiguous()
        return partial(_by_tiles, split_columns(layer.weight.detach().contiguous()), bias)
    return partial(_by_onednn, layer) if has_faster_products() else layer


def _by_tiles(weight: Split, bias: Tensor, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    return multiply(rows, weight, bias).view(*x.shape[:-1], len(bias))


def _by_onednn(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")  # type: ignore[no-any-return]


@cache
def has_faster_products() -> bool:
    """Whether this is an AMD processor like the one that was measured, with vectors of 512 bits, and a torch that has
    oneDNN's linear layer (the one that its compiler uses)."""
    return get_host_cpu_name() in _LIKE_THE_MEASURED and hasattr(torch.ops.mkldnn, "_linear_pointwise")
