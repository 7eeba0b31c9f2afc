"""Ten thousand real masks in every export format, read back by the format's own reader, mask for mask.

    python -m tests.benchmarks.exchange SAMPLE_DATA [--json FILE]

SAMPLE_DATA holds bbbc038 (label PNGs of nuclei, taken as a run's masks, with made-up scores) and coco128 (polygons of
people). Both are imported into one data set, exported in each format, and compared with its tables, decoded pixels
included. SA-1B is also imported again. A mask that differs ends the command.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tyro
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tyro.conf import Positional

from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.refusals import refusals
from workflows.cli import main as engine
from workflows.sql import connect

Found = tuple[int, int, bytes]
"""Height, width and compressed counts of a mask."""


FORMATS = ("sa1b", "coco", "lvis", "huggingface", "imagefolder", "webdataset", "labels")


@dataclass(frozen=True, slots=True)
class Options:
    """Exports ten thousand masks in every format and reads them back."""

    data: Positional[Path]
    """Folder with bbbc038 and coco128."""
    images: int | None = None
    """At most so many images of nuclei."""
    json: Path | None = None
    """Where to write the record."""
    formats: tuple[str, ...] = FORMATS
    """Which formats."""


def nuclei_document(folder: Path, limit: int | None) -> dict[str, Any]:
    """COCO with the nuclei of bbbc038 as a model's masks would be: RLE, scores, a point on each."""
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    for number, path in enumerate(sorted((folder / "images").iterdir())[:limit], start=1):
        labels = np.asarray(Image.open(folder / "labels" / f"{path.stem}.png"))
        height, width = labels.shape
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        for label in np.unique(labels[labels > 0]):
            found = coco_mask.encode(np.asfortranarray((labels == label).astype(np.uint8)))
            y, x = (int(place[0]) for place in np.nonzero(labels == label))
            scores = {"predicted_iou": float(rng.uniform(0.8, 1.02)), "stability_score": float(rng.uniform(0.9, 1))}
            masks.append(
                {"id": len(masks) + 1, "image_id": number, "category_id": 1, "bbox": coco_mask.toBbox(found).tolist()}
                | {"segmentation": {"size": [height, width], "counts": found["counts"].decode()}, "area": 1}
                | {"stage": "automatic", "point_coords": [[x + 0.5, y + 0.5]], **scores}
            )
    return {"images": images, "annotations": masks, "categories": [{"id": 1, "name": "nucleus"}]}


def prepare(options: Options, folder: Path) -> Path:
    """The data set of both imports."""
    data, nuclei = folder / "data", options.data / "bbbc038"
    source = folder / "nuclei.json"
    source.write_text(json.dumps(nuclei_document(nuclei, options.images)))
    _run("import", source, data, "--image-folder", nuclei / "images")
    _run("import", options.data / "coco128" / "instances.json", data, "--annotator", "coco")
    return data


def truth(data: Path, tables: tuple[str, ...]) -> dict[str, Found]:
    """Every mask of some tables by its identifier."""
    sql = " UNION ALL ".join(f"SELECT mask_id, height, width, rle FROM {table}" for table in tables)
    rows = connect(str(data)).sql(f"{sql} ORDER BY 1").fetchall()
    return {mask_id: (height, width, rle) for mask_id, height, width, rle in rows}


def read_sa1b(out: Path) -> Iterator[tuple[str | None, Found]]:
    """As the released README says: the documents in the order of their numbers, without identifiers."""
    for path in sorted(out.glob("*.json"), key=lambda path: int(path.stem[3:])):
        for mask in json.loads(path.read_text())["annotations"]:
            yield None, _found(mask["segmentation"])


def read_coco(out: Path) -> Iterator[tuple[str | None, Found]]:
    read = COCO(str(out / "instances.json"))
    for mask in read.anns.values():
        yield mask["mask_id"], _found(read.annToRLE(mask))


def read_lvis(out: Path) -> Iterator[tuple[str | None, Found]]:
    import lvis

    read = lvis.LVIS(str(out / "lvis.json"))
    for mask in read.anns.values():
        yield mask["mask_id"], _found(read.ann_to_rle(mask))


def read_huggingface(out: Path) -> Iterator[tuple[str | None, Found]]:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        for row in datasets.load_dataset(str(out), split="train", cache_dir=cache):
            assert row["image"].size == (row["width"], row["height"])
            for mask in row["masks"]:
                yield mask["mask_id"], (row["height"], row["width"], mask["counts"].encode())


def read_imagefolder(out: Path) -> Iterator[tuple[str | None, Found]]:
    return read_huggingface(out)  # `load_dataset` sees which layout it is


def read_webdataset(out: Path) -> Iterator[tuple[str | None, Found]]:
    import webdataset

    for sample in webdataset.WebDataset(sorted(map(str, out.glob("*.tar"))), shardshuffle=False).decode("pil"):
        picture = next(sample[kind] for kind in ("jpg", "png") if kind in sample)
        for mask in sample["json"]["annotations"]:
            assert picture.size[::-1] == tuple(mask["segmentation"]["size"])
            yield mask["mask_id"], _found(mask["segmentation"])


def read_labels(out: Path) -> Iterator[tuple[str | None, Found]]:
    for path in sorted((out / "masks").iterdir()):
        layers: dict[str, npt.NDArray[np.integer]] = {}
        for row in csv.DictReader(path.open()):
            folder = "labels" if row["layer"] == "1" else f"labels-{row['layer']}"
            labels = layers.setdefault(row["layer"], np.asarray(Image.open(out / folder / f"{path.stem}.png")))
            yield row["mask_id"], _encoded(labels == int(row["label"]))


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str | None, Found]]]] = {
    "sa1b": read_sa1b,
    "coco": read_coco,
    "lvis": read_lvis,
    "huggingface": read_huggingface,
    "imagefolder": read_imagefolder,
    "webdataset": read_webdataset,
    "labels": read_labels,
}


def compare(found: Iterator[tuple[str | None, Found]], expected: dict[str, Found]) -> int:
    """How many masks were read, all of them equal. Raises ValueError at the first that is not."""
    waiting = dict(expected)
    in_order = iter(list(expected))
    for name, mask in found:
        key = next(in_order) if name is None else name
        if not _same(waiting.pop(key), mask):
            raise ValueError(f"mask {key} came back changed")
    if waiting:
        raise ValueError(f"{len(waiting)} masks did not come back")
    return len(expected)


def measure(kind: str, data: Path, folder: Path) -> dict[str, Any]:
    """One format: seconds to write and to read, bytes, masks."""
    scored = kind == "sa1b"
    expected = truth(data, ("masks",) if scored else ("masks", "annotations"))
    out = folder / kind
    start = time.perf_counter()
    _run("export", f"{data}@masks" if scored else data, out, "--format", kind)
    wrote = time.perf_counter()
    masks = compare(READERS[kind](out), expected)
    record = {"masks": masks, "export_seconds": wrote - start, "read_seconds": time.perf_counter() - wrote}
    record["bytes"] = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if scored:
        _run("import", out, folder / "again")
        columns = "rle, area, predicted_iou, stability_score, point_x, point_y, crop_w, crop_h"
        pair = [
            connect(str(place)).sql(f"SELECT {columns} FROM masks ORDER BY ALL").fetchall()
            for place in (data, folder / "again")
        ]
        if pair[0] != pair[1]:
            raise ValueError("SA-1B did not come back equal into a data set")
        record["imported_again"] = len(pair[1])
    return record


def run(options: Options) -> dict[str, Any]:
    """Measures, prints and stores. Raises ValueError when a mask comes back changed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = prepare(options, folder)
        formats = {}
        for kind in options.formats:
            formats[kind] = measure(kind, data, folder)
            print(kind, {name: round(value, 2) for name, value in formats[kind].items()})
    record = {"formats": formats, "config": {"images": options.images}, **environment_fields()}
    if options.json:
        write_json(options.json, record)
    return record


def _run(*arguments: object) -> None:
    if engine([str(argument) for argument in arguments]):
        raise ValueError(f"sam-engine {arguments[0]} did not do all of it")


def _found(segmentation: Mapping[str, Any]) -> Found:
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    return height, width, counts if isinstance(counts, bytes) else counts.encode()


def _encoded(mask: np.ndarray) -> Found:
    return _found(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))


def _same(one: Found, other: Found) -> bool:
    """Decoded by pycocotools, pixel for pixel."""
    sizes = one[:2] == other[:2]
    return sizes and np.array_equal(*(coco_mask.decode({"size": list(m[:2]), "counts": m[2]}) for m in (one, other)))


def main() -> None:
    with refusals():
        run(tyro.cli(Options))


if __name__ == "__main__":
    main()
