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
from sam_core.model.triton_channels import blocks

INTEGERS = ("crops_ptr", "places_ptr", "starts_ptr", "seen_ptr")
FLOATS = ("logits_ptr", "input_weight", "crop_weight")


def compiled(kernel, constants, types):
    signature = {name: types(name) for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]


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
    assert "fma" in compiled(triton_tracing._trace, sizes, of_trace)
assert compiled(triton_tracing._bound, {"SIDE": 256, "ROWS": triton_tracing.ROWS}, of_trace)
for width in (64, 80):
    sizes = {"QUERIES": triton_attention.QUERIES, "WIDTH": 64, **blocks(width)}
    assert "wgmma" in compiled(triton_attention._attend, sizes, of_attend)
    window = {"SIZE": 14, "SPAN": 16, "TABLE": 32, **blocks(width)}
    sizes = {"QUERIES": triton_window_attention.QUERIES, "KEYS": triton_window_attention.KEYS, **window}
    assert "wgmma" in compiled(triton_window_attention._attend, sizes, of_attend)
drawing = False
rows = {"ROWS": 64, "C": 256}
sizes = {"HEADS": 8, "POSITIONS": triton_image_side.WRITE_AT_ONCE, "WRITTEN": triton_image_side.WRITTEN} | rows
assert "mma" in compiled(triton_image_side._write, sizes, of_image_side)
sizes = {"POSITIONS": triton_image_side.READ_AT_ONCE} | rows
assert "mma" in compiled(triton_image_side._read, sizes, of_image_side)
drawing = True
for fine in (False, True):
    sizes = {"FINE": fine, "C": 256, "MIDDLE": 64, "DEPTH": 32, "OUTPUTS": 4}
    sizes["POSITIONS"] = triton_image_side.DRAW_AT_ONCE
    assert "mma" in compiled(triton_image_side._draw, sizes, of_image_side)
"""


def test_every_kernel_compiles_for_a_gpu() -> None:
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-2000:]
