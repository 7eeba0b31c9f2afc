"""Prompts as the exported decoder takes them, and what the server's needs of ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from scipy import ndimage

from sam_core.geometry import frame_of, uncrop
from sam_core.masks.batch import MaskBatch
from sam_core.masks.rle import encode
from sam_core.windows import inside
from workflows.annotate.contract import Prompt

pytest.importorskip("onnxruntime", reason="needs the extra `annotate`")

import onnxruntime

from sam_core.export_onnx import OnnxDecoder
from workflows.annotate.decoder import Answer, Decoder, _tokens, as_logits
from workflows.annotate.server import _candidates

FRAME = frame_of((30, 60), image_size=120)
"""Twice as large in the model input."""


def prompt(**said: object) -> Prompt:
    return Prompt.model_validate(said)


def test_clicks_and_boxes_become_points_with_labels() -> None:
    points, labels = _tokens(prompt(points=[[10, 5, 1], [20, 7.5, 0]]), FRAME)
    assert points.tolist() == [[[20, 10], [40, 15], [0, 0]]]
    assert labels.tolist() == [[1, 0, -1]]
    points, labels = _tokens(prompt(points=[[10, 5, 0]], box=[1, 2, 30, 25]), FRAME)
    assert points.tolist() == [[[20, 10], [2, 4], [60, 50]]]
    assert labels.tolist() == [[0, 2, 3]]


def test_clicks_in_a_window_are_measured_from_its_corner() -> None:
    points, _ = _tokens(prompt(points=[[40, 20, 1]]), frame_of((30, 60), image_size=120, crop_box=(30, 10, 50, 30)))
    assert points.tolist() == [[[60, 60], [0, 0]]]


@pytest.mark.parametrize(("single", "order"), [(True, [2, 3, 1]), (False, [0, 2, 3])])
def test_one_prompt_means_several_masks_and_several_mean_one_first(single: bool, order: list[int]) -> None:
    """Output 0 is that of several prompts."""
    logits = np.full((4, 30, 30), -1, np.float32)
    for output in range(4):
        logits[output, : 3 * (output + 1)] = 1
    answer = Answer(logits, np.array([0.1, 0.2, 0.9, 0.5], np.float32), single, FRAME)
    assert answer.order == order
    assert answer.measures().areas.tolist() == pytest.approx([60 * 6 * (output + 1) for output in order], rel=0.2)


@pytest.mark.parametrize("window", [None, (300, 0, 600, 200)])
def test_masks_are_those_of_all_pixels_at_once(window: tuple[int, int, int, int] | None) -> None:
    """Of the third output, which is empty, too; without three masks of the whole picture in memory."""
    frame = frame_of((400, 600), image_size=256, crop_box=window)
    logits = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(4, 64, 64)), (0, 3, 3)).astype(np.float32)
    logits[3] = -1
    iou = np.array([0, 0.9, 0.8, 0.7], np.float32)
    answer = Answer(logits, iou, True, frame)
    whole = uncrop(
        MaskBatch(torch.from_numpy(logits)[None], torch.from_numpy(iou)[None], frame).masks()[0].numpy(), frame
    )
    for candidate, mask in zip(_candidates(answer), whole[answer.order], strict=True):
        assert candidate.rle == encode(mask).decode()
        assert candidate.area == mask.sum()
        assert list(candidate.bbox) == coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8))).tolist()


@pytest.mark.parametrize(
    ("size", "window"), [((301, 407), None), ((90, 70), None), ((301, 407), (203, 100, 407, 301)), ((400, 48), None)]
)
def test_cells_say_how_much_of_them_a_mask_covers(
    size: tuple[int, int], window: tuple[int, int, int, int] | None
) -> None:
    frame = frame_of(size, image_size=256, crop_box=window)
    mask = np.random.default_rng(0).random(size) < 0.4
    seen = inside(mask, frame.crop_box)
    height, width = (max(1, round(length / 4)) for length in frame.input_size)
    rows, columns = (
        [slice(at * pixels // cells, -(-(at + 1) * pixels // cells)) for at in range(cells)]
        for pixels, cells in zip(seen.shape, (height, width), strict=True)
    )
    wanted = [[16 * seen[down, across].mean() - 8 for across in columns] for down in rows]
    logits = as_logits(mask, frame)[0, 0]
    assert logits[:height, :width] == pytest.approx(np.array(wanted), abs=1e-5)
    assert (logits[height:] == -8).all()
    assert (logits[:, width:] == -8).all()


def test_a_mask_to_start_from_is_above_nought_inside() -> None:
    mask = np.zeros((30, 60), bool)
    mask[:15, 20:41] = True
    logits = as_logits(mask, FRAME)
    assert logits.shape == (1, 1, 30, 30)
    assert (logits[0, 0, :7, 10:20] == 8).all()
    assert logits[0, 0, 3, 20] == 0  # half covered
    assert (logits[0, 0, :, 21:] == -8).all()
    assert (logits[0, 0, 8:] == -8).all()


def test_nothing_is_told_to_those_who_made_onnx_runtime(tmp_path: Path) -> None:
    """Its official builds send what is done with them, under a number that they leave in the home folder."""
    quiet = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "CI")
    home = {name: value for name, value in os.environ.items() if name not in quiet} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import workflows.annotate.decoder"], env=home, check=True, timeout=300)
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_threads_sleep_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that spin take the cores from who works."""
    seen: list[onnxruntime.SessionOptions] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _, options, **__: seen.append(options))
    Decoder(OnnxDecoder(b"", b"", b"", b"", b""), threads=2)
    assert [options.get_session_config_entry("session.intra_op.allow_spinning") for options in seen] == ["0"] * 3
