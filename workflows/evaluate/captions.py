"""Captioned sets: COCO JSON whose annotations are named in words, as rows of the plan of `evaluate text`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import captions
from schemas.evaluation import CAPTIONED_PLAN
from workflows.evaluate.task import rng_of
from workflows.evaluate.truth import TruthSet, open_set
from workflows.uris import read_manifest


def captioned(place: str, *, image_folder: str | None, seed: int) -> TruthSet:
    """A set with its phrases, without images that have none; another phrase is drawn beside each.

    Raises ValueError or OSError (one line) when there is none to be read, or no annotation has a caption.
    """
    truth = open_set(place, image_folder=image_folder)
    if truth.rows["annotations"].null_count or truth.rows["image_id"].null_count:
        raise ValueError(
            f"{truth.place}: no captions; evaluate text wants a COCO JSON whose annotations have `caption`"
        )
    path = truth.place if truth.place.endswith(".json") else f"{truth.place.rstrip('/')}/instances.json"
    known = captions.from_json(read_manifest(path), where=path)
    rows = [row | {"phrases": list(_phrases(row, known))} for row in truth.rows.to_pylist()]
    rows = [row for row in rows if row["phrases"]]
    if not rows:
        raise ValueError(f"{path}: no annotation has a `caption` or `phrase`")
    _draw_others(rows, rng_of(seed, truth.name, "others"))
    return TruthSet(truth.name, truth.place, pa.Table.from_pylist(rows, CAPTIONED_PLAN))


def _phrases(row: Mapping[str, Any], known: Mapping[int, captions.Caption]) -> Iterator[dict[str, Any]]:
    """The phrases of an image, each with the place of its annotation; crowds are no single masks."""
    for place, annotation in enumerate(row["annotations"]):
        caption = None if annotation["crowd"] else known.get(annotation["id"])
        for text in caption.texts if caption else ():
            yield {"annotation": place, "text": text, "split": caption.split if caption else None, "other": None}


def _draw_others(rows: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """Beside each phrase one of the set that is none of its mask's own; none where there is no such phrase."""
    texts = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    place_of = {text: place for place, text in enumerate(texts)}
    for row in rows:
        own: dict[int, set[str]] = defaultdict(set)
        for phrase in row["phrases"]:
            own[phrase["annotation"]].add(phrase["text"])
        for phrase in row["phrases"]:
            known = own[phrase["annotation"]]
            while len(known) < len(texts) and (phrase["other"] is None or phrase["other"] in known):
                step = int(rng.integers(1, len(texts)))
                phrase["other"] = texts[(place_of[phrase["text"]] + step) % len(texts)]
