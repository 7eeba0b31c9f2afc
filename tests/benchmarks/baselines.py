"""Segmentation from one click without learning: what a model has to beat, in the same harness.

Every baseline turns an image, clicks and one parameter into masks. The constant disc looks at no pixel: it is the
control.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from skimage.feature import peak_local_max
from skimage.segmentation import felzenszwalb, watershed

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.integer]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

GRABCUT_SIDE = 320  # px of the longest side that GrabCut works at


@dataclass(frozen=True, slots=True)
class Baseline:
    """segment(image [H, W, 3] uint8, clicks [N, 2] xy px, parameter) -> bool [N, H, W]."""

    name: str
    meaning: str
    parameters: tuple[float, ...]
    segment: Callable[[Image, Points, float], Masks]


def disc(image: Image, clicks: Points, radius: float) -> Masks:
    """A disc around each click; radius as a share of the image's longest side."""
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    reach = (radius * max(height, width)) ** 2
    return np.array([(x - cx) ** 2 + (y - cy) ** 2 <= reach for cx, cy in clicks])


def flood_fill(image: Image, clicks: Points, tolerance: float) -> Masks:
    """Pixels connected to the click whose channels all differ from the click's by at most the tolerance (0..255)."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    return np.array([_flooded(smooth, click, tolerance) for click in clicks])


def felzenszwalb_region(image: Image, clicks: Points, scale: float) -> Masks:
    """The region under the click in Felzenszwalb and Huttenlocher's graph-based segmentation."""
    return _regions_at(felzenszwalb(image, scale=scale, sigma=0.8, min_size=20), clicks)


def watershed_region(image: Image, clicks: Points, sigma: float) -> Masks:
    """The catchment basin under the click of the gradient magnitude, smoothed by a Gaussian of sigma px."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), sigma)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return _regions_at(watershed(gradient), clicks)


def otsu_watershed(image: Image, clicks: Points, distance: float) -> Masks:
    """The usual separation of touching cells: Otsu's threshold, then the watershed of the distance to the other side.

    Of bright and dark side the one under the click is segmented. distance: least distance of two seeds, px.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)
    sides = [_separated(side, distance) for side in (1 - bright, bright)]
    return np.concatenate([_regions_at(sides[bright[y, x]], np.array([[x, y]])) for x, y in clicks])


def grabcut(image: Image, clicks: Points, radius: float) -> Masks:
    """GrabCut from a disc of probable foreground around the click, the part connected to the click of what it finds."""
    height, width = image.shape[:2]
    scale = min(1.0, GRABCUT_SIDE / max(height, width))
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    found = [_grabcut(small, click * scale, radius) for click in clicks]
    return np.array([cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0 for mask in found])


BASELINES = (
    Baseline("disc", "radius / longest side", tuple(np.geomspace(0.01, 0.5, 24).tolist()), disc),
    Baseline("flood_fill", "tolerance, levels", (2, 4, 6, 8, 12, 16, 24, 32, 48, 64), flood_fill),
    Baseline("felzenszwalb", "scale", (30, 60, 100, 200, 300, 500, 1000), felzenszwalb_region),
    Baseline("watershed", "sigma, px", (1, 2, 3, 4, 6, 8, 12, 16, 24), watershed_region),
    Baseline("otsu_watershed", "seed distance, px", (3, 5, 8, 12, 20, 40, 80), otsu_watershed),
    Baseline("grabcut", "radius / longest side", (0.015, 0.03, 0.06, 0.12, 0.24), grabcut),
)


def best_triple(iou: Floats) -> tuple[tuple[int, int, int], float]:
    """The three columns of [N, P] whose best per row has the largest mean, and that mean: an oracle's control."""
    triples = itertools.combinations(range(iou.shape[1]), 3)
    return max(((triple, float(iou[:, triple].max(1).mean())) for triple in triples), key=lambda pair: pair[1])


def _flooded(image: Image, click: Points, tolerance: float) -> Masks:
    mask = np.zeros((image.shape[0] + 2, image.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    spread = (tolerance,) * 3
    cv2.floodFill(image, mask, (int(click[0]), int(click[1])), 0, spread, spread, flags)
    return mask[1:-1, 1:-1] > 0


def _regions_at(labels: npt.NDArray[np.integer], clicks: Points) -> Masks:
    return np.array([labels == labels[y, x] for x, y in clicks])


def _separated(side: Image, distance: float) -> npt.NDArray[np.integer]:
    """Labels of the watershed basins of a binary image's distance transform, 0 outside it.

    A part that is too near to a deeper one for a seed of its own is a basin of its own all the same.
    """
    depth = cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    seeds = peak_local_max(depth, min_distance=int(distance), labels=side.astype(np.int32), exclude_border=False)
    markers = np.zeros(side.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    basins = watershed(-depth, markers, mask=side > 0)
    _, others = cv2.connectedComponents(((side > 0) & (basins == 0)).astype(np.uint8), connectivity=4)
    return np.asarray(np.where(others > 0, others + len(seeds), basins))


def _grabcut(image: Image, click: Floats, radius: float) -> Image:
    guess = np.full(image.shape[:2], cv2.GC_PR_BGD, np.uint8)
    reach = max(2, round(radius * max(image.shape[:2])))
    centre = (min(round(click[0]), image.shape[1] - 1), min(round(click[1]), image.shape[0] - 1))
    cv2.circle(guess, centre, reach, int(cv2.GC_PR_FGD), -1)
    cv2.circle(guess, centre, max(1, reach // 4), int(cv2.GC_FGD), -1)
    cv2.setRNGSeed(0)
    cv2.grabCut(image, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    _, parts = cv2.connectedComponents(np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    part = parts[centre[1], centre[0]]  # never background: the click itself is given as certain foreground
    return np.asarray(parts == part, np.uint8)
