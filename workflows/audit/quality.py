"""The quality protocol (Segment Anything, section 5): how far people change a run's masks when they correct them.

People correct all masks of some hundred random images in the `audit` stage of the annotation app. Each automatic mask
is paired with its corrected self; the share of pairs above 90 % and 75 % IoU says how good the masks were. A mask that
was deleted counts as IoU 0, which the paper does not mention; the shares without those are given as well.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.masks import shapes
from schemas.catalog import query
from schemas.rle import parse_runs
from workflows.audit.intervals import Share, share
from workflows.audit.subject import Subject
from workflows.storage import split_place

PAPER = ((0.9, 0.94), (0.75, 0.97))
"""IoU and the share of the paper's pairs above it."""
PAPER_PEOPLE = "85 to 91 %"
"""IoU between two people who outline the same object, as the paper quotes it."""
SIZES = (("small, below 32² px", 0, 32**2), ("medium", 32**2, 96**2), ("large, from 96² px", 96**2, 2**62))
_IMAGES = 500
_SCORE_GROUPS = 5
_THRESHOLDS = 100

_DONE = """
SELECT DISTINCT image_id FROM events WHERE stage = 'audit' AND action IN ('finish', 'accept')
"""
_LATEST = f"""
FROM annotation_revisions WHERE stage = 'audit' AND image_id IN ({_DONE})
QUALIFY row_number() OVER (PARTITION BY mask_id ORDER BY revision DESC, created_at DESC) = 1
"""
_CORRECTED = f"""
latest AS ({_LATEST}),
-- Of a run's masks only those of images that were audited, a few hundred: what is asked for twice is kept as a whole.
mine AS (SELECT * FROM {{masks}} WHERE image_id IN (SELECT image_id FROM latest)),
corrected AS (
    FROM latest SEMI JOIN mine ON latest.source_mask_id = mine.mask_id
    QUALIFY row_number() OVER (PARTITION BY source_mask_id ORDER BY created_at DESC, mask_id DESC) = 1
),
-- Finishing an image writes every mask, changed or not: where some have no correction, another run's were looked at.
looked_at AS (
    SELECT mine.image_id FROM mine LEFT JOIN corrected ON corrected.source_mask_id = mine.mask_id
    GROUP BY mine.image_id HAVING bool_and(corrected.mask_id IS NOT NULL)
)
"""
_PAIRS = f"""
WITH {_CORRECTED}
SELECT
    mine.image_id, mine.area, mine.predicted_iou, mine.stability_score,
    mine.rle, corrected.rle AS corrected_rle, corrected.deleted
FROM mine JOIN corrected ON corrected.source_mask_id = mine.mask_id
WHERE mine.image_id IN (FROM looked_at)
ORDER BY mine.image_id, mine.mask_id
"""
_ADDED = f"""
WITH {_CORRECTED}
SELECT count(*) AS added FROM latest
WHERE source_mask_id IS NULL AND NOT deleted AND image_id IN (FROM looked_at) AND EXISTS (
    -- Another round's audit is that of another run. Sessions do not tell: a page that was loaded again has a new one.
    FROM corrected WHERE corrected.image_id = latest.image_id AND corrected.round IS NOT DISTINCT FROM latest.round
)
"""


@dataclass(frozen=True, slots=True)
class Part:
    """The masks of one size or score: how many are above each IoU of PAPER."""

    name: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """What would be kept of a score from `at` on, and the share of it above the target IoU."""

    at: float
    kept: float
    share: Share


@dataclass(frozen=True, slots=True)
class Curve:
    """What thresholds on one score would do, from low to high.

    `reaching` is the lowest that reaches the target, `surely` the lowest whose whole interval does; None for no such.
    """

    score: str
    thresholds: tuple[Threshold, ...]
    reaching: Threshold | None
    surely: Threshold | None


@dataclass(frozen=True, slots=True)
class Quality:
    """The outcome. `shares` belong to the IoUs of PAPER, `kept_shares` leave out masks that were deleted.

    `added` are masks that people drew because the run had none.
    """

    images: int
    masks: int
    changed: int
    deleted: int
    added: int
    mean_iou: float
    shares: tuple[Share, ...]
    kept_shares: tuple[Share, ...]
    ious: NDArray[np.float64]
    by_size: tuple[Part, ...]
    by_score: tuple[Part, ...]
    by_stability: tuple[Part, ...]
    curves: tuple[Curve, ...]


def quality(subject: Subject, *, target: float, target_iou: float) -> Quality | None:
    """What the audit stage says about the masks of a run; None when no image has been audited.

    Raises ValueError when an outline is unreadable.
    """
    if subject.run_id is None:
        return None
    pairs = pairs_of(subject)
    if not len(pairs):
        return None
    added = subject.rows(_ADDED.format(masks="audit_masks"))[0]["added"]
    return measure(pairs, added=int(str(added)), target=target, target_iou=target_iou)


def pairs_of(subject: Subject) -> pa.Table:
    """Every mask of the audited images beside its corrected self: the columns that `measure` reads.

    An image counts when it was finished and every mask of this run on it has a correction: the app writes one for each
    that it showed.
    """
    return query(subject.connection, _PAIRS.format(masks="audit_masks"))


def measure(pairs: pa.Table, *, added: int, target: float, target_iou: float) -> Quality:
    """The figures of pairs: columns image_id, area, predicted_iou, stability_score, rle, corrected_rle, deleted."""
    image = pairs["image_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    deleted = pairs["deleted"].to_numpy()
    area = pairs["area"].to_numpy()
    iou = np.where(deleted, 0.0, _ious(pairs))
    predicted, stability = (pairs[name].to_numpy().astype(np.float64) for name in ("predicted_iou", "stability_score"))
    scores = {"predicted IoU": predicted, "stability score": stability, "mean of both": (predicted + stability) / 2}
    sizes = [(name, (area >= low) & (area < high)) for name, low, high in SIZES]
    return Quality(
        images=int(image.max()) + 1,
        masks=len(pairs),
        changed=int((iou < 1).sum()),
        deleted=int(deleted.sum()),
        added=added,
        mean_iou=float(iou.mean()),
        shares=_shares(iou, image, np.ones(len(iou), bool)),
        kept_shares=_shares(iou, image, ~deleted),
        ious=iou,
        by_size=_parts(iou, image, sizes),
        by_score=_parts(iou, image, _score_groups(predicted)),
        by_stability=_parts(iou, image, _score_groups(stability)),
        curves=tuple(_curve(name, score, iou > target_iou, image, target) for name, score in scores.items()),
    )


def _ious(pairs: pa.Table) -> NDArray[np.float64]:
    """IoU of each mask with its corrected self."""
    runs = parse_runs(pa.chunked_array([*pairs["rle"].chunks, *pairs["corrected_rle"].chunks]))
    numbers = np.arange(len(pairs))
    return shapes.pair_ious(runs.lengths, runs.first, np.stack([numbers, numbers + len(pairs)], axis=1))


def _shares(iou: NDArray[np.float64], image: NDArray[np.int64], chosen: NDArray[np.bool_]) -> tuple[Share, ...]:
    return tuple(share(iou[chosen] > least, image[chosen]) for least, _ in PAPER)


def _parts(
    iou: NDArray[np.float64], image: NDArray[np.int64], groups: Sequence[tuple[str, NDArray[np.bool_]]]
) -> tuple[Part, ...]:
    return tuple(Part(name, _shares(iou, image, chosen)) for name, chosen in groups if chosen.any())


def _score_groups(score: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Masks by score, in groups of about equal number: what scores are common depends on the model."""
    edges = np.unique(np.quantile(score, np.arange(_SCORE_GROUPS + 1) / _SCORE_GROUPS))
    group = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, max(0, len(edges) - 2))
    spans = list(pairwise(edges)) or [(edges[0], edges[0])]
    return [(f"{low:.2f}–{high:.2f}", group == n) for n, (low, high) in enumerate(spans)]


def _curve(
    name: str, score: NDArray[np.float64], good: NDArray[np.bool_], image: NDArray[np.int64], target: float
) -> Curve:
    """Thresholds at every hundredth of the masks, from none on."""
    places = np.unique(np.quantile(score, np.arange(_THRESHOLDS) / _THRESHOLDS, method="lower"))
    found = []
    for at in places:
        kept = score >= at
        found.append(Threshold(float(at), float(kept.mean()), share(good[kept], image[kept])))
    return Curve(
        name,
        tuple(found),
        next((one for one in found if (one.share.value or 0) >= target), None),
        next((one for one in found if one.share.low >= target), None),
    )


def command(subject: Subject) -> str:
    """How to begin the protocol, as lines of a shell; people correct the masks of data sets alone.

    "" where it cannot be: masks without scores are not imported as automatic ones.
    """
    if not subject.scored:
        return ""
    if subject.place.endswith(".json"):
        taken = f"sam-engine import {shlex.quote(subject.place)} DATASET --stage automatic"
        return f"{taken}\nsam-engine annotate DATASET --stage audit --sample {_IMAGES}\nsam-engine audit DATASET"
    place, _ = split_place(subject.place)
    run = f" --run {subject.run_id}" if subject.run_id else ""
    return f"sam-engine annotate {shlex.quote(place)} --stage audit{run} --sample {_IMAGES}"
