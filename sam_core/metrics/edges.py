"""Boundaries against those that people drew: the measures of BSDS500 (Martin et al. 2004, Arbelaez et al. 2011).

A predicted pixel and a drawn one can be a pair when they lie within 0.0075 of the image's diagonal of each other. Pairs
are one-to-one: as many as possible, and of those the closest. Precision counts predicted pixels that are in a pair with
any person's; recall counts the pixels of every person.

Figures of a data set come from sums of counts over its images:

- ODS: best F at one threshold for all images, precision and recall taken linearly between neighbouring thresholds.
- OIS: F of the sums where each image has its own best threshold, the highest of equally good ones.
- AP: area under precision over recall at 101 places, 0 where no threshold reaches.
- R50: the largest recall at a precision of at least 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from sam_core.metrics.thinning import thin

TOLERANCE = 0.0075
THRESHOLDS = np.arange(1, 100) / 100

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_UNPAIRED = 1e6
"""Cost of a pixel without a partner: above the distances of any chain of pairs, so that pairs are most."""


class Pairs(NamedTuple):
    """Which pixels have a partner: bool [H, W] of the prediction, and of the truth."""

    predicted: Mask
    true: Mask


@dataclass(frozen=True, slots=True)
class EdgeCounts:
    """Pixels at T thresholds, int64 [T] each.

    matched_predicted of predicted pixels have a partner in any person's boundaries; matched_true of the true pixels,
    summed over persons, have one.
    """

    matched_predicted: Integers
    predicted: Integers
    matched_true: Integers
    true: Integers

    def __add__(self, other: EdgeCounts) -> EdgeCounts:
        return EdgeCounts(
            self.matched_predicted + other.matched_predicted,
            self.predicted + other.predicted,
            self.matched_true + other.matched_true,
            self.true + other.true,
        )

    def at(self, index: int) -> EdgeCounts:
        """The counts at one threshold, still as arrays: [1]."""
        kept = slice(index, index + 1)
        return EdgeCounts(self.matched_predicted[kept], self.predicted[kept], self.matched_true[kept], self.true[kept])

    @property
    def precision(self) -> Floats:
        """[T], 0 where nothing is predicted."""
        return self.matched_predicted / np.maximum(self.predicted, 1)

    @property
    def recall(self) -> Floats:
        """[T], 0 where nothing is true."""
        return self.matched_true / np.maximum(self.true, 1)


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """0..1; threshold is that of ODS."""

    ods: float
    ois: float
    ap: float
    r50: float
    threshold: float


def match_boundaries(predicted: Mask, true: Mask, *, tolerance: float = TOLERANCE) -> Pairs:
    """One-to-one pairs of boundary pixels.

    Args:
        predicted, true: bool [H, W], lines one pixel wide.
        tolerance: largest distance of a pair, as a share of the image's diagonal.

    Raises:
        ValueError: masks of different sizes.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"boundaries of {predicted.shape} px (h, w) against truth of {true.shape} px")
    rows, columns, distances = _candidates(predicted, true, tolerance * float(np.hypot(*predicted.shape)))
    pairs = Pairs(np.zeros_like(predicted), np.zeros_like(true))
    if len(rows):
        places, others = np.flatnonzero(predicted), np.flatnonzero(true)
        left, right = _assign(rows, columns, distances)
        pairs.predicted.flat[places[left]] = True
        pairs.true.flat[others[right]] = True
    return pairs


def count_edges(edges: npt.NDArray[np.floating], people: Sequence[Mask], thresholds: Floats = THRESHOLDS) -> EdgeCounts:
    """Counts of one image.

    Args:
        edges: [H, W], strength of an edge in 0..1, ridges thinned or nearly so.
        people: boundaries bool [H, W] of each person, at least one.
        thresholds: [T]; an edge is predicted where the strength is at least this. Lines are thinned at each.

    Raises:
        ValueError: nobody's boundaries, or of another size.
    """
    if not people:
        raise ValueError("nobody drew boundaries to compare with")
    counts = []
    known: dict[bytes, tuple[int, int, int]] = {}  # neighbouring thresholds often give the same lines
    for threshold in thresholds:
        lines = thin(edges >= threshold)
        key = np.packbits(lines).tobytes()
        if key not in known:
            known[key] = _count_lines(lines, people)
        counts.append(known[key])
    matched_predicted, predicted, matched_true = np.array(counts, np.int64).reshape(-1, 3).T
    true = np.full(len(counts), sum(int(np.count_nonzero(person)) for person in people), np.int64)
    return EdgeCounts(matched_predicted, predicted, matched_true, true)


def edge_figures(images: Sequence[EdgeCounts], thresholds: Floats = THRESHOLDS) -> EdgeFigures:
    """Figures of a data set from the counts of its images. Raises ValueError for no image."""
    if not images:
        raise ValueError("no images to score edges on")
    total = _sum(images)
    threshold, ods = _best(total, thresholds)
    best = _sum([image.at(len(thresholds) - 1 - int(f_score(image)[::-1].argmax())) for image in images])
    return EdgeFigures(ods, float(f_score(best)[0]), _average_precision(total), _recall_at_half(total), threshold)


def f_score(counts: EdgeCounts) -> Floats:
    """Harmonic mean of precision and recall, [T]; 0 where both are."""
    return _harmonic(counts.precision, counts.recall)


def _harmonic(precision: Floats, recall: Floats) -> Floats:
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)


def _sum(images: Sequence[EdgeCounts]) -> EdgeCounts:
    total = images[0]
    for image in images[1:]:
        total += image
    return total


def _count_lines(lines: Mask, people: Sequence[Mask]) -> tuple[int, int, int]:
    """Predicted pixels with a partner, all predicted pixels, and true pixels with a partner."""
    anyone, matched_true = np.zeros_like(lines), 0
    for person in people:
        pairs = match_boundaries(lines, person)
        anyone |= pairs.predicted
        matched_true += int(np.count_nonzero(pairs.true))
    return int(np.count_nonzero(anyone)), int(np.count_nonzero(lines)), matched_true


def _candidates(predicted: Mask, true: Mask, radius: float) -> tuple[Integers, Integers, Floats]:
    """Pairs within the radius (px): number of the predicted pixel, of the true pixel, and their distance."""
    reach = int(radius)
    number = np.full((true.shape[0] + 2 * reach, true.shape[1] + 2 * reach), -1, np.int64)
    number[reach : reach + true.shape[0], reach : reach + true.shape[1]][true] = np.arange(np.count_nonzero(true))
    y, x = np.nonzero(predicted)
    rows, columns, distances = [], [], []
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            distance = float(np.hypot(dy, dx))
            if distance <= radius:
                met = number[y + dy + reach, x + dx + reach]
                here = np.flatnonzero(met >= 0)
                rows.append(here)
                columns.append(met[here])
                distances.append(np.full(len(here), distance))
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)


def _assign(rows: Integers, columns: Integers, distances: Floats) -> tuple[Integers, Integers]:
    """The most pairs, and of those the closest: numbers of the pixels in a pair, of both sides.

    Every pixel of the smaller side also has a partner of its own that stands for none, so that a full matching exists;
    of the larger side many would be without one, and each of those costs a search through all that it could displace.
    Distances gain 1, since sparse matrices hold no zeros, which changes every full matching alike.
    """
    left, row = np.unique(rows, return_inverse=True)
    right, column = np.unique(columns, return_inverse=True)
    n, m = len(left), len(right)
    if n > m:
        other_side, this_side = _assign(columns, rows, distances)
        return this_side, other_side
    each = np.arange(n)
    weights = np.concatenate([distances + 1, np.full(n, _UNPAIRED)])
    place = (np.concatenate([row, each]), np.concatenate([column, m + each]))
    one, other = min_weight_full_bipartite_matching(csr_array((weights, place), shape=(n, m + n)))
    paired = other < m
    return left[one[paired]], right[other[paired]]


def _best(total: EdgeCounts, thresholds: Floats) -> tuple[float, float]:
    """Threshold and F at the best place of the curve, with 100 steps between neighbouring thresholds."""
    place = np.linspace(0, len(thresholds) - 1, 100 * (len(thresholds) - 1) + 1) if len(thresholds) > 1 else np.zeros(1)
    grid = np.arange(len(thresholds))
    scores = _harmonic(np.interp(place, grid, total.precision), np.interp(place, grid, total.recall))
    best = int(scores.argmax())
    return float(np.interp(place[best], grid, thresholds)), float(scores[best])


def _average_precision(total: EdgeCounts) -> float:
    recall, first = np.unique(total.recall, return_index=True)
    if len(recall) < 2:
        return 0.0
    places = np.linspace(0, 1, 101)
    return float(np.interp(places, recall, total.precision[first], left=0.0, right=0.0).sum() * 0.01)


def _recall_at_half(total: EdgeCounts) -> float:
    """The largest recall on the curve, lines between neighbouring thresholds, with a precision of at least one half."""
    p, r = total.precision, total.recall
    found = r[p >= 0.5].max(initial=0.0)
    for a in np.flatnonzero((p[:-1] >= 0.5) != (p[1:] >= 0.5)):
        share = (0.5 - p[a]) / (p[a + 1] - p[a])
        found = max(found, r[a] + share * (r[a + 1] - r[a]))
    return float(found)
