"""A grouping of true masks by any column: of a table, of a JSON's annotations or images, or the category."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from schemas.evaluation import PLAN
from workflows.evaluate.truth import TruthSet, open_set
from workflows.named_rows import read_table
from workflows.uris import read_manifest

GroupOf = Callable[[dict[str, Any], dict[str, Any]], str | None]
"""The group of an annotation (second) of an image (first), rows of the plan; None for none."""


def grouped(place: str, by: str, table: str | None, *, image_folder: str | None = None) -> TruthSet:
    """A set with the group of each mask, without images that have none. Raises ValueError when nothing has a group."""
    truth = open_set(place, image_folder=image_folder)
    if truth.rows["annotations"].null_count:
        raise ValueError(f"{place}: masks are grouped where a COCO JSON or a data set lists them one by one")
    numbered = not truth.rows["image_id"].null_count
    if not numbered and not table:
        raise ValueError(f"{place}: a data set knows no {by!r} of its masks; name a table with --table")
    group_of = _from_table(table, by, numbered=numbered) if table else _from_json(truth.place, by)
    rows = []
    for row in truth.rows.to_pylist():
        for annotation in row["annotations"]:
            annotation["group"] = group_of(row, annotation)
        if any(annotation["group"] is not None for annotation in row["annotations"]):
            rows.append(row)
    if not rows:
        raise ValueError(f"{table or place}: no mask has a value of {by!r}")
    return TruthSet(truth.name, truth.place, pa.Table.from_pylist(rows, PLAN))


def _from_table(path: str, by: str, *, numbered: bool) -> GroupOf:
    """numbered: whether annotations bear ids of their own, as in a COCO JSON; those of a data set are counted."""
    table = read_table(path)
    key = next((name for name in ("annotation_id", "file_name") if name in table.column_names), None)
    if key is None or by not in table.column_names:
        raise ValueError(
            f"{path}: needs the columns {by!r} and 'annotation_id' or 'file_name'; "
            f"the columns are {', '.join(table.column_names)}"
        )
    if key == "annotation_id" and not numbered:
        raise ValueError(f"{path}: a data set knows no annotation_id; say by file_name whose {by!r} it is")
    known: dict[str, str | None] = {}
    for name, value in zip(table[key].to_pylist(), map(_text, table[by].to_pylist()), strict=True):
        if name is not None and known.setdefault(str(name), value) != value:
            raise ValueError(f"{path}: {key} {name} has several values of {by!r}; one line for each is needed")
    if key == "annotation_id":
        return lambda row, annotation: known.get(str(annotation["id"]))
    return lambda row, annotation: known.get(row["name"], known.get(_file_name(row)))


def _file_name(row: dict[str, Any]) -> str:
    """Of an image of a data set, whose name may lack its ending."""
    ending = PurePosixPath(row["uris"][0]).suffix
    return f"{str(row['name']).removesuffix(ending)}{ending}"


def _from_json(place: str, by: str) -> GroupOf:
    """A field of the annotation, else of its image; `category` is the category's name."""
    path = place if place.endswith(".json") else f"{place.rstrip('/')}/instances.json"
    document = json.loads(read_manifest(path))
    if by == "category":
        names = {category["id"]: category["name"] for category in document.get("categories", ())}
        return lambda row, annotation: names.get(annotation["category"])
    of_annotation = {entry["id"]: _text(entry.get(by)) for entry in document["annotations"]}
    of_image = {entry["id"]: _text(entry.get(by)) for entry in document["images"]}
    return lambda row, annotation: of_annotation.get(annotation["id"]) or of_image.get(row["image_id"])


def _text(value: object) -> str | None:
    """A label; None where there is none: an empty cell, or what tables write for one."""
    unknown = value is None or value != value or not str(value).strip()
    return None if unknown else str(value)
