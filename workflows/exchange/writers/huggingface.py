"""Hugging Face: `data/train-*.parquet` with pictures and masks inside, and a card; `load_dataset(FOLDER)` reads them.

The features are stated in the files' metadata, as the `datasets` library does, so that `image` comes back as a picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.exchange.entries import OBJECT
from workflows.exchange.pictures import Picture
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job

_ROWS_TOGETHER = 16  # pictures are large: what a reader and this writer hold at once
_BYTES_TOGETHER = 2**28  # of pictures: of a group of rows with more than 2 GB in a struct, pyarrow reads none

_MASK = pa.struct(
    [
        ("mask_id", pa.string()),
        ("counts", pa.string()),
        ("bbox", pa.list_(pa.int32())),
        ("area", pa.int64()),
        ("category", pa.string()),
        ("predicted_iou", pa.float32()),
        ("stability_score", pa.float32()),
        ("point", pa.list_(pa.float32())),
        ("crop_box", pa.list_(pa.int32())),
        ("stage", pa.string()),
        ("annotator", pa.string()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
    ]
)
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ROW = pa.schema(
    [
        ("image", _PICTURE),
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("licence", pa.string()),
        ("masks", pa.list_(_MASK)),
    ]
)
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
task_categories:
- image-segmentation
---

{images:,} images, {masks:,} masks. `masks[i]["counts"]` are COCO's compressed counts over an image of `height` times
`width` px:

    from pycocotools import mask
    mask.decode({{"size": [row["height"], row["width"]], "counts": row["masks"][0]["counts"]}})
"""


@dataclass(frozen=True, slots=True)
class HuggingFaceWriter:
    """One Parquet file per page, and the card."""

    job: Job

    def is_done(self, page: Page) -> bool:
        return self.job.target.store.exists(self._key(page))

    def write(self, page: Page, images: list[ExportImage]) -> None:
        path = self.job.target.scratch / "part.parquet"
        features = {"info": {"features": {field.name: _feature(field.type) for field in _ROW}}}
        schema = _ROW.with_metadata({"huggingface": json.dumps(features)})
        with pq.ParquetWriter(path, schema, compression="zstd") as file:
            waiting, held = list[dict[str, Any]](), 0
            for image, picture in zip(images, self.job.each_picture(images, self.job.picture), strict=True):
                waiting.append(_row(image, picture))
                held += len(picture.data)
                if len(waiting) == _ROWS_TOGETHER or held >= _BYTES_TOGETHER or image is images[-1]:
                    file.write_table(pa.Table.from_pylist(waiting, schema=schema))
                    waiting, held = [], 0
        self.job.target.put_file(self._key(page), path)

    def finish(self, images: int, masks: int) -> None:
        self.job.target.put("README.md", _CARD.format(images=images, masks=masks).encode())

    def _key(self, page: Page) -> str:
        return f"data/train-{page.number:05d}-of-{self.job.pages:05d}.parquet"


def _row(image: ExportImage, picture: Picture) -> dict[str, Any]:
    said = {name: getattr(image, name) for name in ("image_id", "height", "width", "licence")}
    file = {"bytes": picture.data, "path": f"{image.image_id}{picture.suffix}"}
    return said | {"image": file, "masks": [mask_entry(row) for row in image.masks.to_pylist()]}


def mask_entry(row: dict[str, Any]) -> dict[str, Any]:
    """A mask as both layouts have it."""
    same = {field.name: row[field.name] for field in _MASK if field.name in row}
    crop = None if row["crop_x"] is None else [row[f"crop_{side}"] for side in "xywh"]
    return same | {
        "counts": row["rle"].decode("ascii"),
        "bbox": [row[f"bbox_{side}"] for side in "xywh"],
        "category": row["category"] or OBJECT,
        "point": None if row["point_x"] is None else [row["point_x"], row["point_y"]],
        "crop_box": crop,
    }


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A type as the `datasets` library describes it."""
    if kind == _PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"_type": "Value", "dtype": {"float": "float32"}.get(str(kind), str(kind))}
