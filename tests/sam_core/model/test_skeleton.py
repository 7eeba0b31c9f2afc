"""Models without weights: the right shapes, and quickly."""

import subprocess
import sys

import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.model.skeleton import skeleton
from sam_core.presets import SamConfig, vit_n, vit_t, vit_test, with_text


@pytest.mark.parametrize(
    "config", [vit_test(), with_text(vit_test(), 8), vit_n(), vit_t()], ids=lambda config: config.name
)
def test_its_parameters_have_the_shapes_of_a_real_one_and_hold_nothing(config: SamConfig) -> None:
    bones, real = skeleton(config).state_dict(), Sam(config).state_dict()
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in bones.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in real.items()
    }
    assert all(tensor.device.type == "meta" for tensor in bones.values())


def test_models_made_afterwards_are_filled() -> None:
    skeleton(vit_test())
    torch.manual_seed(0)
    first = Sam(vit_test()).state_dict()
    torch.manual_seed(0)
    second = Sam(vit_test()).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].std() > 0.5


def test_loading_a_model_reads_no_compiler() -> None:
    program = """
import sys
from sam_core.model.checkpoint import load_model
load_model("vit_n")
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
