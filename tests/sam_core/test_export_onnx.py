"""The exported graphs against the modules they come from, run by ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_core.export_onnx import export_decoder
from sam_core.model.checkpoint import load_model
from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.predict import encode
from sam_core.presets import vit_test

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `annotate`")

Arrays = dict[str, NDArray[np.float32]]
Run = Callable[..., Arrays]


def runner(graph: bytes) -> Run:
    """Takes inputs by name; others are passed over."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names, taken = ([each.name for each in ends] for ends in (session.get_outputs(), session.get_inputs()))
    return lambda **inputs: dict(zip(names, session.run(None, {name: inputs[name] for name in taken}), strict=True))


@pytest.fixture(scope="module", params=["vit_test", "vit_n"])
def sam(request: pytest.FixtureRequest) -> Sam:
    """A model without and one with fine features."""
    torch.manual_seed(0)
    return Sam(vit_test()).eval() if request.param == "vit_test" else load_model("vit_n").sam


@torch.no_grad()
def test_graphs_answer_as_the_modules_do(sam: Sam, photo: NDArray[np.uint8]) -> None:
    side = float(sam.config.image_size)
    features = encode(sam, [photo]).features
    graphs = export_decoder(sam)
    prepare, with_mask, decode = (runner(g) for g in (graphs.prepare, graphs.prepare_with_mask, graphs.decode))
    inputs = {"embedding": features.embedding.numpy()} | {f"fine_{i}": f.numpy() for i, f in enumerate(features.fine)}
    low = sam.config.low_res_size
    earlier = torch.randn(1, 1, low, low, generator=torch.Generator().manual_seed(1))
    click, corners = [[0.4 * side, 0.5 * side]], [[0.2 * side, 0.1 * side], [0.7 * side, 0.9 * side]]
    cases = (
        (click, [1], None, None),
        ([*click, [3.0, 4.0], [0.6 * side, 9.0]], [1, 0, 1], None, earlier),
        (None, None, corners, None),
        (click, [0], corners, earlier),
    )
    for points, labels, box, mask in cases:
        prompts = Prompts(
            points=None if points is None else torch.tensor([points]),
            labels=None if labels is None else torch.tensor([labels]),
            boxes=None if box is None else torch.tensor([box]).view(1, 4),
            mask_logits=mask,
        )
        shared = prepare(**inputs) if mask is None else with_mask(**inputs, mask_logits=mask.numpy())
        tokens = [*(points or []), *([] if box else [[0.0, 0.0]]), *(box or [])]
        kinds = [*(labels or []), *([] if box else [-1]), *([2, 3] if box else [])]
        given = shared | {"points": np.array([tokens], np.float32), "labels": np.array([kinds], np.int64)}
        answer = decode(**given)
        several = sam.decode(features, prompts, multimask=True)
        single = sam.decode(features, prompts, multimask=False)
        expected = torch.cat([single.logits[0], several.logits[0]]), torch.cat([single.iou[0], several.iou[0]])
        np.testing.assert_allclose(answer["logits"], expected[0], atol=2e-4, rtol=1e-4)
        np.testing.assert_allclose(answer["iou"], expected[1], atol=1e-5)


@torch.no_grad()
def test_cells_drawn_in_any_order_are_those_of_the_whole(sam: Sam, photo: NDArray[np.uint8]) -> None:
    graphs, features = export_decoder(sam), encode(sam, [photo]).features
    prepare, decode, ask, draw = (runner(g) for g in (graphs.prepare, graphs.decode, graphs.ask, graphs.draw))
    inputs = {"embedding": features.embedding.numpy()} | {f"fine_{i}": f.numpy() for i, f in enumerate(features.fine)}
    given = prepare(**inputs) | {"points": np.array([[[30, 20], [0, 0]]], np.float32), "labels": np.array([[1, -1]])}
    whole, asked = decode(**given), ask(**given)
    np.testing.assert_array_equal(asked["iou"], whole["iou"])
    grid = sam.config.image_encoder.grid
    cells = np.random.default_rng(0).permutation(grid * grid)[: grid * grid // 2]
    fine = {
        name: level.reshape(grid * grid, *level.shape[2:])[cells] for name, level in given.items() if "cells" in name
    }
    drawn = draw(filters=asked["filters"], asked=asked["asked"][cells], **fine)["drawn"]
    # [4, y, i, a, x, j, b] -> [4, y, x, i, j, a, b]
    by_cell = whole["logits"].reshape(4, grid, 2, 2, grid, 2, 2).transpose(0, 1, 4, 2, 5, 3, 6)
    np.testing.assert_allclose(drawn, by_cell.reshape(4, grid * grid, 2, 2, 2, 2)[:, cells], atol=1e-4, rtol=1e-5)
