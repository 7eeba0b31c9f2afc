"""Photographs with true masks: readers of COCO JSON, BSDS500 and label PNG folders, told apart by their contents.

What counts as a true mask:

- COCO (`instances.json`): every annotation that is no crowd, area as annotated; the main figures are over areas above
  32^2 px, as the smallest objects' polygons are coarse.
- BSDS500 (`ground_truth/val/*.mat`): the regions of the FIRST annotator of each validation image; main figures over
  areas above 32^2 px. People cut an image at different levels, so an average over annotators would ask for several
  answers to one click.
- Label PNGs (`labels/*.png`, BBBC038): every nonzero id; no least area, nuclei being small, but at most 8 masks of an
  image (drawn at random), so that the few images with hundreds of nuclei do not outweigh the others.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image
from pycocotools.coco import COCO

from sam_core.metrics.single_point import Sample


@dataclass(frozen=True, slots=True)
class TrueImage:
    """One image and its true masks. areas: float64 [N] px, as annotated where the format says so."""

    name: str
    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]

    @property
    def sample(self) -> Sample:
        return Sample(self.image, self.masks)

    def at(self, kept: npt.NDArray[np.int64]) -> TrueImage:
        """With the masks at these indices only."""
        return TrueImage(self.name, self.image, self.masks[kept], self.areas[kept])


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images and masks of a data set are evaluated; draws depend on the seed and the image's name alone."""

    limit: int | None = None
    """At most this many images, drawn at random; by default all."""
    masks_per_image: int | None = None
    """At most this many masks of each image, drawn at random; by default the data set's own rule."""
    every_size: bool = False
    """Also masks below the data set's least area."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A data set, and how to read an image of it with every mask.

    least_area: of the masks in the main figures, px, exclusive. masks_per_image: evaluated ones; None for all.
    """

    name: str
    least_area: float
    masks_per_image: int | None
    names: tuple[str, ...]
    read: Callable[[str], TrueImage]

    def chosen(self, selection: Selection) -> tuple[str, ...]:
        """The selected images' names, in order."""
        order = np.random.default_rng(selection.seed).permutation(len(self.names))[: selection.limit]
        return tuple(self.names[index] for index in sorted(order))

    def select(self, image: TrueImage, selection: Selection) -> TrueImage:
        """The image with the selected masks."""
        least = 0.0 if selection.every_size else self.least_area
        fitting = np.flatnonzero(image.areas > least)
        most = selection.masks_per_image or self.masks_per_image or len(fitting)
        rng = np.random.default_rng([selection.seed, *image.name.encode()])
        return image.at(np.sort(rng.permutation(fitting)[:most]))


def open_ground_truth(folder: Path) -> GroundTruth:
    """The data set in a folder. Raises ValueError when it is none of the kinds above."""
    if (folder / "instances.json").is_file():
        return _coco(folder)
    if (folder / "ground_truth" / "val").is_dir():
        return _bsds(folder)
    if (folder / "labels").is_dir() and (folder / "images").is_dir():
        return _label_pngs(folder)
    expected = "instances.json, ground_truth/val/*.mat or labels/*.png with images/"
    raise ValueError(f"{folder}: no ground truth recognised; expected {expected}")


def _coco(folder: Path) -> GroundTruth:
    coco = COCO()
    coco.dataset = json.loads((folder / "instances.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    entries = {entry["file_name"]: entry for entry in coco.dataset["images"]}

    def read(name: str) -> TrueImage:
        image = _rgb(folder / "images" / name)
        found = coco.loadAnns(coco.getAnnIds(imgIds=entries[name]["id"], iscrowd=False))
        masks = [coco.annToMask(annotation).astype(np.bool_) for annotation in found]
        return _true_image(name, image, masks, [annotation["area"] for annotation in found])

    return GroundTruth(folder.resolve().name, 32.0**2, None, tuple(sorted(entries)), read)


def _bsds(folder: Path) -> GroundTruth:
    def read(name: str) -> TrueImage:
        people = scipy.io.loadmat(folder / "ground_truth" / "val" / f"{name}.mat")["groundTruth"]
        return _from_labels(name, _rgb(folder / "images" / "val" / f"{name}.jpg"), people[0, 0]["Segmentation"][0, 0])

    return GroundTruth(folder.resolve().name, 32.0**2, None, _stems(folder / "ground_truth" / "val", ".mat"), read)


def _label_pngs(folder: Path) -> GroundTruth:
    def read(name: str) -> TrueImage:
        labels = cv2.imread(str(folder / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        return _from_labels(name, _rgb(folder / "images" / f"{name}.png"), labels)

    return GroundTruth(folder.resolve().name, 0.0, 8, _stems(folder / "labels", ".png"), read)


def _from_labels(name: str, image: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> TrueImage:
    masks = [labels == value for value in np.unique(labels) if value != 0]
    return _true_image(name, image, masks, [float(mask.sum()) for mask in masks])


def _true_image(
    name: str, image: npt.NDArray[np.uint8], masks: list[npt.NDArray[np.bool_]], areas: list[float]
) -> TrueImage:
    """Without masks that cover no pixel, which a sliver of a polygon can do."""
    kept = [(mask, area) for mask, area in zip(masks, areas, strict=True) if mask.any()]
    stack = np.array([mask for mask, _ in kept], np.bool_).reshape(-1, *image.shape[:2])
    return TrueImage(name, image, stack, np.array([area for _, area in kept], np.float64))


def _rgb(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _stems(folder: Path, suffix: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.iterdir() if path.suffix == suffix))
