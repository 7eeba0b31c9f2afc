"""From findings to plots: one function per section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from workflows.audit import counts, plots
from workflows.audit.counts import Counted, Totals
from workflows.audit.examine import (
    CONCAVITY_BINS,
    COVERAGE_BINS,
    SIZE_EDGES,
    Examined,
    comparable_strata,
    stratified_concavity,
)
from workflows.audit.intervals import Share
from workflows.audit.places import Group
from workflows.audit.plots import Plot, Series
from workflows.audit.quality import PAPER, Curve, Part, Quality
from workflows.report import text
from workflows.report.bins import Bins
from workflows.report.figures import Table
from workflows.report.queries import BUCKETS, SIZE_CLASSES

_COUNTRIES_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Findings:
    """What the audit knows of one data set: what DuckDB counted, and what the outlines of sampled images tell."""

    name: str
    totals: Totals
    buckets: Counted
    per_image: Counted
    sizes: Counted
    rings: Counted
    centres: Counted
    examined: Examined


def mask_plots(found: Sequence[Findings], per_image: Bins) -> list[Plot]:
    """How many masks images have, how large they are, and of what shape."""
    return [
        _buckets(found),
        _masks_per_image(found, per_image),
        _relative_sizes(found),
        _size_classes(found),
        _concavity(found),
        _coverage(found),
    ]


def centre_plots(found: Sequence[Findings]) -> list[Plot]:
    """Whether masks crowd in the middle of images."""
    return [_centre_maps(found), _rings(found)]


def _names(found: Sequence[Findings]) -> list[str]:
    return [one.name for one in found]


def _buckets(found: Sequence[Findings]) -> Plot:
    return plots.counted(
        "bars",
        "Images by number of masks",
        "The groups of the Segment Anything paper (figure 6).",
        x_label="masks per image",
        unit="images",
        parts=BUCKETS,
        names=_names(found),
        values=[one.buckets.values for one in found],
        sql=found[0].buckets.sql,
    )


def _masks_per_image(found: Sequence[Findings], bins: Bins) -> Plot:
    return plots.counted(
        "steps",
        "Masks per image",
        "The last bin also holds the one in a thousand above it.",
        x_label="masks per image",
        unit="images",
        parts=bins.names,
        names=_names(found),
        values=[one.per_image.values for one in found],
        edges=bins.edges.tolist(),
        sql=found[0].per_image.sql,
    )


def _relative_sizes(found: Sequence[Findings]) -> Plot:
    return plots.counted(
        "steps",
        "Relative mask size",
        "Square root of mask area over image area: at 0.1, a tenth of the image's side.",
        x_label="relative size",
        unit="masks",
        parts=counts.RELATIVE_SIZES.names,
        names=_names(found),
        values=[one.sizes.values for one in found],
        edges=counts.RELATIVE_SIZES.edges.tolist(),
        log_x=True,
        sql=found[0].sizes.sql,
    )


def _size_classes(found: Sequence[Findings]) -> Plot:
    return plots.counted(
        "bars",
        "Size classes",
        "By area, as COCO draws the lines: 32² and 96² pixels.",
        x_label="size of the mask",
        unit="masks",
        parts=SIZE_CLASSES,
        names=_names(found),
        values=[np.array([one.totals.small, one.totals.medium, one.totals.large], np.float64) for one in found],
    )


def _concavity(found: Sequence[Findings]) -> Plot:
    strata = comparable_strata([one.examined for one in found])
    edges = np.linspace(0, 1, CONCAVITY_BINS + 1).tolist()
    return plots.shared(
        "Concavity",
        f"1 − area / area of the convex hull. {_strata_words(strata)}",
        x_label="concavity",
        unit="masks",
        parts=plots.percent_parts(edges),
        names=_names(found),
        values=[stratified_concavity(one.examined, strata)[0] for one in found],
        edges=edges,
    )


def _coverage(found: Sequence[Findings]) -> Plot:
    edges = np.linspace(0, 1, COVERAGE_BINS + 1).tolist()
    return plots.counted(
        "steps",
        "Coverage",
        "Share of an image's pixels that lie in at least one mask.",
        x_label="share of pixels in a mask",
        unit="images",
        parts=plots.percent_parts(edges),
        names=_names(found),
        values=[one.examined.coverage for one in found],
        edges=edges,
    )


def _centre_maps(found: Sequence[Findings]) -> Plot:
    return plots.counted(
        "maps",
        "Where masks lie",
        "Centres of the masks' boxes over the image; the darker, the more.",
        x_label="",
        unit="masks",
        parts=[],
        names=_names(found),
        values=[one.centres.values for one in found],
    )


def _rings(found: Sequence[Findings]) -> Plot:
    return plots.counted(
        "bars",
        "From the middle to the border",
        "Ten frames of equal area around the middle. Without bias each holds a tenth of the centres.",
        x_label="frame, from the middle (1) to the border (10)",
        unit="masks",
        parts=[str(ring + 1) for ring in range(counts.RINGS)],
        names=_names(found),
        values=[one.rings.values for one in found],
        sql=found[0].rings.sql,
    )


def country_plot(countries: Sequence[Group]) -> Plot:
    """The countries with the most images."""
    groups, rest = list(countries[:_COUNTRIES_SHOWN]), countries[_COUNTRIES_SHOWN:]
    if rest:
        groups.append(Group(f"{len(rest)} others", sum(c.images for c in rest), sum(c.masks for c in rest)))
    values = np.array([group.images for group in groups], np.float64)
    return plots.counted(
        "bars",
        "Images by country",
        "Of the images with a known country.",
        x_label="country",
        unit="images",
        parts=[group.name for group in groups],
        names=["images"],
        values=[values],
    )


def quality_plots(found: Quality) -> list[Plot]:
    """How good masks are, by size and score."""
    edges = np.linspace(0, 1, 41)
    ious = np.bincount(np.minimum((found.ious * 40).astype(int), 39), minlength=40).astype(np.float64)
    histogram = plots.counted(
        "steps",
        "IoU with the corrected mask",
        "Deleted masks count as 0, masks left as they were as 1.",
        x_label="IoU",
        unit="masks",
        parts=plots.percent_parts(edges.tolist()),
        names=["masks"],
        values=[ious],
        edges=edges.tolist(),
    )
    groups = [
        _group_plot("By size", "size of the automatic mask", found.by_size),
        _group_plot("By predicted IoU", "predicted IoU", found.by_score),
        _group_plot("By stability", "stability score", found.by_stability),
    ]
    return [histogram, *groups]


def curve_plot(curve: Curve, *, target: float, target_iou: float) -> Plot:
    """What a threshold on a score would keep, and how good that would be."""
    at = [one.at for one in curve.thresholds]
    good = _above(target_iou, 0, [one.share for one in curve.thresholds])
    kept = Series("kept", 1, [one.kept for one in curve.thresholds])
    chosen = [(one.at, name) for one, name in ((curve.reaching, "reaches the target"), (curve.surely, "surely")) if one]
    rows = tuple(
        (f"{one.at:.3f}", f"{100 * one.kept:.1f} %", _with_interval(one.share)) for one in curve.thresholds[::10]
    )
    return Plot(
        curve.score,
        f"Masks with a {curve.score} from the threshold on. Target: {100 * target:g} %.",
        "lines",
        f"threshold on the {curve.score}",
        "share of masks",
        [f"from {value:.3f}" for value in at],
        [good, kept],
        Table(("threshold", "kept", good.name), rows),
        at,
        unit="masks",
        markers=chosen,
        by_data_set=False,
    )


def _group_plot(title: str, x_label: str, parts: Sequence[Part]) -> Plot:
    """Shares above both IoUs with their intervals."""
    series = [_above(least, number, [part.shares[number] for part in parts]) for number, (least, _) in enumerate(PAPER)]
    rows = tuple(
        (part.name, text.count(part.shares[0].masks), *(_with_interval(one) for one in part.shares)) for part in parts
    )
    head = (x_label, "masks", *(one.name for one in series))
    return Plot(
        title,
        "With intervals of 95 % over images.",
        "points",
        x_label,
        "share of masks",
        [part.name for part in parts],
        series,
        Table(head, rows),
        unit="masks",
        by_data_set=False,
    )


def _above(least: float, number: int, shares: Sequence[Share]) -> Series:
    """Shares of masks above an IoU with their intervals, as the series of this number."""
    return Series(
        f"above {100 * least:g} % IoU",
        number,
        [one.value or 0 for one in shares],
        [one.masks for one in shares],
        [one.low for one in shares],
        [one.high for one in shares],
    )


def _with_interval(one: Share) -> str:
    return f"{text.share(one.good, one.masks)} ({100 * one.low:.1f}–{100 * one.high:.1f})"


def _strata_words(strata: NDArray[np.bool_]) -> str:
    """Which sizes count, in words."""
    used = [f"{low:g}–{high:g}" for (low, high), use in zip(pairwise(SIZE_EDGES), strata, strict=True) if use]
    return f"Mean over equally weighted strata of relative size {', '.join(used)}, as the paper controls for size."
