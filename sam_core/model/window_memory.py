"""What becomes of windows of padding in the image encoder, computed once for all crops of a shape.

Until the first global block a window sees nothing but itself, so that one which holds the same tokens as in the crop
before, as those of padding do, comes out the same. From there on everything depends on everything.

To the last bit only where the machine's library rounds a product of some rows as it does among more of them, which
MKL does not in every shape on processors without AVX-512. So each shape is tried out before it is counted on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sam_core.model.image_encoder import ImageEncoder, ImageFeatures, in_turn
from sam_core.model.vector_math import can_compile

Weights = tuple[tuple[int, int], ...]


class WindowMemory:
    """An image encoder that remembers the windows of the crop before, for one crop at a time on a CPU.

    Threads may share it. Other weights, as after a step of training, make it forget.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self._last: tuple[Weights, Tensor, Tensor] | None = None
        self._tried: dict[tuple[torch.Size, int, int], bool] = {}

    def __call__(self, images: Tensor) -> ImageFeatures:
        """As the encoder: [1, 3, S, S] -> features, bit for bit the same."""
        return self._encoder(images, self._through)  # type: ignore[no-any-return]

    def _through(self, blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
        """[1, h, w, C] -> [1, h, w, C], computing what differs from the crop before, from the top left."""
        if not blocks or not can_compile(x):
            return in_turn(blocks, x)
        weights, last = _weights(blocks), self._last
        if last is None or last[0] != weights or last[1].shape != x.shape:
            out = in_turn(blocks, x)
        else:
            rows, columns = _differing(x, last[1], int(blocks[0].window_size))  # type: ignore[arg-type]
            out = self._computed(blocks, x, last[2], rows, columns)
        self._last = weights, x, out
        return out

    def _computed(self, blocks: Sequence[nn.Module], x: Tensor, before: Tensor, rows: int, columns: int) -> Tensor:
        """What becomes of x, where only so many rows and columns differ from what became `before`."""
        shape = (x.shape, rows, columns)
        if shape not in self._tried:
            self._tried[shape] = _alone_as_among_others(blocks[0], *shape)
        if not self._tried[shape]:
            return in_turn(blocks, x)
        out = before.clone()
        out[:, :rows, :columns] = in_turn(blocks, x[:, :rows, :columns].contiguous())
        return out


def _alone_as_among_others(block: nn.Module, shape: torch.Size, rows: int, columns: int) -> bool:
    """Whether a block makes the same of the windows at the top left, to the last bit, without the other ones."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.equal(block(x)[:, :rows, :columns], block(x[:, :rows, :columns].contiguous()))


def _weights(blocks: Sequence[nn.Module]) -> Weights:
    """Where the parameters lie, and how often they were written to."""
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for block in blocks for p in block.parameters())


def _differing(x: Tensor, before: Tensor, size: int) -> tuple[int, int]:
    """Rows and columns of whole windows that hold all differences of two grids [1, h, w, C]; at least one window."""
    differs = (x != before).any(-1)[0]
    return _reach(differs.any(1), size), _reach(differs.any(0), size)


def _reach(differs: Tensor, size: int) -> int:
    places = differs.nonzero()
    return (int(places[-1]) // size + 1) * size if len(places) else size
