"""Masks are drawn in two parts in the browser, what the picture covers first: together they are the model's logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from sam_core.geometry import Frame, frame_of
from sam_core.honour import honour_clicks
from sam_core.model.checkpoint import load_model
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode
from sam_core.presets import at_image_size, vit_test
from sam_core.prompting import seen_cells
from sam_core.windows import window_around

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page
from tests.workflows.annotate.conftest import Running, ingest_photo
from workflows.annotate.assets import find_runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.models import find_model

pytestmark = NEEDS_CHROMIUM
Start = Callable[..., Running]
_SEEN = """async (cases) => {
  const [{ frameOf }, { cellsOf }] = await Promise.all(["frame", "cells"].map((name) => import(`/${name}.js`)));
  return cases.map(([model, [x0, y0, x1, y1]]) => {
    const { seen, rest } = cellsOf(frameOf(model, { width: x1, height: y1 }, { x0, y0, x1, y1 }));
    return [seen, rest];
  });
}"""
_ANSWERS = """async ([imageId, model, image, windows, click]) => {
  const { frameOf, tokens } = await import("/frame.js");
  const worker = new Worker("/decoder_worker.js", { type: "module" });
  const ask = (call, args) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => data.first || (data.error ? reject(new Error(data.error)) : resolve(data.result));
    worker.postMessage({ id: 1, call, args });
  });
  const bytes = async (path) => (await fetch(`/api/${path}`)).arrayBuffer();
  const names = ["prepare", "prepare_with_mask", "ask", "draw"];
  const files = await Promise.all(names.map((name) => bytes(`model/${name}.onnx`)));
  const graphBytes = Object.fromEntries(names.map((name, i) => [name, files[i]]));
  await ask("load", { graphBytes, threads: 1, wanted: "wasm" });
  const answers = [];
  for (const [x0, y0, x1, y1] of windows) {
    const frame = frameOf(model, image, { x0, y0, x1, y1 });
    await ask("add", { frame, embedding: await bytes(`images/${imageId}/embedding?window=${frame.key}`) });
    const prompt = tokens(frame, { points: [[...click, 1]], box: null });
    const { candidates } = await ask("decode", { frame, ...prompt, previous: null, single: true });
    answers.push(candidates.map(({ iou, logits }) => [iou, Array.from(logits)]));
  }
  worker.terminate();
  return answers;
}"""


def test_the_cells_that_hold_any_of_the_picture(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    random = np.random.default_rng(7)
    sams = [Sam(at_image_size(vit_test(), side)) for side in (32, 64, 96)]
    sizes = [(1, 1), (1, 900), (900, 1), (48, 64), *((int(h), int(w)) for h, w in random.integers(1, 700, (60, 2)))]
    cases = [(sam, size) for sam in sams for size in sizes]
    page = new_page(browser)
    page.goto(running(config).address)
    asked = [[_told(sam), [0, 0, width, height]] for sam, (height, width) in cases]
    for (sam, size), (seen, rest) in zip(cases, page.evaluate(_SEEN, asked), strict=True):
        grid = sam.config.image_encoder.grid
        rows, columns = seen_cells(frame_of(size, image_size=sam.config.image_size), sam)
        assert seen == [y * grid + x for y in range(rows) for x in range(columns)]
        assert sorted([*seen, *rest]) == list(range(grid * grid))


@pytest.mark.parametrize(("name", "size"), [("vit_test", (160, 120)), ("vit_n", (120, 160))])
def test_logits_in_the_picture_and_its_padding_are_those_of_the_model(
    browser: Browser, running: Start, tiny_checkpoint: Path, tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    """Pictures with padding below or beside, and a window that is all picture; a model without fine features and one
    with them."""
    from skimage.data import coffee

    try:
        runtime = find_runtime()
    except OSError:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")
    height, width = size
    model = str(tiny_checkpoint) if name == "vit_test" else name
    dataset = ingest_photo(tmp_path, "coffee", coffee()[100 : 100 + height, 200 : 200 + width])
    server = running(AnnotateConfig(dataset=str(dataset), model=model, threads=1), runtime=runtime)
    page = new_page(browser)
    page.goto(server.address)
    (item,) = page.request.get(f"{server.address}/api/queue").json()
    sam, click = load_model(find_model(model).path).sam, (55.0, 65.0)
    windows = [(0, 0, width, height), window_around(size, (50, 60, 60, 70))]
    answers = page.evaluate(
        _ANSWERS, [item["image_id"], _told(sam), {"width": width, "height": height}, windows, click]
    )
    for window, found in zip(windows, answers, strict=True):
        where = f"{server.address}/api/images/{item['image_id']}/embedding?window={','.join(map(str, window))}"
        frame = frame_of(size, image_size=sam.config.image_size, crop_box=window)
        wanted = _by_python(sam, page.request.get(where).body(), frame, click)
        for (iou, logits), (wanted_iou, wanted_logits) in zip(found, wanted, strict=True):
            assert iou == pytest.approx(wanted_iou, abs=1e-4)
            np.testing.assert_allclose(logits, wanted_logits, atol=2e-3, rtol=1e-3)


def _by_python(
    sam: Sam, embedding: bytes, frame: Frame, click: tuple[float, float]
) -> list[tuple[float, NDArray[np.float32]]]:
    """Predicted IoU and logits [s * s] of the three masks of a click, best first."""
    tensors = {name: tensor.float() for name, tensor in load(embedding).items()}
    fine = tuple(tensors[level] for level in ("fine_0", "fine_1") if level in tensors)
    seen = ImageEmbedding(ImageFeatures(tensors["embedding"], fine), (frame,))
    with torch.no_grad():
        prompts = Prompts(torch.tensor([[click]]), torch.ones(1, 1, dtype=torch.int64))
        batch = honour_clicks(decode(sam, seen, prompts, multimask=True), prompts)
    ranked = batch.iou[0].argsort(descending=True).tolist()
    return [(float(batch.iou[0, output]), batch.logits[0, output].flatten().numpy()) for output in ranked]


def _told(sam: Sam) -> dict[str, int]:
    """A model as the app is told of it."""
    return {"image_size": sam.config.image_size, "low_res_size": sam.config.low_res_size}
