"""A grid of tokens cut into square windows, and put together again."""

import torch.nn.functional as F
from torch import Tensor


def partition(x: Tensor, size: int, outside: Tensor | None = None) -> Tensor:
    """Tokens [B, h, w, C] -> windows [B * n, size, size, C], in rows, from the top left.

    Where `size` does not divide the grid, windows reach beyond it below and on the right; there they hold zeros, or
    the vector `outside` [C].
    """
    b, h, w, c = x.shape
    below, right = -h % size, -w % size
    if outside is None or not (below or right):
        x = F.pad(x, (0, 0, 0, right, 0, below))
    else:
        whole = outside.to(x.dtype).expand(b, h + below, w + right, c).clone()
        whole[:, :h, :w] = x
        x = whole
    x = x.view(b, (h + below) // size, size, (w + right) // size, size, c)
    return x.transpose(2, 3).reshape(-1, size, size, c)


def unpartition(windows: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `partition`: windows [B * n, size, size, C] -> tokens [B, h, w, C], without what lies outside."""
    size, c = windows.shape[2:]
    rows, columns = -(-h // size), -(-w // size)
    x = windows.view(-1, rows, columns, size, size, c).transpose(2, 3)
    return x.reshape(-1, rows * size, columns * size, c)[:, :h, :w]
