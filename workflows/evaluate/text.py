"""Task `text`: masks of phrases, with and without a click, beside prompts that know nothing and CLIP's own choice.

The paper shows text prompts and measures none (§7.5). The rivals are: another phrase of the set, a click somewhere, the
largest automatic mask, and the automatic mask whose crop CLIP finds nearest to the phrase, among all of them or among
those that hold the click. The CLIP embedding of the true mask's crop stands in for a text that says everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from sam_core.clip_masks import embed_masks, nearness
from sam_core.generator import MaskGenerator
from sam_core.masks import rle
from sam_core.metrics.bootstrap import mean_interval
from sam_core.metrics.clicks import Clicks, DeepestClicks, RandomClicks
from sam_core.metrics.iou import iou_matrix
from sam_core.metrics.text_prompts import Phrases, Way, WayScores, score_clicks, score_phrases
from sam_core.phrases import embed_phrases
from sam_core.predict import encode
from sam_core.recipes import recipe, recommended_recipe
from schemas.evaluation import TEXT_ROWS
from workflows.evaluate.captions import captioned
from workflows.evaluate.commands import TextConfig
from workflows.evaluate.sampling import draw_from_all
from workflows.evaluate.task import Bench, Figure, by_set, rng_of
from workflows.evaluate.truth import TrueMasks, read_image, read_masks, require_size

HIT = 0.5
_DIFFERENCES = (
    (Way.TEXT, (Way.RANKED,), "above CLIP ranking"),
    (Way.TEXT_POINT, (Way.RANKED_POINT,), "above CLIP ranking"),
    (Way.TEXT_POINT, (Way.POINT, Way.RIVAL_POINT), "above the point"),
    (Way.TEXT, (Way.IMAGE,), "above image embedding"),
)
"""A way, what it is compared with (the best of them), and what the difference is called."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Text:
    """mIoU and P@0.5 by split and by way."""

    config: TextConfig

    needs_model = True
    schema = TEXT_ROWS

    def plan(self) -> pa.Table:
        config = self.config
        sets = [captioned(place, image_folder=config.image_folder, seed=config.seed) for place in config.data]
        return draw_from_all(sets, seed=config.seed, limit=config.limit)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        masks = read_masks(row, bench.reader)
        named = [phrase for phrase in row["phrases"] if rle.area(masks.rles[phrase["annotation"]])]
        if not named:
            return []
        image = read_image(row, bench.reader, max_pixels=bench.max_pixels)
        require_size(image, masks)
        asked = _ask(row, named, image, masks, bench, self.config)
        with torch.inference_mode():
            scores = score_phrases(bench.model, encode(bench.model, [image]), asked.phrases)
            if bench.rival:
                scores.append(score_clicks(bench.rival, encode(bench.rival, [image]), asked.phrases))
        if self.config.automatic:
            scores += list(_rivals(image, masks, asked, bench))
        return [
            {
                "set": row["set"],
                "name": row["name"],
                "annotation": int(masks.ids[phrase["annotation"]]),
                "split": phrase["split"],
                "text": phrase["text"],
                "truncated": asked.truncated[n],
                "ambiguous": bool(asked.ambiguous[n]),
                "area": float(masks.areas[phrase["annotation"]]),
                "way": score.way.value,
                "iou": float(score.iou[n]),
            }
            for score in scores
            for n, phrase in enumerate(named)
            if phrase["other"] is not None or score.way not in (Way.OTHER_TEXT, Way.OTHER_TEXT_POINT)
        ]

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        found: list[Figure] = []
        for name, part in by_set(rows).items():
            found += _part_figures(name, part, self.config)
            splits = pc.unique(part["split"]).to_pylist()
            for split in sorted(split for split in splits if split is not None and len(splits) > 1):
                found += _part_figures(f"{name}, {split}", part.filter(pc.equal(part["split"], split)), self.config)
            unclear = part.filter(part["ambiguous"])
            if len(unclear):
                found += _part_figures(f"{name}, ambiguous clicks", unclear, self.config)
        return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """The phrases of an image, places of their masks, and which were cut off or have a click on several masks."""

    phrases: Phrases
    places: NDArray[np.int64]
    truncated: tuple[bool, ...]
    ambiguous: NDArray[np.bool_]


def _ask(
    row: Mapping[str, Any],
    named: list[dict[str, Any]],
    image: NDArray[np.uint8],
    masks: TrueMasks,
    bench: Bench,
    config: TextConfig,
) -> _Asked:
    places = np.array([phrase["annotation"] for phrase in named], np.int64)
    truth = masks.at(places).packed
    rng = rng_of(config.seed, row["set"], row["name"], "clicks")
    clicker = RandomClicks(rng) if config.first_click == "random" else DeepestClicks()
    clicks = clicker.first(truth)
    embedded = embed_phrases(bench.words, [phrase["text"] for phrase in named], config.templates)
    others = [phrase["other"] or phrase["text"] for phrase in named]
    height, width = masks.size
    phrases = Phrases(
        truth=truth,
        text=embedded.vectors,
        other=embed_phrases(bench.words, others, config.templates).vectors,
        crop=embed_masks(bench.words, image, [masks.rles[place] for place in places]),
        click=torch.from_numpy(clicks.xy),
        random=torch.from_numpy((rng.random((len(named), 2)) * [width, height]).astype(np.float32)),
    )
    return _Asked(phrases, places, embedded.truncated, _ambiguous(clicks, masks))


def _ambiguous(clicks: Clicks, masks: TrueMasks) -> NDArray[np.bool_]:
    """Whether a click lies in more than one true mask; the same pixels twice are one mask, crowds are none.

    One mask is unpacked at a time: an image may have hundreds that nobody asks for.
    """
    x, y = clicks.xy.astype(np.int64).T
    hits = np.zeros(len(x), np.int64)
    for place, counts in enumerate(masks.rles):
        if masks.rles.index(counts) == place and not masks.crowd[place]:
            hits += rle.decode(counts, masks.size)[y, x]
    return hits > 1


def _rivals(image: NDArray[np.uint8], masks: TrueMasks, asked: _Asked, bench: Bench) -> Iterator[WayScores]:
    """What the automatic masks of an image offer, by CLIP or without it; 0 where there is none to choose."""
    sam = bench.rival or bench.model
    generator = MaskGenerator(sam, recipe(recommended_recipe(sam.config.name)), threads=bench.threads)
    found = generator.generate(image).masks
    iou = iou_matrix([masks.rles[place] for place in asked.places], found.rle, found.size)
    near = nearness(embed_masks(bench.words, image, found.rle), asked.phrases.text).numpy()
    x, y = asked.phrases.click.numpy().astype(np.int64).T
    holds = np.array([rle.decode(counts, found.size)[y, x] for counts in found.rle], np.bool_).reshape(-1, len(x)).T
    everywhere = np.ones_like(holds)
    yield WayScores(Way.LARGEST, _chosen(iou, np.broadcast_to(found.areas, iou.shape), everywhere))
    yield WayScores(Way.RANKED, _chosen(iou, near, everywhere))
    yield WayScores(Way.RANKED_POINT, _chosen(iou, near, holds))
    yield WayScores(Way.AUTOMATIC_BEST, _chosen(iou, iou, everywhere))


def _chosen(iou: Floats, rank: NDArray[Any], allowed: NDArray[np.bool_]) -> Floats:
    """IoU [N] of the allowed candidate that ranks highest, all [N, K]; 0 where none is allowed."""
    if not iou.shape[1]:
        return np.zeros(len(iou))
    best = np.where(allowed, rank, -np.inf).argmax(1)
    each = np.arange(len(iou))
    return np.asarray(np.where(allowed[each, best], iou[each, best], 0.0), np.float64)


def _part_figures(row: str, rows: pa.Table, config: TextConfig) -> list[Figure]:
    """Means by way over the phrases of a part, and how far the text is above its rivals."""
    found, means = [], {}
    for way in Way:
        part = rows.filter(pc.equal(rows["way"], way.value))
        if not len(part):
            continue
        iou = part["iou"].to_numpy()
        images = np.unique(np.array(part["name"].to_pylist(), object), return_inverse=True)[1]
        rng = rng_of(config.seed, row, way.value)
        around = mean_interval(iou, images, rng, draws=config.draws)
        means[way] = around.mean
        name = f"{row}: {way.value}"
        found.append(Figure(name, "mIoU", around.mean, low=around.low, high=around.high))
        found.append(Figure(name, "P@0.5", float((iou > HIT).mean())))
        found.append(Figure(name, "phrases", len(part), "count"))
    for way, others, figure in _DIFFERENCES:
        against = [means[other] for other in others if other in means]
        if way in means and against:
            found.append(Figure(f"{row}: {way.value}", figure, 100 * (means[way] - max(against)), "points"))
    return found
