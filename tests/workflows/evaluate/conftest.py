"""Small sets with truth in every form that evaluations read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from tests.workflows.conftest import save_labelled

HEIGHT, WIDTH = 48, 64
CROWD = {"size": [HEIGHT, WIDTH], "counts": [0, 100, HEIGHT * WIDTH - 100]}


def picture(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Three rectangles on grey that do not hide each other, and the label of each pixel."""
    rng = np.random.default_rng(seed)
    image, labels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
    for label, left in enumerate((1, 22, 43), start=1):
        top = int(rng.integers(0, 20))
        labels[top : top + 24, left : left + 18] = label
        image[labels == label] = rng.integers(100, 256, 3)
    return image, labels


def polygon(labels: NDArray[np.uint16], label: int) -> list[float]:
    y, x = np.nonzero(labels == label)
    left, right, top, bottom = float(x.min()), float(x.max() + 1), float(y.min()), float(y.max() + 1)
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(number: int, image: int, labels: NDArray[np.uint16], label: int) -> dict[str, Any]:
    corners = polygon(labels, label)
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "segmentation": [corners],
        "area": float((labels == label).sum()),
        "bbox": [corners[0], corners[1], corners[2] - corners[0], corners[5] - corners[1]],
        "iscrowd": 0,
        "colour": "warm" if label == 1 else "cold",
    }


@pytest.fixture
def common(tiny_checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    """What every evaluation of a test is told."""
    return {"model": str(tiny_checkpoint), "out": str(tmp_path / "out"), "threads": 1, "shard_size": 1}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """images/ and labels/ with five pictures."""
    return save_labelled(tmp_path / "labelled", {seed: picture(seed) for seed in range(5)})


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO JSON with three pictures, nine objects of three categories and a crowd."""
    (tmp_path / "coco" / "images").mkdir(parents=True)
    images, annotations = [], []
    for seed in range(3):
        pixels, labels = picture(seed)
        Image.fromarray(pixels).save(tmp_path / "coco" / "images" / f"{seed}.png")
        images.append({"id": 70 - seed, "file_name": f"{seed}.png", "height": HEIGHT, "width": WIDTH, "place": "here"})
        annotations += [annotation(10 * seed + label, 70 - seed, labels, label) for label in (1, 2, 3)]
    annotations.append(annotations[0] | {"id": 99, "iscrowd": 1, "segmentation": CROWD, "area": 100.0})
    categories = [{"id": label, "name": name} for label, name in ((1, "cat"), (2, "dog"), (3, "hen"))]
    content: dict[str, Any] = {"images": images, "annotations": annotations, "categories": categories}
    content["info"] = {}  # pycocotools before 2.0.11 asks for it
    path = tmp_path / "coco" / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def lvis(coco: Path) -> Path:
    """The same as LVIS v1 has it: pictures named by `coco_url`, categories with a frequency, no `iscrowd`."""
    content = json.loads(coco.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/images/{image.pop('file_name')}"
    content["annotations"] = [
        {name: value for name, value in entry.items() if name != "iscrowd"}
        for entry in content["annotations"]
        if not entry["iscrowd"]
    ]
    for category, letter in zip(content["categories"], "fcr", strict=True):
        category["frequency"] = letter
    path = coco.with_name("lvis.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def boxes(coco: Path) -> Path:
    """A detector's results: every object found, one twice, one box on nothing, all a little off."""
    entries = [entry for entry in json.loads(coco.read_text())["annotations"] if not entry["iscrowd"]]
    keys = ("image_id", "category_id", "bbox")
    results = [{key: entry[key] for key in keys} | {"score": 0.9 - 0.05 * n} for n, entry in enumerate(entries)]
    results.append(results[0] | {"score": 0.3})
    results.append(results[1] | {"score": 0.2, "bbox": [0.0, 0.0, 5.0, 5.0]})
    path = coco.with_name("results.json")
    path.write_text(json.dumps(results))
    return path


@pytest.fixture
def bsds(tmp_path: Path) -> Path:
    """BSDS500 with two pictures in val; three people drew each, the third a part of it."""
    folder = tmp_path / "bsds"
    (folder / "images" / "val").mkdir(parents=True)
    (folder / "ground_truth" / "val").mkdir(parents=True)
    for seed in range(2):
        image, labels = picture(seed)
        Image.fromarray(image).save(folder / "images" / "val" / f"{seed}.jpg", quality=95)
        people = np.empty((1, 3), object)
        for person, drawn in enumerate((labels, labels, np.where(labels == 1, 1, 0))):
            people[0, person] = {"Segmentation": drawn + 1, "Boundaries": borders(drawn)}
        scipy.io.savemat(folder / "ground_truth" / "val" / f"{seed}.mat", {"groundTruth": people})
    return folder


def borders(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Pixels that differ from the one to the left or above."""
    left, above = np.roll(labels, 1, 1), np.roll(labels, 1, 0)
    return ((labels != left) | (labels != above)).astype(np.uint8)
