"""The account of kernels, of made-up spans, and on a GPU of real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks.gpu_profile import Options, Span, busy, by_kernel, lines, run

SPANS = [Span("write", 0, 4000), Span("read", 2000, 3000), Span("write", 3500, 5000), Span("draw", 7000, 7500)]


def test_time_is_counted_once_where_kernels_run_together() -> None:
    assert busy(SPANS) == busy(reversed(SPANS)) == 5500
    assert by_kernel(SPANS) == [("write", 5500, 2), ("read", 1000, 1), ("draw", 500, 1)]


def test_lines_are_of_an_image() -> None:
    first, *rest = lines(SPANS, 2, kernels=2)
    assert first == "busy 2.75 ms an image, of 3.75"
    assert [line.split() for line in rest] == [
        ["2.750", "ms", "1.0", "x", "write"],
        ["0.500", "ms", "0.5", "x", "read"],
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no GPU here"):
        run(Options("vit_n", tmp_path))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    run(Options("vit_n", tmp_path, runs=1))
    assert "busy" in capsys.readouterr().out
