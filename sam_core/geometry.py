"""Where a pixel lies: resizing to the model's input, padding, and coordinates there and back.

Three frames. Original: the image as it was read. Crop: a rectangle of it; the whole image is a crop too. Model input:
the crop with its longest side scaled to the model's side, at the top left of a zero-padded square.
Coordinates are xy, sizes are (height, width), both in px. Rules: `ResizeLongestSide` and `Sam` of the released code.
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

PIXELS_AT_ONCE = 2**26
"""Of masks that are held at full size at any time: a quarter of a gigabyte of logits."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How one crop of one image lies in the original and in the model input.

    original_size: (height, width). crop_box: x0, y0, x1, y1 in the original frame, end exclusive.
    input_size: (height, width) of the resized crop before padding. image_size: side of the padded model input.
    """

    original_size: tuple[int, int]
    crop_box: tuple[int, int, int, int]
    input_size: tuple[int, int]
    image_size: int

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the crop."""
        x0, y0, x1, y1 = self.crop_box
        return y1 - y0, x1 - x0

    @property
    def whole_image(self) -> bool:
        """Whether the crop is the image."""
        return self.crop_size == self.original_size


def frame_of(
    original_size: tuple[int, int], *, image_size: int, crop_box: tuple[int, int, int, int] | None = None
) -> Frame:
    """The frame of a crop (by default the whole image) for a model with square inputs of `image_size` px.

    The longest side becomes `image_size`, the other is rounded half up; at least one pixel remains of it, where the
    released code would ask for an empty image. Raises ValueError for a crop that is empty, leaves the image or
    ends within a pixel.
    """
    height, width = original_size
    x0, y0, x1, y1 = (0, 0, width, height) if crop_box is None else crop_box
    if not all(isinstance(edge, Integral) for edge in (x0, y0, x1, y1)):
        raise ValueError(f"crop {crop_box} must be whole px")
    crop_box = int(x0), int(y0), int(x1), int(y1)  # of a list or a row of an array, too
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"crop {crop_box} does not lie in an image of {width}x{height} px")
    scale = image_size / max(y1 - y0, x1 - x0)
    input_size = (_scaled(y1 - y0, scale), _scaled(x1 - x0, scale))
    return Frame(original_size, crop_box, input_size, image_size)


def points_to_input(points: Tensor, frame: Frame) -> Tensor:
    """Points [..., 2], xy, from the original frame to the model input; of the same dtype."""
    crop_h, crop_w = frame.crop_size
    input_h, input_w = frame.input_size
    origin = points.new_tensor(frame.crop_box[:2])
    return (points - origin) * points.new_tensor([input_w / crop_w, input_h / crop_h])


def boxes_to_input(boxes: Tensor, frame: Frame) -> Tensor:
    """Boxes [..., 4], xyxy, from the original frame to the model input; of the same dtype."""
    return points_to_input(boxes.view(*boxes.shape[:-1], 2, 2), frame).flatten(-2)


def model_input(image: NDArray[np.uint8], frame: Frame, mean: Tensor, std: Tensor) -> Tensor:
    """The crop as the image encoder wants it: float32 [3, S, S] on the device of `mean`.

    image: uint8 RGB [H, W, 3], the whole original. mean, std: [3, 1, 1] in 0..255. Resized on the CPU by Pillow's
    antialiased bilinear filter, then normalised, then zero-padded on the right and below, bit for bit as released.
    """
    resized = resized_crop(image, frame)
    height, width = frame.input_size
    pixels = torch.from_numpy(resized).to(mean.device).permute(2, 0, 1)
    return F.pad((pixels - mean) / std, (0, frame.image_size - width, 0, frame.image_size - height))


def resized_crop(image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """The crop at the size of the model input before padding: uint8 RGB [*input_size, 3]."""
    check_image(image, frame.original_size)
    x0, y0, x1, y1 = frame.crop_box
    height, width = frame.input_size
    crop = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1]))
    return np.array(crop.resize((width, height), Image.Resampling.BILINEAR))


def upscale_logits(low_res: Tensor, frame: Frame) -> Tensor:
    """Low-resolution logits [N, M, h, w] -> [N, M, *crop_size], in the crop frame.

    In two bilinear steps with the padding cut off in between; one direct resize gives other masks.
    """
    side = (frame.image_size, frame.image_size)
    height, width = frame.input_size
    at_input = F.interpolate(low_res, side, mode="bilinear", align_corners=False)[..., :height, :width]
    return F.interpolate(at_input, frame.crop_size, mode="bilinear", align_corners=False)


def masks_at_once(size: tuple[int, int], most: int) -> int:
    """How many masks of (height, width) px are held at that size at any time: `most`, of large pictures fewer."""
    return max(1, min(most, PIXELS_AT_ONCE // (size[0] * size[1])))


def uncrop(masks: NDArray[np.bool_], frame: Frame) -> NDArray[np.bool_]:
    """Masks of the crop [..., *crop_size] as masks of the original image [..., *original_size], false outside."""
    x0, y0, x1, y1 = frame.crop_box
    whole = np.zeros((*masks.shape[:-2], *frame.original_size), np.bool_)
    whole[..., y0:y1, x0:x1] = masks
    return whole


def check_image(image: NDArray[np.uint8], size: tuple[int, int] | None = None) -> None:
    """Raises ValueError for all but a uint8 RGB image [H, W, 3], of `size` where given; also for what is no array, such
    as a Pillow image."""
    kind, shape = getattr(image, "dtype", type(image).__name__), np.shape(image)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape or size not in (None, shape[:2]):
        height, width = size or ("height", "width")
        raise ValueError(f"expected a uint8 RGB image [{height}, {width}, 3], got {kind} {list(shape)}")


def _scaled(length: int, scale: float) -> int:
    return max(1, int(length * scale + 0.5))
