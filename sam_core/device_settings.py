"""How the generator uses a device: arithmetic, kernels, and batches that fit its memory.

Settings are what one asks for; `resolve` makes of them what runs, and the result names itself in the record of a run.
Nothing falls back later: what was resolved and is missing where it shall run is an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from sam_core.presets import ImageEncoderConfig, SamConfig

Precision = Literal["float32", "bfloat16"]
AttentionKind = Literal["auto", "triton", "sdpa"]
CompileKind = Literal["auto", "off", "on"]
Kernels = Literal["auto", "triton", "torch"]

GIB = 1 << 30
AHEAD = 1
"""Batches of prompts that are decoded and wait for the host to say which of their masks are drawn."""
MOST_CROPS, MOST_PROMPTS, LEAST_PROMPTS = 16, 1024, 16
"""More in a batch fills no GPU better; fewer prompts are not worth a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """What is asked for. Raises ValueError for values that make no sense.

    memory_bytes: what the model and its batches may use; the default leaves a card of 16 GB room.
    dtype: of products. attention: of the image encoder. compile: whether encoder and decoder are compiled. decoder:
    what works on the image for each prompt. masks: what measures and encodes masks.
    """

    memory_bytes: int = 12 * GIB
    dtype: Precision = "bfloat16"
    attention: AttentionKind = "auto"
    compile: CompileKind = "auto"
    decoder: Kernels = "auto"
    masks: Kernels = "auto"

    def __post_init__(self) -> None:
        if self.memory_bytes < GIB // 4:
            raise ValueError(f"memory for the device is {self.memory_bytes / GIB:.2f} GiB; it must be at least 0.25")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}; it must be float32 or bfloat16")

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    @property
    def kernels(self) -> str:
        """What a run record calls this implementation."""
        kinds = {"attention": self.attention, "compile": self.compile, "decoder": self.decoder, "masks": self.masks}
        return " ".join(["device", *(f"{part}={kind}" for part, kind in kinds.items())])

    def resolve(self, device: str) -> DeviceSettings:
        """These settings with every `auto` decided: on CUDA with Triton its kernels and compiled code, else torch's.

        A driver without a GPU resolves for others, which have Triton, as torch for CUDA brings it along; each is asked
        itself as it begins. Raises ValueError when what is asked for by name needs Triton and there is none, and when
        kernels shall run on a GPU of this machine and it cannot build what launches them.
        """
        on_gpu, triton = torch.device(device).type == "cuda", has_triton()
        for_others = on_gpu and not torch.cuda.is_available()
        fast = on_gpu and (triton or for_others)
        resolved = replace(
            self,
            attention=("triton" if fast else "sdpa") if self.attention == "auto" else self.attention,
            compile=("on" if fast else "off") if self.compile == "auto" else self.compile,
            decoder=("triton" if fast else "torch") if self.decoder == "auto" else self.decoder,
            masks=("triton" if fast else "torch") if self.masks == "auto" else self.masks,
        )
        if for_others:
            return resolved
        if not triton and "triton" in (resolved.masks, resolved.decoder, resolved.attention):
            raise ValueError(
                "kernels were asked for in Triton, and there is no package triton: install it or ask for auto"
            )
        launched = resolved.compile == "on" or "triton" in resolved.kernels
        if on_gpu and launched:
            _require_tools()
        return resolved


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """crops: encoded at a time. prompts: decoded at a time."""

    crops: int
    prompts: int

    @property
    def smallest(self) -> bool:
        return self.crops == 1 and self.prompts <= LEAST_PROMPTS

    def halved(self) -> BatchSizes:
        """Half of each, at least 1 crop and LEAST_PROMPTS prompts."""
        return BatchSizes(max(1, self.crops // 2), max(LEAST_PROMPTS, self.prompts // 2))


def batch_sizes(config: SamConfig, settings: DeviceSettings, *, parameters: int) -> BatchSizes:
    """The largest batches within the memory of the settings. Raises ValueError for what is no plain ViT.

    What the weights leave, at most 4 bytes for each of `parameters`, is halved: one part for crops that are being
    encoded, one for prompts that are being decoded; the allocator keeps the memory of both.

        crop    e * t * (16 C + 3 h (C / h + 2 g))   residual, qkv, MLP; q, k and v with their position channels
        prompt  e * g^2 * (10 D + 6 T H) + 16 g^2 * (4 e * D / 8 + 36)   image side and scores; pixels and logits
                e * g^2 * 4 D + 16 g^2 * 36                             the same where kernels keep scores and pixels

    e bytes of an element, g patches per side, t = tokens with the padding of windows, C and h width and heads of the
    encoder, D and H of the decoder, T tokens of a prompt. AHEAD batches of prompts wait, and one is worked on.
    """
    encoder, decoder = config.image_encoder, config.mask_decoder
    if not isinstance(encoder, ImageEncoderConfig):
        raise ValueError(f"{config.name}: only plain ViTs can be batched on a device so far")
    left = max(settings.memory_bytes - 4 * parameters, settings.memory_bytes // 8) // 2
    e, grid, dim = settings.torch_dtype.itemsize, encoder.grid, encoder.embed_dim
    padded = (-(-grid // encoder.window_size) * encoder.window_size) ** 2
    crop = e * padded * (16 * dim + 3 * (dim + 2 * grid * encoder.num_heads))
    prompt = e * grid**2 * (AHEAD + 3) * decoder.transformer_dim + 16 * grid**2 * 36
    if settings.decoder != "triton":
        tokens = 2 + decoder.num_multimask_outputs + 2
        scores = 6 * tokens * decoder.num_heads + 6 * decoder.transformer_dim
        prompt += e * grid**2 * scores + 16 * grid**2 * 4 * e * decoder.transformer_dim // 8
    prompts = max(LEAST_PROMPTS, min(MOST_PROMPTS, left // prompt))
    return BatchSizes(max(1, min(MOST_CROPS, left // crop)), prompts)


def has_triton() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("triton") is not None


def _require_tools() -> None:
    """Raises ValueError without a C compiler or Python's headers: every image would be an error as kernels begin."""
    if not has_compiler():
        raise ValueError("kernels for a GPU need a C compiler: install gcc and libc6-dev, or name one in CC")
    if not Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").is_file():
        raise ValueError("kernels for a GPU need the C headers of this Python: install python3-dev")


def has_compiler() -> bool:
    """Whether Triton finds a C compiler, which builds what launches its kernels as they are first used."""
    return bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))
