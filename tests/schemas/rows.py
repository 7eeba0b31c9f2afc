"""Sound rows of every table, RLEs made by pycocotools, and a data set on disk to put them in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from schemas import ids, layout
from schemas.parquet import to_parquet_bytes
from schemas.records import DatasetRecord, RunRecord, to_json
from schemas.tables import ANNOTATIONS, IMAGES, MASKS, OUTCOMES, PLAN, REJECTION_REASONS, STEPS

RUN = "test-0123456789ab"
START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
NAIVE_START = START.replace(tzinfo=None)


def image(name: str) -> str:
    """The identifier of an image whose bytes are its name."""
    return ids.image_id(name.encode())


def discs(count: int, *, height: int = 40, width: int = 60, seed: int = 0) -> list[NDArray[np.bool_]]:
    """`count` bitmaps bool [height, width], each with a disc somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centres = zip(rng.uniform(0, height, count), rng.uniform(0, width, count), rng.uniform(2, 15, count), strict=True)
    return [np.hypot(y - cy, x - cx) <= radius for cy, cx, radius in centres]


def shape(bitmap: NDArray[np.bool_]) -> dict[str, Any]:
    """Size, RLE, box and area of a bitmap, by pycocotools."""
    rle = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    x, y, w, h = (int(side) for side in coco_mask.toBbox(rle))
    sizes = {"height": bitmap.shape[0], "width": bitmap.shape[1], "area": int(coco_mask.area(rle))}
    return {**sizes, "rle": rle["counts"], "bbox_x": x, "bbox_y": y, "bbox_w": w, "bbox_h": h}


def masks(image_id: str, bitmaps: Sequence[NDArray[np.bool_]], *, run_id: str = RUN) -> pa.Table:
    """One row of MASKS per bitmap."""
    rows = []
    for index, bitmap in enumerate(bitmaps):
        height, width = bitmap.shape
        rows.append(
            shape(bitmap)
            | {"mask_id": ids.mask_id(run_id, image_id, index), "image_id": image_id, "run_id": run_id}
            | {"stage": "automatic", "predicted_iou": 0.9 + index / 1000, "stability_score": 0.96}
            | {"point_x": width / 2, "point_y": height / 2, "model_id": "vit_test-0", "created_at": NAIVE_START}
            | {"crop_x": 0, "crop_y": 0, "crop_w": width, "crop_h": height}
        )
    return pa.Table.from_pylist(rows, schema=MASKS)


def outcomes(counts: Mapping[str, int], *, run_id: str = RUN, shard: int = 0, rejected: int = 5) -> pa.Table:
    """One ok row of OUTCOMES per image, with its number of masks; every step took 0.5 s."""
    common = {"run_id": run_id, "shard": shard, "status": "ok", "host": "here", "worker": "1"}
    common |= {f"rejected_{reason}": 0 for reason in REJECTION_REASONS} | {"rejected_iou": rejected}
    common |= {f"seconds_{step}": 0.5 for step in STEPS} | {"started_at": NAIVE_START, "finished_at": NAIVE_START}
    rows = [common | {"image_id": key, "n_masks": n, "candidates": n + rejected} for key, n in counts.items()]
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def failed(image_id: str, *, status: str = "error", run_id: str = RUN, shard: int = 0) -> pa.Table:
    """A row of OUTCOMES for an image that could not be worked on, which took no time."""
    row = outcomes({image_id: 0}, run_id=run_id, shard=shard, rejected=0).to_pylist()[0]
    row |= {"status": status, "error_class": "TruncatedImage"} | {f"seconds_{step}": 0.0 for step in STEPS}
    return pa.Table.from_pylist([row], schema=OUTCOMES)


def images(places: Sequence[tuple[str, str]], **extra: object) -> pa.Table:
    """One row of IMAGES per (name, uri); the image's bytes are its name."""
    rows = [
        {"image_id": image(name), "uri": uri, "content_sha256": ids.content_hash(name.encode()), "bytes": len(name)}
        | {"format": "png", "height": 40, "width": 60, "exif_orientation": 1, "ingested_at": NAIVE_START}
        | extra
        for name, uri in places
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def plan(shards: Mapping[int, Sequence[str]]) -> pa.Table:
    """One row of PLAN per image name."""
    rows = [{"shard": n, "image_id": image(name), "uri": name} for n, names in shards.items() for name in names]
    return pa.Table.from_pylist(rows, schema=PLAN)


def annotation(mask_id: str, revision: int, bitmap: NDArray[np.bool_], **extra: object) -> pa.Table:
    """One row of ANNOTATIONS."""
    row = shape(bitmap) | {"mask_id": mask_id, "revision": revision, "deleted": False, "image_id": image("a")}
    row |= {"session": "s1", "annotator": "ada", "stage": "assisted_manual", "created_at": NAIVE_START}
    row |= {"clicks": 1, "brushed": 0, "seconds": 3.0}
    return pa.Table.from_pylist([row | extra], schema=ANNOTATIONS)


def run_record(run_id: str = RUN) -> RunRecord:
    """A record such as `generate` writes."""
    return RunRecord(
        run_id=run_id,
        name="test",
        created_at=START,
        stage="automatic",
        round=None,
        model_name="vit_test",
        model_id="vit_test-0",
        model_sha256="0" * 64,
        recipe_name="reference",
        recipe={"points_per_side": 32, "min_predicted_iou": 0.88},
        config={"source": "samples", "limit": None},
        versions={"python": "3.11"},
        seed=0,
        dtype="float32",
        device="cpu",
        kernels="fast",
        host="here",
    )


def put(root: Path, key: str, content: pa.Table | str) -> Path:
    """Write a table or text under a key of a data set."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else to_parquet_bytes(content))
    return path


def new_dataset(root: Path) -> Path:
    """An empty data set in the folder `root`."""
    put(root, layout.DATASET_KEY, to_json(DatasetRecord(name="test", created_at=START)))
    return root


def put_shard(root: Path, shard: int, counts: Mapping[str, int], *, run_id: str = RUN) -> tuple[Path, Path]:
    """Masks and outcomes of one shard: `counts` says how many masks each image name gets."""
    by_id = {image(name): count for name, count in counts.items()}
    rows = [masks(key, discs(count, seed=shard), run_id=run_id) for key, count in by_id.items()]
    table = pa.concat_tables([MASKS.empty_table(), *rows])
    done = outcomes(by_id, run_id=run_id, shard=shard)
    return put(root, layout.masks_key(run_id, shard), table), put(root, layout.outcomes_key(run_id, shard), done)
