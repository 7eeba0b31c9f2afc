"""What becomes of windows of padding in the image encoder, computed once for all crops of a shape.

Until the first global block a window sees nothing but itself, so that one which holds the same tokens as in the crop
before, as those of padding do, comes out the same. From there on everything depends on everything.
"""

from collections.abc import Sequence

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
            out = last[2].clone()
            out[:, :rows, :columns] = in_turn(blocks, x[:, :rows, :columns].contiguous())
        self._last = weights, x, out
        return out


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
