"""Prompts as the exported decoder takes them, and what the server's needs of ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sam_core.geometry import frame_of
from workflows.annotate.contract import Prompt

pytest.importorskip("onnxruntime", reason="needs the extra `annotate`")

import onnxruntime

from sam_core.export_onnx import OnnxDecoder
from workflows.annotate.decoder import Answer, Decoder, _tokens, as_logits

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
    assert answer.masks().sum((1, 2)).tolist() == pytest.approx([60 * 6 * (output + 1) for output in order], rel=0.2)


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
