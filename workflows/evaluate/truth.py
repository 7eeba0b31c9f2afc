"""Images with true masks: COCO and LVIS JSON, label PNGs, SA-1B JSON, BSDS500 and data sets, as rows of one plan.

What a row holds or names, and which masks it stands for:

- COCO and LVIS JSON: every annotation, crowds marked as such, areas as annotated; LVIS names pictures by `coco_url`.
- Label PNGs, SA-1B JSON, data sets of this program: every id, annotation or mask.
- BSDS500: the regions of the FIRST person of each image. People cut an image at different levels, so all of them would
  ask for several answers to one click. Edges are measured against everybody's boundaries.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.io
from numpy.typing import NDArray

from sam_core.masks import rle
from sam_core.masks.packed import PackedMasks
from schemas import coco, sa1b
from schemas.evaluation import PLAN
from workflows.image_limits import MAX_PIXELS
from workflows.images import decode
from workflows.labels import decode_labels
from workflows.originals import read_original
from workflows.sources import list_images
from workflows.storage import S3_SCHEME, open_store
from workflows.train.file_rows import coco_rle
from workflows.train.sources import open_sources
from workflows.uris import UriReader, read_manifest

_BSDS = "ground_truth"


@dataclass(frozen=True, slots=True)
class TrueMasks:
    """The N true masks of an image of `size` (height, width).

    rles: COCO compressed counts. ids int64 [N]; areas float64 [N] px, as annotated; categories int64 [N]; crowd bool
    [N]; groups: a name or None for each.
    """

    size: tuple[int, int]
    rles: tuple[bytes, ...]
    ids: NDArray[np.int64]
    areas: NDArray[np.float64]
    categories: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    groups: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.rles)

    def at(self, kept: NDArray[np.int64]) -> TrueMasks:
        """Those at these places only."""
        return TrueMasks(
            self.size,
            tuple(self.rles[place] for place in kept),
            self.ids[kept],
            self.areas[kept],
            self.categories[kept],
            self.crowd[kept],
            tuple(self.groups[place] for place in kept),
        )

    @property
    def packed(self) -> PackedMasks:
        """The masks alone, without what is said of them."""
        return PackedMasks(self.size, self.rles)


@dataclass(frozen=True, slots=True)
class TruthSet:
    """A data set: its name and place, and a row of schemas.evaluation.PLAN per image, in a fixed order."""

    name: str
    place: str
    rows: pa.Table


def open_set(text: str, *, image_folder: str | None = None, split: str = "val") -> TruthSet:
    """The set at a place, or NAME=PLACE. Raises ValueError or OSError (one line) when there is none to be read.

    split: which part of BSDS500.
    """
    name, place = _named(text)
    found = [row | {"set": name} for row in _rows(place, image_folder, split)]
    try:
        rows = pa.Table.from_pylist(found, PLAN)
    except OverflowError as error:
        raise ValueError(f"{place}: an id has more than 64 bits; number images and annotations") from error
    if not len(rows):
        raise ValueError(f"{place}: no images with true masks")
    return TruthSet(name, place, rows)


def read_image(row: Mapping[str, Any], reader: UriReader, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] of a row. Raises ImageError, StoreError when a store is at fault."""
    return decode(read_file(row, reader), max_pixels=max_pixels)


def read_file(row: Mapping[str, Any], reader: UriReader) -> bytes:
    """The picture of a row as it lies there. Raises ImageError, StoreError."""
    return read_original(reader, row["uris"], row["picture"])


def read_masks(row: Mapping[str, Any], reader: UriReader) -> TrueMasks:
    """All true masks of a row; annotations may cover no pixel. Raises ValueError for a damaged file."""
    if row["truth_uri"] is None:
        return _from_annotations((row["height"], row["width"]), row["annotations"])
    data = reader.read(row["truth_uri"])
    if row["truth_uri"].endswith(".json"):
        document = sa1b.from_json(data, where=row["truth_uri"])
        size = (document.image.height, document.image.width)
        return _plain(size, sa1b.rles_of(document, where=row["truth_uri"]))
    labels = _first_regions(data) if row["truth_uri"].endswith(".mat") else decode_labels(data, row["truth_uri"])
    regions = rle.encode_labels(labels)
    return replace(_plain(labels.shape, list(regions.values())), ids=np.array(list(regions), np.int64))


def read_boundaries(row: Mapping[str, Any], reader: UriReader) -> list[NDArray[np.bool_]]:
    """Every person's boundaries of a row of BSDS500, bool [H, W] each. Raises ValueError for other rows."""
    if not str(row["truth_uri"]).endswith(".mat"):
        raise ValueError(f"{row['name']}: no boundaries; edges are measured on BSDS500 (ground_truth/*.mat)")
    people = _people(reader.read(row["truth_uri"]))
    return [person["Boundaries"][0, 0].astype(np.bool_) for person in people]


def require_size(image: NDArray[np.uint8], masks: TrueMasks) -> None:
    """Raise ValueError when the masks belong to an image of another size."""
    if image.shape[:2] != masks.size:
        (h, w), (mask_h, mask_w) = image.shape[:2], masks.size
        raise ValueError(f"masks of {mask_w}x{mask_h} px for an image of {w}x{h} px")


def _named(text: str) -> tuple[str, str]:
    """NAME=PLACE, or a place, whose last part without its ending is the name."""
    name, equals, place = text.partition("=")
    if equals and "/" not in name and not Path(text).exists():
        return name, place
    last = PurePosixPath(text if text.startswith(S3_SCHEME) else Path(text).resolve()).name
    return last.partition("@")[0].removesuffix(".json"), text


def _rows(place: str, image_folder: str | None, split: str) -> Iterator[dict[str, Any]]:
    if place.endswith(".json"):
        return _json(place, image_folder)
    if place.startswith(S3_SCHEME) or Path(place).is_dir():
        store = open_store(place)
        if store.exists("instances.json"):
            return _json(f"{store.root}/instances.json", image_folder)
        if next(store.list(_BSDS), None):
            return _bsds(place, split)
    return _source(place)


def _json(place: str, image_folder: str | None) -> Iterator[dict[str, Any]]:
    """COCO or LVIS; one of SA-1B is left to the readers of training."""
    data = read_manifest(place)
    if b'"images"' not in data:
        yield from _source(place)
        return
    document = coco.from_json(data, where=place)
    del data  # the listing reads the file once more
    references = {json.loads(ref.metadata)["id"]: ref for ref in list_images(place, image_folder=image_folder)}
    frequencies = {category.id: category.frequency for category in document.categories}
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    sizes = {image.id: image for image in document.images}
    for annotation in document.annotations:
        if annotation.image_id not in sizes:  # files that were filtered keep annotations of images that are gone
            continue
        if counts := coco_rle(annotation, sizes[annotation.image_id], place):
            group = frequencies.get(annotation.category_id) or None
            by_image[annotation.image_id].append(_coco_annotation(annotation, counts, group))
    if document.annotations and not by_image:
        raise ValueError(f"{place}: no annotation is an outline on one of its images; boxes alone are no masks")
    for image in sorted(document.images, key=lambda image: image.file_name):
        yield _row(
            image.file_name,
            [references[image.id].uri],
            image_id=image.id,
            stamp=references[image.id].stamp,
            height=image.height,
            width=image.width,
            annotations=by_image[image.id],
        )


def _coco_annotation(annotation: coco.Annotation, counts: bytes, group: str | None) -> dict[str, Any]:
    return {
        "id": annotation.id,
        "rle": counts,
        "area": annotation.area if annotation.area > 0 else float(rle.area(counts)),  # some write 0, or nothing
        "category": annotation.category_id,
        "crowd": bool(annotation.iscrowd),
        "group": group,
    }


def _bsds(place: str, split: str) -> Iterator[dict[str, Any]]:
    store = open_store(place)
    entries = {entry.key: entry.stamp for entry in store.list(_BSDS) if entry.key.endswith(".mat")}
    splits = sorted({key.split("/")[1] for key in entries})
    if split not in splits:
        raise ValueError(f"{place}: no {_BSDS}/{split}; there is {', '.join(splits)}: choose with --split")
    pictures = {entry.key: entry.stamp for entry in store.list(f"images/{split}")}
    for key, stamp in sorted(entries.items()):
        if key.split("/")[1] == split:
            name = PurePosixPath(key).stem
            picture = f"images/{split}/{name}.jpg"
            stamps = f"{stamp} {pictures.get(picture, '')}"
            yield _row(name, [f"{store.root}/{picture}"], truth_uri=f"{store.root}/{key}", stamp=stamps)


def _source(place: str) -> Iterator[dict[str, Any]]:
    """What training reads: label PNGs, SA-1B JSON, data sets."""
    (source,) = open_sources((place,), need_masks=True)
    if source.procedural or source.index is None:
        raise ValueError(f"{place}: nothing to evaluate on; name images with true masks")
    names = names_of([uris[0] for uris in source.index["uris"].to_pylist()])
    for name, row in zip(names, source.index.to_pylist(), strict=True):
        inside = None if row["rles"] is None else [_annotation(*pair) for pair in enumerate(row["rles"])]
        yield _row(
            name,
            row["uris"],
            picture=row["image_id"],
            truth_uri=row["masks_uri"],
            stamp=row["stamp"] or "",
            height=row["height"],
            width=row["width"],
            annotations=inside,
        )


def names_of(uris: list[str]) -> list[str]:
    """File names without their endings; where two images share one, the paths below the folder that holds all, with
    their endings where nothing else tells two apart."""
    stems = [PurePosixPath(uri).stem for uri in uris]
    if len(set(stems)) == len(set(uris)):  # a data set lists an image once for its masks, and once for those of people
        return stems
    whole = [PurePosixPath(uri) for uri in uris]
    short = [path.with_suffix("") for path in whole]
    parts = [path.parts for path in (short if len(set(short)) == len(set(whole)) else whole)]
    apart = (depth for depth, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1)
    above = next(apart, min(map(len, parts)) - 1)  # no place tells `cat.png` and `cat/cat.png` apart
    return ["/".join(each[above:]) for each in parts]


def _annotation(number: int, counts: bytes) -> dict[str, Any]:
    area = float(rle.area(counts))
    return {"id": number, "rle": counts, "area": area, "category": 1, "crowd": False, "group": None}


def _row(
    name: str,
    uris: list[str],
    *,
    image_id: int | None = None,
    picture: str | None = None,
    stamp: str = "",
    truth_uri: str | None = None,
    height: int | None = None,
    width: int | None = None,
    annotations: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "uris": uris,
        "image_id": image_id,
        "picture": picture,
        "stamp": stamp,
        "truth_uri": truth_uri,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def _from_annotations(size: tuple[int, int], annotations: list[dict[str, Any]]) -> TrueMasks:
    """Raises ValueError for counts that are none of a mask of that size: pycocotools would compare them for ever."""

    def column(name: str, kind: type) -> NDArray[Any]:
        return np.array([annotation[name] for annotation in annotations], kind)

    rles = tuple(annotation["rle"] for annotation in annotations)
    rle.decompress_all(rles, size)
    return TrueMasks(
        size,
        rles,
        column("id", np.int64),
        column("area", np.float64),
        column("category", np.int64),
        column("crowd", np.bool_),
        tuple(annotation["group"] for annotation in annotations),
    )


def _plain(size: tuple[int, ...], rles: list[bytes]) -> TrueMasks:
    """Masks of which nothing is known but their pixels, without the empty ones."""
    annotations = [_annotation(number, counts) for number, counts in enumerate(rles)]
    return _from_annotations((size[0], size[1]), [entry for entry in annotations if entry["area"]])


def _people(data: bytes) -> NDArray[Any]:
    try:
        people: NDArray[Any] = scipy.io.loadmat(io.BytesIO(data))["groundTruth"][0]
    except MemoryError:
        raise
    except Exception as error:  # readers of damaged bytes raise nearly everything
        raise ValueError(f"not a ground truth of BSDS500 ({error})") from error
    if not len(people):
        raise ValueError("not a ground truth of BSDS500 (nobody drew anything)")
    return people


def _first_regions(data: bytes) -> NDArray[np.integer]:
    regions: NDArray[np.integer] = _people(data)[0]["Segmentation"][0, 0]
    return regions
