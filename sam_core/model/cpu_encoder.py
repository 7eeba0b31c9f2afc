"""The image encoder for many images on a CPU."""

from collections.abc import Callable

from torch import Tensor

from sam_core.model.image_encoder import ImageEncoder, ImageFeatures
from sam_core.model.linear import with_split_products
from sam_core.model.sam import Sam
from sam_core.model.window_memory import WindowMemory


def cpu_encoder(sam: Sam) -> Callable[[Tensor], ImageFeatures]:
    """What encodes as the model does, [1, 3, S, S] at a time, to 3e-6 where the processor has tiles.

    For lanes, which may share it: tiles are multiplied by the thread that asks, padding is computed once.
    """
    encoder = with_split_products(sam.image_encoder)
    return WindowMemory(encoder) if isinstance(encoder, ImageEncoder) else encoder
