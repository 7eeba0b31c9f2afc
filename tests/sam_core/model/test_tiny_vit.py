"""TinyViT against a formulation by explicit loops, and MobileSAM's names."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.checkpoint import CheckpointError, load_model, save_model
from sam_core.model.sam import Sam
from sam_core.model.tiny_vit import TinyViT
from sam_core.presets import MaskDecoderConfig, SamConfig, TinyEncoderConfig, vit_t

SMALL = TinyEncoderConfig(
    image_size=64,
    embed_dims=(8, 16, 24, 32),
    depths=(1, 2, 1, 1),
    num_heads=(1, 2, 3, 4),
    window_sizes=(3, 3, 4, 3),
    out_chans=16,
)
State = dict[str, Tensor]


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter and running statistic random, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * 0.2
            tensor.copy_(
                noise.abs() + 0.5 if "running_var" in name else noise + ("weight" in name and tensor.ndim == 1)
            )
    return model


def conv(x: Tensor, state: State, name: str, *, stride: int = 1, depthwise: bool = False) -> Tensor:
    """A convolution and its batch norm, written out."""
    weight = state[f"{name}.c.weight"]
    x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight) if depthwise else 1)
    mean, var, gain, shift = (state[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * gain[:, None, None] + shift[:, None, None]


def norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean) / (var + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention_in_loops(window: Tensor, state: State, name: str, heads: int) -> Tensor:
    """[side, side, C]: query by query, head by head, with the bias looked up by the offset of row and column."""
    side, _, dim = window.shape
    width = dim // heads
    tokens = linear(norm(window.reshape(-1, dim), state, f"{name}.norm"), state, f"{name}.qkv")
    biases, out = state[f"{name}.attention_biases"], torch.zeros(side * side, dim)
    for head in range(heads):
        mine = tokens[:, 3 * width * head : 3 * width * (head + 1)]
        queries, keys, values = mine[:, :width], mine[:, width : 2 * width], mine[:, 2 * width :]
        for i in range(side * side):
            scores = torch.empty(side * side)
            for j in range(side * side):
                rows, columns = abs(i // side - j // side), abs(i % side - j % side)
                scores[j] = queries[i] @ keys[j] / math.sqrt(width) + biases[head, rows * side + columns]
            out[i, width * head : width * (head + 1)] = scores.softmax(0) @ values
    return linear(out, state, f"{name}.proj").view(side, side, dim)


def block_in_loops(x: Tensor, state: State, name: str, heads: int, window: int) -> Tensor:
    """[C, h, w] -> [C, h, w]."""
    dim, h, w = x.shape
    padded = torch.zeros(-(-h // window) * window, -(-w // window) * window, dim)
    padded[:h, :w] = x.permute(1, 2, 0)
    for top in range(0, len(padded), window):
        for left in range(0, padded.shape[1], window):
            here = (slice(top, top + window), slice(left, left + window))
            padded[here] = attention_in_loops(padded[here].clone(), state, f"{name}.attn", heads)
    x = x + padded[:h, :w].permute(2, 0, 1)
    grid = conv(x[None], state, f"{name}.local_conv", depthwise=True)[0].permute(1, 2, 0)
    hidden = F.gelu(linear(norm(grid, state, f"{name}.mlp.norm"), state, f"{name}.mlp.fc1"))
    return (grid + linear(hidden, state, f"{name}.mlp.fc2")).permute(2, 0, 1)


def encode_in_loops(image: Tensor, state: State, config: TinyEncoderConfig) -> Tensor:
    """[3, S, S] -> [out_chans, S / 16, S / 16]."""
    x = conv(F.gelu(conv(image[None], state, "patch_embed.seq.0", stride=2)), state, "patch_embed.seq.2", stride=2)
    for stage, depth in enumerate(config.depths):
        for number in range(depth):
            name = f"layers.{stage}.blocks.{number}"
            if stage == 0:
                wide = F.gelu(conv(F.gelu(conv(x, state, f"{name}.conv1")), state, f"{name}.conv2", depthwise=True))
                x = F.gelu(x + conv(wide, state, f"{name}.conv3"))
            else:
                x = block_in_loops(x[0], state, name, config.num_heads[stage], config.window_sizes[stage])[None]
        if stage < 3:
            name = f"layers.{stage}.downsample"
            x = F.gelu(conv(x, state, f"{name}.conv1"))
            x = F.gelu(conv(x, state, f"{name}.conv2", stride=1 if stage == 2 else 2, depthwise=True))
            x = conv(x, state, f"{name}.conv3")
    x = F.conv2d(x, state["neck.0.weight"])
    x = _channel_norm(x, state["neck.1.weight"], state["neck.1.bias"])
    return _channel_norm(F.conv2d(x, state["neck.2.weight"], padding=1), state["neck.3.weight"], state["neck.3.bias"])[
        0
    ]


def _channel_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    return x * gain[:, None, None] + shift[:, None, None]


@torch.no_grad()
def test_the_encoder_equals_explicit_loops() -> None:
    encoder = randomised(TinyViT(SMALL)).eval()
    images = torch.randn(2, 3, 64, 64)
    found = encoder(images).embedding
    for image, features in zip(images, found, strict=True):
        expected = encode_in_loops(image, encoder.state_dict(), SMALL)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_mobile_sams() -> None:
    with torch.device("meta"):
        sam = Sam(vit_t())
    state = sam.image_encoder.state_dict()
    classifier = 320 * 1000 + 1000 + 2 * 320
    assert sum(p.numel() for p in sam.parameters()) == 10_130_092 - classifier  # the size that MobileSAM is listed with
    assert state["layers.2.blocks.5.attn.attention_biases"].shape == (5, 196)
    assert state["layers.0.blocks.1.conv2.c.weight"].shape == (256, 1, 3, 3)
    assert state["layers.1.downsample.conv2.bn.running_mean"].shape == (160,)
    assert state["layers.3.blocks.1.local_conv.c.weight"].shape == (320, 1, 3, 3)
    assert state["patch_embed.seq.2.bn.num_batches_tracked"].dtype == torch.int64
    assert not any(name.startswith(("head", "norm_head")) for name in state)


def test_the_embedding_is_the_released_one() -> None:
    with torch.device("meta"):
        features = Sam(vit_t()).image_encoder(torch.empty(1, 3, 1024, 1024))
    assert features.embedding.shape == (1, 256, 64, 64)
    assert features.fine == ()


def test_a_released_file_loads_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sam = Sam(vit_t())
    classifier = {"image_encoder.head.weight": torch.zeros(1000, 320), "image_encoder.norm_head.bias": torch.zeros(320)}
    torch.save(sam.state_dict() | classifier, tmp_path / "mobile_sam.pt")
    loaded = load_model(tmp_path / "mobile_sam.pt")
    assert loaded.name == "vit_t"
    for name, tensor in sam.state_dict().items():
        assert torch.equal(loaded.sam.state_dict()[name], tensor), name


def test_it_is_saved_and_loaded_as_any_model(tmp_path: Path) -> None:
    config = SamConfig(name="small", image_encoder=SMALL, mask_decoder=_small_decoder())
    sam = Sam(config)
    save_model(sam, tmp_path / "small.safetensors")
    assert load_model(tmp_path / "small.safetensors").sam.config == config


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save({"image_encoder.layers.0.blocks.0.conv1.c.weight": torch.zeros(1)}, tmp_path / "mobile_sam.pt")
    with pytest.raises(CheckpointError, match="does not fit vit_t"):
        load_model(tmp_path / "mobile_sam.pt")


def _small_decoder():

    return MaskDecoderConfig(transformer_dim=16, num_heads=2, mlp_dim=32, iou_head_hidden_dim=16)
