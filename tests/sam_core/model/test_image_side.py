"""The image side of the decoder as Triton kernels against plain torch; without a GPU in Triton's interpreter."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sam_core.model.image_side import ImageSide, TorchImageSide, Wanted, Writing
from sam_core.model.layers import LayerNorm2d
from sam_core.model.upscaling import Upscaling, upscaling_of


class Shape(NamedTuple):
    crops: int
    prompts: int
    side: int
    channels: int
    heads: int
    tokens: int
    masks: int


SHAPES = (Shape(2, 4, 5, 32, 2, 3, 3), Shape(1, 2, 9, 40, 4, 7, 4))


@pytest.fixture
def kernels(kernel_device: torch.device) -> ImageSide:
    from sam_core.model.triton_image_side import TritonImageSide

    return TritonImageSide()


def normal(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


def close(ours: Tensor, exact: Tensor) -> bool:
    return float((ours.float() - exact.float()).norm() / exact.float().norm()) < (1e-6 if exact.is_cpu else 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_write(kernels: ImageSide, kernel_device: torch.device, shape: Shape) -> None:
    length, rows = shape.side**2, shape.heads * shape.tokens
    image, positions = (normal(kernel_device, n, length, shape.channels) for n in (shape.crops, 1))
    probes, messages = (normal(kernel_device, shape.prompts, rows, shape.channels) * scale for scale in (0.1, 1.0))
    writing = Writing(probes, normal(kernel_device, shape.prompts, rows, 1), messages, shape.heads)
    norm = nn.LayerNorm(shape.channels).to(kernel_device)
    nn.init.normal_(norm.weight, 1.0)
    nn.init.normal_(norm.bias)
    with torch.inference_mode():
        shared = [side.write(image, positions, writing, norm) for side in (kernels, TorchImageSide())]
        own = [side.write(shared[1], positions, writing, norm) for side in (kernels, TorchImageSide())]
    assert close(*shared)
    assert close(*own)


@pytest.mark.parametrize("shape", SHAPES)
def test_read(kernels: ImageSide, kernel_device: torch.device, shape: Shape) -> None:
    image = normal(kernel_device, shape.prompts, shape.side**2, shape.channels)
    positions = normal(kernel_device, 1, *image.shape[1:])
    probes = normal(kernel_device, shape.prompts, shape.heads * shape.tokens, shape.channels) * 0.3
    assert close(*(side.read(image, positions, probes) for side in (kernels, TorchImageSide())))


def upscaling(device: torch.device, channels: int) -> Upscaling:
    layers = (
        nn.ConvTranspose2d(channels, channels // 4, 2, 2),
        LayerNorm2d(channels // 4),
        nn.GELU(),
        nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2),
        nn.GELU(),
    )
    torch.manual_seed(0)
    nn.init.normal_(layers[1].weight, 1.0)
    return upscaling_of(nn.Sequential(*layers).to(device))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fine", [False, True])
@torch.inference_mode()
def test_draw(kernels: ImageSide, kernel_device: torch.device, shape: Shape, fine: bool) -> None:
    image = normal(kernel_device, shape.prompts, shape.side**2, shape.channels)
    filters = normal(kernel_device, shape.prompts, shape.masks, shape.channels // 8)
    details = (
        normal(kernel_device, shape.crops, 4 * shape.side**2, shape.channels // 4),
        normal(kernel_device, shape.crops, 16 * shape.side**2, shape.channels // 8),
    )
    prompts = torch.arange(0, shape.prompts, 2, device=kernel_device)
    masks = torch.arange(1, len(prompts) * shape.masks, 2, device=kernel_device)  # of some prompts one, of some two
    wanted = Wanted(prompts, prompts * 0 + shape.crops - 1, masks)
    maps = upscaling(kernel_device, shape.channels)
    drawn = [side.draw(image, filters, maps, details if fine else (), wanted) for side in (kernels, TorchImageSide())]
    assert drawn[0].shape == (len(masks), 4 * shape.side, 4 * shape.side)
    assert close(*drawn)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bfloat16_on_a_gpu_at_the_size_of_the_released_models() -> None:
    from sam_core.model.triton_image_side import TritonImageSide

    device = torch.device("cuda")
    sides = (TritonImageSide(), TorchImageSide())
    image, positions = (normal(device, n, 4096, 256).bfloat16() for n in (8, 1))
    probes, messages = (normal(device, 32, 56, 256) * scale for scale in (0.1, 1.0))
    writing, norm = Writing(probes, normal(device, 32, 56, 1), messages, 8), nn.LayerNorm(256).to(device)
    filters, every_second = normal(device, 32, 3, 32), torch.arange(0, 32, 2, device=device)
    wanted, maps = Wanted(every_second, every_second * 0, every_second), upscaling(device, 256)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        written = [side.write(image, positions, writing, norm) for side in sides]
        assert float((written[0] - written[1]).norm() / written[1].norm()) < 0.02
        found = [side.read(written[1], positions, probes) for side in sides]
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 0.03
        drawn = [side.draw(written[1], filters, maps, (), wanted) for side in sides]
        assert float((drawn[0] - drawn[1]).norm() / drawn[1].norm()) < 0.03
