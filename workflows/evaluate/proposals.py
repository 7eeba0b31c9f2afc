"""Task `proposals`: class-agnostic average recall of generated masks, AR@1000 (paper §7.3, §D.3).

The federated trap: LVIS's own evaluator drops every detection whose category is neither present in the image nor known
to be absent, so proposals without a category vanish from most images. Recall needs no negatives; here all true masks of
an image are one category, as COCOeval has it with one, and the LVIS code is not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sam_core.generator import MaskGenerator
from sam_core.masks.batch import MaskRecords
from sam_core.metrics.iou import iou_matrix
from sam_core.metrics.recall import NOTHING, SIZES, Overlaps, RecallCounts, count_recall, of_size
from sam_core.recipes import proposals
from schemas.evaluation import RECALL_ROWS
from workflows.evaluate.commands import ProposalsConfig
from workflows.evaluate.paper import PROPOSALS
from workflows.evaluate.sampling import draw_from_all
from workflows.evaluate.task import Bench, Figure, by_set, published
from workflows.evaluate.truth import TrueMasks, open_set, read_image, read_masks, require_size

FREQUENCIES = {"f": "frequent", "c": "common", "r": "rare"}


@dataclass(frozen=True, slots=True)
class Proposals:
    """Recall of the `proposals` recipe's masks; images without true masks are not worked on, having none to recall."""

    config: ProposalsConfig

    needs_model = True
    schema = RECALL_ROWS

    def plan(self) -> pa.Table:
        config = self.config
        sets = [open_set(place, image_folder=config.image_folder) for place in config.data]
        return draw_from_all(sets, seed=config.seed, limit=config.limit)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        masks = read_masks(row, bench.reader)
        masks = masks.at(np.flatnonzero(~masks.crowd))
        if not len(masks):
            return []
        image = read_image(row, bench.reader, max_pixels=bench.max_pixels)
        require_size(image, masks)
        recipe = replace(proposals(), points_per_side=self.config.points_per_side, nms_iou=self.config.nms_iou)
        found = MaskGenerator(bench.model, recipe, threads=bench.threads).generate(image).masks
        overlaps = proposal_overlaps(found, masks.rles, masks.areas, limit=self.config.proposals)
        return [
            {
                "set": row["set"],
                "name": row["name"],
                "subset": subset,
                "proposals": len(found),
                "true": counts.total,
                "found": counts.found.tolist(),
            }
            for subset, counts in _by_subset(overlaps, masks, self.config.proposals).items()
        ]

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        found = []
        for name, part in by_set(rows).items():
            counts: defaultdict[str, RecallCounts] = defaultdict(lambda: NOTHING)
            for entry in part.select(["subset", "true", "found"]).to_pylist():
                counts[entry["subset"]] += RecallCounts(entry["true"], np.array(entry["found"], np.int64))
            known = [subset for subset in [*SIZES, *FREQUENCIES.values()] if counts[subset].total]
            found += [Figure(name, subset, counts[subset].average) for subset in known]
            one_each = part.filter(pc.equal(part["subset"], "all"))
            found.append(Figure(name, "masks", counts["all"].total, "count"))
            found.append(Figure(name, "images", len(pc.unique(one_each["name"])), "count"))
            found.append(Figure(name, "proposals/image", float(pc.mean(one_each["proposals"]).as_py()), "count"))
        return found + published(PROPOSALS)


def proposal_overlaps(
    found: MaskRecords, rles: Sequence[bytes], areas: NDArray[np.float64], *, limit: int = 1000
) -> Overlaps:
    """Generated masks, ranked as in the paper, against true ones: COCO compressed counts, and areas [G] px."""
    rank = np.argsort(-rank_scores(found), kind="stable")[:limit]
    return Overlaps(iou_matrix([found.rle[index] for index in rank], rles, found.size), areas)


def rank_scores(found: MaskRecords) -> NDArray[np.float32]:
    """Mean of predicted IoU and stability: float32 [N]."""
    return np.asarray((found.predicted_iou + np.nan_to_num(found.stability_score)) / 2, np.float32)


def _by_subset(overlaps: Overlaps, masks: TrueMasks, limit: int) -> dict[str, RecallCounts]:
    """Counts of the image by size, and by the frequency of the category where the truth has one."""
    wanted = {name: of_size(masks.areas, name) for name in SIZES}
    for letter, name in FREQUENCIES.items():
        wanted[name] = np.array([group == letter for group in masks.groups], np.bool_)
    return {
        name: count_recall(overlaps, kept, limit=limit) for name, kept in wanted.items() if name == "all" or kept.any()
    }
