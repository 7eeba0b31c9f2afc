"""Readers of true masks on small data sets made here, and on the real ones where they are at hand."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.benchmarks.ground_truth import Selection, open_ground_truth

PIXELS = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
LABELS = np.zeros((80, 90), np.uint16)
LABELS[:40, :40], LABELS[50:60, 60:70], LABELS[70:, :50] = 1, 2, 300


def save_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, quality=95)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    save_image(tmp_path / "images" / "a.jpg")
    annotations = [
        {"id": 1, "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]], "area": 1600.0, "iscrowd": 0},
        {"id": 2, "segmentation": [[60, 50, 70, 50, 70, 60, 60, 60]], "area": 100.0, "iscrowd": 0},
        {"id": 3, "segmentation": {"size": [80, 90], "counts": [0, 4000, 3200]}, "area": 4000.0, "iscrowd": 1},
        {"id": 4, "segmentation": [[5, 5, 5.1, 5, 5.1, 5.1]], "area": 0.01, "iscrowd": 0},
    ]
    boxes = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}
    image = {"id": 7, "file_name": "a.jpg", "height": 80, "width": 90}
    content = {
        "images": [image],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [entry | boxes for entry in annotations],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def bsds(tmp_path: Path) -> Path:
    save_image(tmp_path / "images" / "val" / "a.jpg")
    people = np.empty((1, 2), object)
    for index, labels in enumerate((LABELS + 1, np.ones_like(LABELS))):
        people[0, index] = {"Segmentation": labels, "Boundaries": labels}
    (tmp_path / "ground_truth" / "val").mkdir(parents=True)
    scipy.io.savemat(tmp_path / "ground_truth" / "val" / "a.mat", {"groundTruth": people})
    return tmp_path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    save_image(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), LABELS)
    return tmp_path


def test_coco_leaves_out_crowds_and_masks_of_no_pixel(coco: Path) -> None:
    truth = open_ground_truth(coco)
    image = truth.read("a.jpg")
    assert image.areas.tolist() == [1600.0, 100.0]
    np.testing.assert_array_equal(image.masks[0], LABELS == 1)
    assert truth.select(image, Selection()).areas.tolist() == [1600.0]
    assert truth.select(image, Selection(every_size=True)).areas.tolist() == [1600.0, 100.0]


def test_bsds_takes_the_regions_of_the_first_annotator(bsds: Path) -> None:
    truth = open_ground_truth(bsds)
    image = truth.read("a")
    assert len(image.masks) == 4
    assert image.masks.sum(0).min() == image.masks.sum(0).max() == 1
    np.testing.assert_array_equal(image.masks[1], LABELS == 1)
    assert truth.select(image, Selection()).areas.min() > 1024


def test_label_pngs_have_a_mask_per_id(labels: Path) -> None:
    truth = open_ground_truth(labels)
    image = truth.read("a")
    np.testing.assert_array_equal(image.masks, [LABELS == 1, LABELS == 2, LABELS == 300])
    np.testing.assert_array_equal(image.image, PIXELS)
    assert len(truth.select(image, Selection()).masks) == 3


def test_a_draw_depends_on_seed_and_name_alone(labels: Path) -> None:
    truth = open_ground_truth(labels)
    image = truth.read("a")
    draws = {tuple(truth.select(image, Selection(masks_per_image=2, seed=seed)).areas) for seed in range(20)}
    assert len(draws) == 3
    again = [truth.select(image, Selection(masks_per_image=2, seed=4)).areas.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_a_limit_draws_images(labels: Path) -> None:
    for name in "bcdef":
        save_image(labels / "images" / f"{name}.png")
        cv2.imwrite(str(labels / "labels" / f"{name}.png"), LABELS)
    truth = open_ground_truth(labels)
    chosen = truth.chosen(Selection(limit=3, seed=1))
    assert len(set(chosen)) == 3
    assert chosen == tuple(sorted(chosen)) == truth.chosen(Selection(limit=3, seed=1))
    assert truth.chosen(Selection()) == tuple("abcdef")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no ground truth recognised; expected instances.json"):
        open_ground_truth(tmp_path)


@pytest.mark.parametrize(("name", "images"), [("coco128", 128), ("bsds500", 100), ("bbbc038", 222)])
def test_the_sample_data(sample_data: Callable[[str], Path], name: str, images: int) -> None:
    truth = open_ground_truth(sample_data(name))
    assert len(truth.names) == images
    image = truth.read(truth.names[0])
    assert image.masks.shape[1:] == image.image.shape[:2]
    assert image.masks.any((1, 2)).all()
