"""Photographs with true masks, told apart by their contents, and which of them the benchmarks look at.

The readers are those of `workflows.evaluate.truth`.

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

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_core.masks import rle
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.single_point import Sample
from workflows.evaluate.truth import open_set, read_image, read_masks
from workflows.uris import UriReader


@dataclass(frozen=True, slots=True)
class TrueImage:
    """One image and its true masks. areas: float64 [N] px, as annotated where the format says so."""

    name: str
    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]

    @property
    def sample(self) -> Sample:
        return Sample(self.image, PackedMasks.of(self.masks))

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
    if (folder / "instances.json").is_file() or (folder / "ground_truth" / "val").is_dir():
        return _set(folder, least_area=32.0**2)
    if (folder / "labels").is_dir() and (folder / "images").is_dir():
        return _set(folder, least_area=0.0, masks_per_image=8)
    expected = "instances.json, ground_truth/val/*.mat or labels/*.png with images/"
    raise ValueError(f"{folder}: no ground truth recognised; expected {expected}")


def _set(folder: Path, *, least_area: float, masks_per_image: int | None = None) -> GroundTruth:
    rows = {row["name"]: row for row in open_set(str(folder)).rows.to_pylist()}
    reader = UriReader()

    def read(name: str) -> TrueImage:
        masks = read_masks(rows[name], reader)
        seen = np.array([rle.area(counts) > 0 for counts in masks.rles], np.bool_)
        masks = masks.at(np.flatnonzero(seen & ~masks.crowd))
        return TrueImage(name, read_image(rows[name], reader), masks.packed.dense(), masks.areas)

    return GroundTruth(folder.resolve().name, least_area, masks_per_image, tuple(sorted(rows)), read)
