"""Tasks `single-point` and `fairness`: masks from simulated clicks, averaged over sets or by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sam_core.masks import rle
from sam_core.metrics.bootstrap import mean_interval
from sam_core.metrics.clicks import Clicker, DeepestClicks, RandomClicks
from sam_core.metrics.single_point import MaskScores, Sample, score_sample
from schemas.evaluation import CLICK_ROWS
from workflows.evaluate.commands import FairnessConfig, SinglePointConfig
from workflows.evaluate.groups import grouped
from workflows.evaluate.paper import CLICK_SETS, FAIRNESS
from workflows.evaluate.sampling import Cut, draw_from_all
from workflows.evaluate.task import PAPER, Bench, Figure, by_set, matrix, mean, rng_of
from workflows.evaluate.truth import TrueMasks, open_set, read_image, read_masks, require_size

MEAN_ROW = "mean of sets"


@dataclass(frozen=True, slots=True)
class SinglePoint:
    """The 23-set protocol on any sets (paper §7.1, §D.1)."""

    config: SinglePointConfig

    needs_model = True
    schema = CLICK_ROWS

    def plan(self) -> pa.Table:
        config = self.config
        cut = Cut(config.most_masks, config.enough_masks)
        sets = [open_set(place, image_folder=config.image_folder) for place in config.data]
        return draw_from_all(sets, seed=config.seed, limit=config.limit, cut=cut)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        return _measure(row, bench, self.config, self.config.masks_per_image)

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        found, parts = [], by_set(rows)
        for name, part in parts.items():
            found += _click_figures(name, part, self.config.clicks)
            found.append(Figure(name, "masks", len(part), "count"))
            found.append(Figure(name, "images", len(pc.unique(part["name"])), "count"))
        if len(parts) > 1:
            names = dict.fromkeys(figure.figure for figure in found if figure.unit == "percent")
            found += [
                Figure(MEAN_ROW, name, mean(figure.value for figure in found if figure.figure == name))
                for name in names
            ]
        found += [Figure(name, "masks", 0, "count") for name in pc.unique(plan["set"]).to_pylist() if name not in parts]
        return found + _paper_sets(dict.fromkeys(figure.row for figure in found))


@dataclass(frozen=True, slots=True)
class Fairness:
    """mIoU by group with intervals (paper §6)."""

    config: FairnessConfig

    needs_model = True
    schema = CLICK_ROWS

    def plan(self) -> pa.Table:
        config = self.config
        sets = [grouped(place, config.by, config.table, image_folder=config.image_folder) for place in config.data]
        return draw_from_all(sets, seed=config.seed, limit=config.limit)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        return _measure(row, bench, self.config, None)

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        config, found = self.config, []
        images = np.array([f"{row['set']}\0{row['name']}" for row in rows.select(["set", "name"]).to_pylist()])
        groups, iou = np.array(rows["group"].to_pylist(), object), matrix(rows["iou"])
        for group in sorted(set(groups)):
            inside = groups == group
            for column, count in enumerate(config.clicks):
                rng = rng_of(config.seed, str(group), str(count))
                _, cluster = np.unique(images[inside], return_inverse=True)
                around = mean_interval(iou[inside, column], cluster, rng, draws=config.draws)
                found.append(Figure(group, _points(count), around.mean, low=around.low, high=around.high))
            found.append(Figure(group, "masks", int(inside.sum()), "count"))
            found.append(Figure(group, "images", len(set(images[inside])), "count"))
        return found + _paper_groups()


def _measure(
    row: Mapping[str, Any], bench: Bench, config: SinglePointConfig | FairnessConfig, most: int | None
) -> list[dict[str, Any]]:
    masks = read_masks(row, bench.reader)
    kept = masks.at(_chosen(masks, row, config, most))
    if not len(kept):
        return []
    image = read_image(row, bench.reader, max_pixels=bench.max_pixels)
    require_size(image, kept)
    clicker: Clicker = DeepestClicks()
    if config.first_click == "random":
        clicker = RandomClicks(rng_of(config.seed, row["set"], row["name"], "clicks"))
    scores = score_sample(bench.model, Sample(image, kept.packed), clicks=config.clicks, clicker=clicker)
    return _rows(row, kept, scores, config.clicks)


def _chosen(
    masks: TrueMasks, row: Mapping[str, Any], config: SinglePointConfig | FairnessConfig, most: int | None
) -> np.ndarray:
    """Places of the masks to click on: no crowds, with pixels, large enough, in a group if groups are asked for."""
    seen = np.array([rle.area(counts) > 0 for counts in masks.rles], np.bool_)
    wanted = seen & ~masks.crowd & (masks.areas > config.least_area)
    if isinstance(config, FairnessConfig):
        wanted &= np.array([group is not None for group in masks.groups], np.bool_)
    fitting = np.flatnonzero(wanted)
    if most is None:
        return fitting
    return np.sort(rng_of(config.seed, row["set"], row["name"], "masks").permutation(fitting)[:most])


def _rows(
    row: Mapping[str, Any], masks: TrueMasks, scores: MaskScores, clicks: tuple[int, ...]
) -> list[dict[str, Any]]:
    return [
        {
            "set": row["set"],
            "name": row["name"],
            "annotation": int(masks.ids[n]),
            "group": masks.groups[n],
            "area": float(masks.areas[n]),
            "clicks": list(clicks),
            "iou": scores.chosen[n].tolist(),
            "oracle_iou": scores.oracle[n].tolist(),
            "box_iou": float(scores.box[n]),
            "predicted_iou": float(scores.first_predicted[n].max()),
        }
        for n in range(len(masks))
    ]


def _click_figures(name: str, rows: pa.Table, clicks: tuple[int, ...]) -> list[Figure]:
    """Means over the masks of a set."""
    chosen, oracle = matrix(rows["iou"]).mean(0), matrix(rows["oracle_iou"]).mean(0)
    own = [Figure(name, _points(count), float(value)) for count, value in zip(clicks, chosen, strict=True)]
    best = [
        Figure(name, f"{_points(count)}, oracle", float(value)) for count, value in zip(clicks, oracle, strict=True)
    ]
    return [*own, *best, Figure(name, "box", float(np.mean(rows["box_iou"].to_numpy())))]


def _paper_sets(names: Mapping[str, object]) -> list[Figure]:
    """What the paper prints about the sets that bear the same names; its IoU are drawn only, but for differences."""
    known = {name.lower(): row for name, row in CLICK_SETS.items()}
    found = []
    for name in names:
        if row := known.get(name.lower()):
            found.append(Figure(name, "images", row.images, "count", origin=PAPER))
            found.append(Figure(name, "masks", row.masks, "count", origin=PAPER))
            found.append(Figure(name, "1 click above RITM", row.above_ritm, "points", origin=PAPER))
    return found


def _paper_groups() -> list[Figure]:
    found = []
    for (kind, group), values in FAIRNESS.items():
        for count, (value, half) in zip((1, 3), values, strict=True):
            low, high = (value - half) / 100, (value + half) / 100
            found.append(Figure(f"{kind}: {group}", _points(count), value / 100, low=low, high=high, origin=PAPER))
    return found


def _points(count: int) -> str:
    return f"{count} click{'s' if count > 1 else ''}"
