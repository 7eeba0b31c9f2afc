"""Masks of others as rows: of MASKS and OUTCOMES where a model made them, of ANNOTATIONS where people did.

Areas and boxes are those of the RLE, whatever the source says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.masks.batch import Generation, MaskRecords, Rejections, StepSeconds
from schemas.ids import content_hash, mask_id
from schemas.rle import measure
from schemas.tables import ANNOTATIONS, EVENTS, Stage, Status, as_stored
from schemas.validate import check_annotations
from workflows.convert import ImageResult
from workflows.exchange.readers import IncomingImage, IncomingMask
from workflows.exchange.selection import IMPORT_ACTION
from workflows.redact import redact

EVENTS_PER_SHARD = 10_000_000
BEGUN_PART = 99_999_999
"""The part of an import's events that says that it has begun; those of its shards never get that far."""
_SAFE_KEY = re.compile(r"[A-Za-z0-9._-]{1,100}").fullmatch
_AUTOMATIC_NEEDS = ("predicted_iou", "stability_score", "point_coords")


@dataclass(frozen=True, slots=True)
class Rules:
    """What all masks of an import have in common.

    source       name of the source, which names its masks
    stage        of every mask; None for what the source states, else `default`
    annotator    of human masks whose source names nobody
    now          UTC without a zone, of masks whose source states no time
    """

    source: str
    session: str
    stage: Stage | None
    default: Stage
    annotator: str
    now: datetime

    @property
    def is_automatic(self) -> bool:
        """Whether masks are a model's unless the source says otherwise."""
        return (self.stage or self.default) == Stage.AUTOMATIC

    def stage_of(self, mask: IncomingMask) -> Stage:
        """Raises ValueError when the source states one that is none."""
        if self.stage is not None:
            return self.stage
        try:
            return Stage(mask.origin.stage) if mask.origin.stage else self.default
        except ValueError as error:
            raise ValueError(f"its stage {mask.origin.stage!r} is none of {', '.join(Stage)}") from error


@dataclass(frozen=True, slots=True)
class Taken:
    """One image: masks that can be rows, with their stages, sizes and boxes xywh; a line for each that cannot, and
    whether the source says that these are all."""

    image_id: str
    size: tuple[int, int]
    masks: tuple[IncomingMask, ...]
    stages: tuple[Stage, ...]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]
    refused: tuple[str, ...]
    is_all: bool

    def of(self, automatic: bool) -> list[int]:
        """Positions of the masks that models made, or of those that people made."""
        return [index for index, stage in enumerate(self.stages) if (stage == Stage.AUTOMATIC) == automatic]


def take(image_id: str, place: str, found: IncomingImage, rules: Rules) -> Taken:
    """Sort out what can be rows. `place` is where the picture lies."""
    refused, kept, stages = list(found.refused), list[int](), list[Stage]()
    size, count = (found.height, found.width), len(found.masks)
    measured = measure(pa.array([mask.rle for mask in found.masks], pa.binary()), np.full(count, size[0], np.int64))
    named = set[str]()
    for index, mask in enumerate(found.masks):
        try:
            stage = rules.stage_of(mask)
            _require(mask, int(measured.areas[index]), stage)
            if stage != Stage.AUTOMATIC and mask.key in named:
                raise ValueError("has the id of one before it on the same picture")
        except ValueError as error:
            refused.append(f"{place}: mask {mask.key}: {error}")
            continue
        named.add(mask.key)
        kept.append(index)
        stages.append(stage)
    masks = tuple(found.masks[index] for index in kept)
    areas, boxes = measured.areas[kept], measured.boxes[kept]
    return Taken(image_id, size, masks, tuple(stages), areas, boxes, tuple(refused), found.is_all)


def automatic_result(taken: Taken, now: datetime) -> ImageResult:
    """The image as a generator would have left it; it is done, also without masks."""
    chosen = taken.of(automatic=True)
    origins = [taken.masks[index].origin for index in chosen]
    whole = (0.0, 0.0, float(taken.size[1]), float(taken.size[0]))
    records = MaskRecords(
        size=taken.size,
        rle=tuple(taken.masks[index].rle for index in chosen),
        boxes=taken.boxes[chosen],
        areas=taken.areas[chosen],
        predicted_iou=np.array([origin.predicted_iou for origin in origins], np.float32),
        stability_score=np.array([origin.stability_score for origin in origins], np.float32),
        points=np.array([(origin.point_coords or [(0, 0)])[0] for origin in origins], np.float32).reshape(-1, 2),
        crop_boxes=np.array([origin.crop_box or whole for origin in origins], np.float64)
        .astype(np.int32)
        .reshape(-1, 4),
    )
    made = Generation(records, Rejections.none(), StepSeconds())
    return ImageResult(taken.image_id, Status.OK, now, now, generation=made)


def annotation_rows(taken: Taken, rules: Rules) -> pa.Table:
    """Rows of ANNOTATIONS for the masks that people made. Raises RowError when one breaks a rule."""
    rows = [_annotation(taken, index, rules) for index in taken.of(automatic=False)]
    table = pa.Table.from_pylist(rows, schema=ANNOTATIONS)
    if rows:
        check_annotations(table)
    return table


def event_rows(
    images: Sequence[Taken],
    rules: Rules,
    run_id: str | None,
    shard: int,
    *,
    refused: Mapping[str, Sequence[str]],
    unread: Sequence[str] = (),
) -> pa.Table:
    """One row of EVENTS per image and per mask: what the source says that no column holds; and one for each image of
    which nothing was taken. `refused` has, by image_id, lines about what was left out, `unread` the images whose
    document could not be read."""
    said: list[dict[str, object]] = []
    whose = Stage.AUTOMATIC if run_id else rules.stage or rules.default

    def note(image_id: str, **more: object) -> None:
        left_out = [redact(line) for line in refused.get(image_id, ())]
        noted = {"source": redact(rules.source), "left_out": left_out} | more
        said.append(_event(image_id, None, whose, rules.annotator, noted))

    for taken in images:
        is_empty = taken.is_all and not taken.masks and not taken.refused
        note(taken.image_id, masks=len(taken.masks), **({"empty": True} if is_empty else {}))
        ids = _ids(taken, rules, run_id)
        for mask, stage, name in zip(taken.masks, taken.stages, ids, strict=True):
            said.append(_event(taken.image_id, name, stage, mask.origin.annotator or rules.annotator, mask.details))
    for image_id in sorted((refused.keys() | set(unread)) - {taken.image_id for taken in images}):
        note(image_id, **({"unread": True} if image_id in unread else {}))
    return _events(said, rules, shard)


def begun_rows(rules: Rules) -> pa.Table:
    """The row of EVENTS by which an import is known of which no shard is committed yet."""
    noted = {"source": redact(rules.source), "begun": True}
    event = _event(None, None, rules.default, rules.annotator, noted)
    return _events([event], rules, BEGUN_PART - 1)


def _events(said: Sequence[dict[str, object]], rules: Rules, shard: int) -> pa.Table:
    """Rows of EVENTS of a shard."""
    first = shard * EVENTS_PER_SHARD + 1
    common = {"session": rules.session, "active": 0.0, "happened_at": rules.now, "action": IMPORT_ACTION}
    rows = [row | common | {"sequence": first + index} for index, row in enumerate(said)]
    return pa.Table.from_pylist(rows, schema=EVENTS)


def _ids(taken: Taken, rules: Rules, run_id: str | None) -> list[str]:
    """The mask_id of each mask, as its table has it."""
    names = [_human_id(rules, taken.image_id, mask) for mask in taken.masks]
    for number, index in enumerate(taken.of(automatic=True)):
        assert run_id is not None
        names[index] = mask_id(run_id, taken.image_id, number)
    return names


def _human_id(rules: Rules, image_id: str, mask: IncomingMask) -> str:
    """The same mask of the same picture and source has the same name, so that a corrected source replaces it."""
    key = mask.key if _SAFE_KEY(mask.key) else content_hash(mask.key.encode())[:16]
    return id_prefix(rules, image_id) + key


def id_prefix(rules: Rules, image_id: str) -> str:
    """What the names of all masks begin with that a source has of a picture; many count those of each picture anew."""
    return f"import-{content_hash(f'{rules.source} {image_id}'.encode())[:12]}."


def _require(mask: IncomingMask, area: int, stage: Stage) -> None:
    if not area:
        raise ValueError("has no pixels")
    lacking = [name for name in _AUTOMATIC_NEEDS if getattr(mask.origin, name) in (None, ())]
    if stage == Stage.AUTOMATIC and lacking:
        raise ValueError(f"an automatic mask needs {', '.join(lacking)}; --stage assisted-manual takes it as it is")


def _annotation(taken: Taken, index: int, rules: Rules) -> dict[str, object]:
    mask = taken.masks[index]
    origin = mask.origin
    x, y, w, h = taken.boxes[index].tolist()
    point = origin.point_coords[0] if origin.point_coords else (None, None)
    return {
        "mask_id": _human_id(rules, taken.image_id, mask),
        "revision": 1,
        "deleted": False,
        "image_id": taken.image_id,
        "session": rules.session,
        "annotator": origin.annotator or rules.annotator,
        "stage": taken.stages[index],
        "model_id": origin.model_id,
        "height": taken.size[0],
        "width": taken.size[1],
        "rle": mask.rle,
        "bbox_x": x,
        "bbox_y": y,
        "bbox_w": w,
        "bbox_h": h,
        "area": int(taken.areas[index]),
        "predicted_iou": origin.predicted_iou,
        "stability_score": origin.stability_score,
        "point_x": point[0],
        "point_y": point[1],
        "clicks": 0,
        "brushed": 0,
        "seconds": 0.0,
        "created_at": as_stored(mask.created_at) if mask.created_at else rules.now,
    }


def _event(
    image: str | None, mask: str | None, stage: Stage, who: str, details: Mapping[str, object]
) -> dict[str, object]:
    text = json.dumps(dict(details), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace").decode()
    return {"annotator": who, "image_id": image, "mask_id": mask, "stage": stage, "details": text}
