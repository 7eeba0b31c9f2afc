"""Triton's kernels through its compiler for a GPU, without one: the interpreter takes what the compiler refuses."""

import os
import subprocess
import sys

import pytest

COMPILE = """
import torch  # Triton's own functions are of the interpreter or not from their import on
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sam_core.masks import triton_tracing
from sam_core.model import triton_attention, triton_image_side, triton_window_attention
from sam_core.model.triton_shared import blocks

INTEGERS = ("crops_ptr", "places_ptr", "starts_ptr", "seen_ptr")
FLOATS = ("logits_ptr", "input_weight", "crop_weight")
EVEN = ("length", "side", "channels", "middle", "depth", "heads", "h", "w", "c")


def compiled(kernel, constants, types, **options):
    signature = {name: types(name) for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    even = [(number,) for number, name in enumerate(kernel.arg_names) if name.endswith("_ptr") or name in EVEN]
    source = ASTSource(kernel, signature, constexprs=constants, attrs={at: [["tt.divisibility", 16]] for at in even})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def fits(tiled, constants, types):
    # the fastest tiling on an H100, and one that fits an L4 or an RTX 4090
    taken = [kernel_of(tiled, tiling, constants, types) for tiling in (tiled.tilings[0], tiled.tilings[-1])]
    assert all("mma" in kernel.asm["ptx"] for kernel in taken)
    shared = [kernel.metadata.shared // 1024 for kernel in taken]
    assert shared[0] <= 227 and shared[1] <= 99, (constants, shared)


def fits_in_float32(tiled, constants, types):
    # an H100, by the smallest tiling; it takes most of the time, so the widest alone
    whole = kernel_of(tiled, tiled.tilings[-1], constants, lambda name: types(name).replace("bf16", "fp32"))
    assert whole.metadata.shared // 1024 <= 227, (constants, whole.metadata.shared)


def kernel_of(tiled, tiling, constants, types):
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    return compiled(tiled.kernel, {**constants, **tiling.sizes}, types, **options)


def of_trace(name):
    if name.endswith("_ptr") or name in ("input_at", "crop_at", "input_weight", "crop_weight"):
        return "*i64" if name in INTEGERS else "*fp32" if name in FLOATS else "*i32"
    return "fp32" if name in ("offset", "level") else "i32"


FLOATS_OF_IMAGES = ("weight_ptr", "bias_ptr", "offsets_ptr", "bias_8_ptr", "bias_4_ptr")


def of_image_side(name):
    if name in FLOATS_OF_IMAGES or (name == "out_ptr" and drawing):
        return "*fp32"
    whole = {"prompts_ptr": "*i64", "crops_ptr": "*i64", "places_ptr": "*i32", "eps": "fp32"}
    return whole.get(name, "*bf16" if name.endswith("_ptr") else "i32")


def of_attend(name):
    return "*bf16" if name.endswith("_ptr") else "fp32" if name == "scale" else "i32"


for write in (False, True):
    sizes = {"WRITE": write, "ROWS": triton_tracing.ROWS, "COLUMNS": triton_tracing.COLUMNS, "FUSED": True}
    assert "fma" in compiled(triton_tracing._trace, sizes, of_trace).asm["ptx"]
compiled(triton_tracing._bound, {"SIDE": 256, "ROWS": triton_tracing.ROWS}, of_trace)
for width in (64, 80):
    grid, windows = {"WIDTH": 64, **blocks(width)}, {"SIZE": 14, "SPAN": 16, "TABLE": 32, **blocks(width)}
    fits(triton_attention.GRID, grid, of_attend)
    fits(triton_window_attention.WINDOWS, windows, of_attend)
fits_in_float32(triton_attention.GRID, grid, of_attend)
fits_in_float32(triton_window_attention.WINDOWS, windows, of_attend)
drawing = False
written = {"HEADS": 8, "WRITTEN": triton_image_side.WRITTEN, "ROWS": 64, "C": 256}
for tiled, sizes in ((triton_image_side.WRITE, written), (triton_image_side.READ, {"ROWS": 64, "C": 256})):
    fits(tiled, sizes, of_image_side)
    fits_in_float32(tiled, sizes, of_image_side)
drawing = True
for fine in (False, True):
    sizes = {"FINE": fine, "C": 256, "MIDDLE": 64, "DEPTH": 32, "OUTPUTS": 4}
    fits(triton_image_side.DRAW, sizes, of_image_side)
fits_in_float32(triton_image_side.DRAW, sizes, of_image_side)
"""


@pytest.mark.slow
def test_every_kernel_compiles_for_a_gpu() -> None:
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-2000:]
