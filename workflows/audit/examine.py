"""What only the outlines tell: concavity, coverage and near-duplicate masks, of the masks of sampled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.masks import shapes
from schemas.rle import Runs, parse_runs
from workflows.audit.neighbours import pairs_until
from workflows.audit.subject import Subject
from workflows.report.queries import literal

SIZE_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Strata of relative size, so that data sets of small and of large masks can be compared by concavity."""
_STRATA = len(SIZE_EDGES) - 1
CONCAVITY_BINS = 25
COVERAGE_BINS = 20
LEAST_IN_STRATUM = 20
"""Masks that a data set must have in a stratum before it counts."""
_MASKS_AT_ONCE = 50_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Examined:
    """Sums over the sampled images.

    concavity         float [strata, CONCAVITY_BINS], masks
    concavity_sums    float [strata], the sum of the masks' concavities
    coverage          float [COVERAGE_BINS], images by the share of their pixels that lie in a mask
    covered           sum of those shares
    duplicates        masks that repeat another one of their image
    """

    images: int
    masks: int
    concavity: Floats
    concavity_sums: Floats
    coverage: Floats
    covered: float
    duplicates: int

    @property
    def mean_coverage(self) -> float | None:
        return self.covered / self.images if self.images else None

    @property
    def duplicate_share(self) -> float | None:
        return self.duplicates / self.masks if self.masks else None


def examine(subject: Subject, *, images: int, seed: int, duplicate_iou: float) -> Examined:
    """Look at every mask of so many images. Raises RleError when an outline is unreadable."""
    found = Examined(0, 0, np.zeros((_STRATA, CONCAVITY_BINS)), np.zeros(_STRATA), np.zeros(COVERAGE_BINS), 0.0, 0)
    for chunk in _chunks(subject, subject.sample(images, seed)):
        found = _together(found, _examined(chunk, subject.shapes(chunk.ids[0], chunk.ids[-1]), duplicate_iou))
    return found


def comparable_strata(found: Sequence[Examined]) -> NDArray[np.bool_]:
    """bool [strata]: where every data set has enough masks; all where there is no such stratum."""
    enough = np.all([one.concavity.sum(axis=1) >= LEAST_IN_STRATUM for one in found], axis=0)
    return enough if enough.any() else np.ones(_STRATA, bool)


def stratified_concavity(found: Examined, strata: NDArray[np.bool_]) -> tuple[Floats, float | None]:
    """Shares float [CONCAVITY_BINS] and the mean, when each of the strata counts equally."""
    counts, sums = found.concavity[strata], found.concavity_sums[strata]
    masks = counts.sum(axis=1)
    there = masks > 0
    if not there.any():
        return np.zeros(CONCAVITY_BINS), None
    shares = counts[there] / masks[there, None]
    return shares.mean(axis=0), float((sums[there] / masks[there]).mean())


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Images whose ids follow one another, and their pixels."""

    ids: list[str]
    pixels: Ints


def _chunks(subject: Subject, ids: Sequence[str]) -> Iterator[_Chunk]:
    """Sampled images in groups with not too many masks."""
    listed = ", ".join(map(literal, ids)) or "NULL"
    known = subject.rows(
        f"SELECT image_id, n_masks, height::BIGINT * width AS pixels FROM audit_images WHERE image_id IN ({listed})"
    )
    facts = {str(row["image_id"]): (int(str(row["n_masks"])), int(str(row["pixels"]))) for row in known}
    chunk: list[str] = []
    masks = 0
    for image in ids:
        if chunk and (masks + facts[image][0] > _MASKS_AT_ONCE or image < chunk[-1]):
            yield _Chunk(chunk, np.array([facts[one][1] for one in chunk], np.int64))
            chunk, masks = [], 0
        chunk.append(image)
        masks += facts[image][0]
    if chunk:
        yield _Chunk(chunk, np.array([facts[one][1] for one in chunk], np.int64))


def _examined(chunk: _Chunk, table: pa.Table, duplicate_iou: float) -> Examined:
    runs = parse_runs(table["rle"])
    heights, widths = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    image = np.searchsorted(np.array(chunk.ids), np.array(table["image_id"].to_pylist(), f"<U{len(chunk.ids[0])}"))
    areas = shapes.mask_areas(runs.lengths, runs.first)
    concavity = shapes.concavity(runs.lengths, runs.first, heights)
    stratum = np.clip(
        np.searchsorted(SIZE_EDGES, np.sqrt(areas / (heights * widths)), side="right") - 1, 0, _STRATA - 1
    )
    seen = areas > 0
    place = stratum * CONCAVITY_BINS + np.minimum(np.nan_to_num(concavity) * CONCAVITY_BINS, CONCAVITY_BINS - 1).astype(
        int
    )
    covered = shapes.union_areas(runs.lengths, runs.first, image, len(chunk.ids)) / chunk.pixels
    return Examined(
        images=len(chunk.ids),
        masks=len(table),
        concavity=np.bincount(place[seen], minlength=_STRATA * CONCAVITY_BINS).reshape(_STRATA, -1).astype(np.float64),
        concavity_sums=np.bincount(stratum[seen], weights=concavity[seen], minlength=_STRATA).astype(np.float64),
        coverage=_histogram(covered, COVERAGE_BINS),
        covered=float(covered.sum()),
        duplicates=count_duplicates(runs, image, areas, duplicate_iou),
    )


def count_duplicates(runs: Runs, image: Ints, areas: Ints, least_iou: float) -> int:
    """Masks that have a twin before them in the same image.

    Masks of that IoU differ in area by less than its inverse, so only few pairs need a look.
    """
    place = np.log(np.maximum(areas, 1)) + image * 100.0  # an image's masks lie apart from all others: log(2**40) is 28
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], place[order] - np.log(least_iou) + 1e-9, side="right")
    one, other = pairs_until(ends)
    pairs = np.stack([order[one], order[other]], axis=1)
    same = shapes.pair_ious(runs.lengths, runs.first, pairs) >= least_iou
    return len(np.unique(pairs[same].max(axis=1)))


def _histogram(values: Floats, bins: int) -> Floats:
    return np.bincount(np.minimum((values * bins).astype(int), bins - 1), minlength=bins).astype(np.float64)


def _together(one: Examined, other: Examined) -> Examined:
    return Examined(
        one.images + other.images,
        one.masks + other.masks,
        one.concavity + other.concavity,
        one.concavity_sums + other.concavity_sums,
        one.coverage + other.coverage,
        one.covered + other.covered,
        one.duplicates + other.duplicates,
    )
