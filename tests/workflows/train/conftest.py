"""Small pictures with masks, in every form that training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam_core.masks.rle import encode
from sam_core.training.config import TrainConfig
from sam_core.training.nano_presets import nano
from sam_core.training.schedule import LearningRate
from tests.workflows.conftest import save_labelled

STEPS = 6


def small_config(**changes: object) -> TrainConfig:
    """Milliseconds a step."""
    rate = LearningRate(base=1e-3, warmup=2, iterations=STEPS)
    config = replace(nano()[0], model="vit_test", image_size=64, images=4, masks_per_image=3, learning_rate=rate)
    return replace(config, bfloat16=False, min_area=4, **changes)


def picture(seed: int, *, height: int = 48, width: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Three rectangles on grey, and the label of each pixel."""
    rng = np.random.default_rng(seed)
    image, labels = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.uint16)
    for label in (1, 2, 3):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        labels[y : y + 18, x : x + 16] = label
        image[labels == label] = rng.integers(100, 256, 3)
    return image, labels


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """images/ and labels/ with six pictures."""
    return save_labelled(tmp_path / "labelled", {seed: picture(seed) for seed in range(6)})


@pytest.fixture
def sa1b(tmp_path: Path) -> Path:
    """Two pictures with SA-1B's JSON beside each."""
    folder = tmp_path / "sa1b"
    folder.mkdir()
    for seed in range(2):
        image, labels = picture(seed)
        Image.fromarray(image).save(folder / f"sa_{seed}.png")
        masks = [_annotation(labels == value, value) for value in (1, 2, 3) if (labels == value).any()]
        info = {"image_id": seed, "width": 64, "height": 48, "file_name": f"sa_{seed}.png"}
        (folder / f"sa_{seed}.json").write_text(json.dumps({"image": info, "annotations": masks}))
    return folder


def _annotation(mask: NDArray[np.bool_], number: int) -> dict[str, object]:
    return {
        "id": number,
        "segmentation": {"size": list(mask.shape), "counts": encode(mask).decode()},
        "bbox": [0, 0, 1, 1],
        "area": int(mask.sum()),
        "predicted_iou": 0.9,
        "stability_score": 0.9,
        "crop_box": [0, 0, 64, 48],
        "point_coords": [[1, 1]],
    }
