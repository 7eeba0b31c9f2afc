"""A network with the inputs and outputs of YuNet that finds red squares: what its heads say is how red a cell is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
SIDE = 640


def save_red_detector(path: Path) -> Path:
    """Input BGR float [1, 3, H, W] of 0 to 255; cls, obj [1, N, 1], bbox [1, N, 4] and kps [1, N, 10] per stride."""
    nodes, outputs, constants = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    redness = constant("redness", np.array([[[[-1]], [[-1]], [[1]]]], np.float32).reshape(1, 3, 1, 1) / 255)
    nodes.append(helper.make_node("Conv", ["input", redness], ["signed"]))
    nodes.append(helper.make_node("Relu", ["signed"], ["red"]))
    for stride in STRIDES:
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["red"], [f"cells_{stride}"], **pool))
        column = constant(f"column_{stride}", np.array([1, -1, 1], np.int64))
        cells = [f"cells_{stride}", column]
        nodes += [helper.make_node("Reshape", cells, [f"{head}_{stride}"]) for head in ("cls", "obj")]
        for head, width in (("bbox", 4), ("kps", 10)):
            zeros = constant(f"zeros_{head}_{stride}", np.zeros((1, 1, width), np.float32))
            nodes.append(helper.make_node("Mul", [f"cls_{stride}", zeros], [f"{head}_{stride}"]))
        for head, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            shape = [1, (SIDE // stride) ** 2, width]
            outputs.append(helper.make_tensor_value_info(f"{head}_{stride}", TensorProto.FLOAT, shape))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "red", [picture], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.save(model, path)
    return path
