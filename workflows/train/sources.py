"""Where training samples come from: data sets, COCO and SA-1B JSON, label PNGs, bare images, and procedural scenes,
which may have things in them that are cut out of pictures.

A source becomes an index, one row per image, which says where the picture lies and either holds its masks as COCO
compressed counts or names the file that does. Files are read when a sample is made, not before, so SA-1B costs about a
hundred bytes of index per image however many masks it has.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pyarrow as pa

from schemas import coco
from schemas.ids import content_hash
from schemas.json_fields import parse_object
from schemas.layout import DATASET_KEY, snapshot_key
from workflows.sizes import tell_unread
from workflows.sources import SUFFIXES, ImageRef, UriReader, absolute, is_hidden, list_images, stamp_of
from workflows.sql import connect, find_run
from workflows.storage import S3_SCHEME, open_store, split_place
from workflows.stored_tables import get_table
from workflows.train.cutouts import read_cutout
from workflows.train.left_out import UnreadableError

SCENES = "scenes"
INSTANCES = "instances.json"
"""COCO in a folder, as `sam-engine export` writes it."""
CUTOUTS = "cutouts:"
"""What stands before the place of things to be put into scenes."""
INDEX = pa.schema(
    [
        pa.field("uris", pa.list_(pa.string())),  # where the picture lies; the first that is there is read
        pa.field("image_id", pa.string()),  # what a data set knows it by, and what its bytes must give; null elsewhere
        pa.field("masks_uri", pa.string()),  # an SA-1B JSON or a label PNG; null where `rles` holds the masks
        pa.field("height", pa.int32()),  # of the masks, px; null where the file says
        pa.field("width", pa.int32()),
        pa.field("rles", pa.list_(pa.binary())),
        pa.field("vectors", pa.list_(pa.list_(pa.binary()))),  # float16 embeddings of each mask's crops, for text
        pa.field("stamp", pa.string()),  # changes with the files that are named; null where their content is known
    ]
)
LOOKED_AT = 100
"""Pictures that are looked at before a source is refused because none is there, or none shows a thing."""
_WEIGHTED = re.compile(r"(.+)=(\d+(?:\.\d+)?)")
_SNAPSHOT = re.compile(r"round-(\d+)")
_TABLES = ("masks", "annotations")
_WORDS = (SCENES, "samples")
"""Sources that are no places."""
_OF_TABLE = """
SELECT images.image_id AS image_id, images.uris AS uris, drawn.height AS height, drawn.width AS width,
    list(drawn.rle ORDER BY drawn.mask_id) AS rles{vectors}
FROM {table} AS drawn JOIN images USING (image_id) WHERE {where}
GROUP BY ALL ORDER BY uris
"""
_PICTURES = """
SELECT uris, image_id FROM images
ANTI JOIN (SELECT image_id FROM outcomes GROUP BY image_id HAVING bool_and(status <> 'ok')) AS broken USING (image_id)
WHERE height IS NOT NULL ORDER BY image_id
"""
"""Those that can be read as far as anybody knows: not those that `ingest` or every run so far failed at."""
_VECTORS = ", list(drawn.vectors ORDER BY drawn.mask_id) AS vectors"
_WITH_CROPS = """(
    SELECT masks.*, seen.vectors FROM {table} AS masks JOIN (
        SELECT mask_id, revision, list(vector ORDER BY draw) AS vectors FROM crops
        WHERE clip_sha256 = '{clip}' AND area >= {least} GROUP BY ALL
    ) AS seen ON seen.mask_id = masks.mask_id AND seen.revision = {revision}
)"""


@dataclass(frozen=True, slots=True)
class WantedCrops:
    """Embeddings that a run trains text prompts on: by which CLIP, and of masks of at least `min_area` px."""

    clip_sha256: str
    min_area: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """One source and how often it is drawn from.

    name: as the user wrote it, without the weight and without what says nothing: `./labels/` is `labels`. weight:
    factor on its number of images. index: rows of INDEX; None for procedural scenes alone, the pictures of things for
    scenes with cut-outs. Scenes have no end, and count as many images as all other sources together.
    """

    name: str
    weight: float
    index: pa.Table | None

    @property
    def procedural(self) -> bool:
        """Whether its samples are scenes."""
        return self.index is None or self.name.startswith(CUTOUTS)

    @property
    def sha256(self) -> str:
        """Of what the source lists: pictures and masks, or the names and stamps of the files that hold them."""
        if self.index is None:
            return content_hash(b"scenes")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.index.schema) as writer:
            writer.write_table(self.index.combine_chunks())
        return content_hash(sink.getvalue().to_pybytes())

    def __len__(self) -> int:
        """Images with an end."""
        return 0 if self.index is None or self.procedural else len(self.index)


def open_sources(texts: tuple[str, ...], *, need_masks: bool, crops: WantedCrops | None = None) -> tuple[Source, ...]:
    """All sources of a run. Raises ValueError or OSError (one line) when one is missing, empty or contradictory.

    crops: take only masks whose crops are embedded, with their embeddings.
    """
    if not texts:
        raise ValueError("nothing to train on: name a data set, COCO or SA-1B JSON, folder with labels, or `scenes`")
    named = [_weighted(text) for text in texts]
    if twice := next((name for name, _ in named if [other for other, _ in named].count(name) > 1), None):
        raise ValueError(f"{twice} is named twice; {twice}=2 draws it twice as often")
    return tuple(_open(name, weight, need_masks=need_masks, crops=crops) for name, weight in named)


def is_data_set(text: str) -> bool:
    """Whether a source is a data set of this program."""
    name = _weighted(text)[0]
    place = split_place(name)[0]
    return name != SCENES and _is_folder(place) and open_store(place).exists(DATASET_KEY)


def place_of(text: str) -> str:
    """Where a data set lies, without the table that a source takes of it, and its weight."""
    return split_place(_weighted(text)[0])[0]


def _weighted(text: str) -> tuple[str, float]:
    """`name=weight` or `name`; a path that has such a form is taken as it is."""
    match = _WEIGHTED.fullmatch(text)
    if match is None or (not text.startswith(S3_SCHEME) and Path(text).exists()):
        return _plain(text), 1.0
    return _plain(match[1]), float(match[2])


def _plain(name: str) -> str:
    """One spelling of a place, as another would begin another run: shells write a `/` behind a folder. Where a word
    means something else, a folder of its name keeps the `./` that tells the two apart."""
    short = str(PurePosixPath(name))
    return name.rstrip("/") if "://" in name or not name or short in _WORDS else short


def _open(name: str, weight: float, *, need_masks: bool, crops: WantedCrops | None) -> Source:
    if weight <= 0:
        raise ValueError(f"{name}: the weight of a source is positive")
    if crops and not is_data_set(name):
        raise ValueError(f"{name}: text prompts are trained on data sets, whose crops `sam-engine crops` embeds")
    if name == SCENES:
        if Path(name).is_dir():
            raise ValueError(
                f"{SCENES}: a folder of that name lies here: say ./{SCENES} for it, or go elsewhere for ours"
            )
        return Source(name, weight, None)
    if name.startswith(CUTOUTS):
        return Source(name, weight, _cutouts(name))
    rows = _rows(name, need_masks, crops)
    index = pa.Table.from_pylist([row for row in rows if not need_masks or row["masks_uri"] or row["rles"]], INDEX)
    if not len(index) and crops:
        raise ValueError(
            f"{name}: no mask of {crops.min_area:,} px or more has crops that this CLIP embedded; run "
            f"`sam-engine crops {shlex.quote(place_of(name))} --clip FOLDER` first"
        )
    if not len(index):
        raise ValueError(f"{name}: {'no image with masks' if need_masks else 'no images'} to train on")
    _require_there(name, index)
    return Source(name, weight, index)


def _cutouts(name: str) -> pa.Table:
    """The pictures of a source of things. Raises ValueError when none of the first ones shows such a thing."""
    rows = [_bare(reference) for reference in list_images(name.removeprefix(CUTOUTS))]
    uris = [row["uris"][0] for row in rows]
    reader = UriReader()
    if not any(_shows_a_thing(reader, uri) for uri in uris[:LOOKED_AT]):
        raise ValueError(
            f"{name}: none of {min(LOOKED_AT, len(uris))} pictures shows one solid thing on a transparent ground, "
            f"such as {uris[0]}"
        )
    return pa.Table.from_pylist(rows, INDEX)


def _shows_a_thing(reader: UriReader, uri: str) -> bool:
    try:
        return read_cutout(reader, uri) is not None
    except UnreadableError:
        return False


def _rows(name: str, need_masks: bool, crops: WantedCrops | None) -> Iterator[dict[str, Any]]:
    place, table = split_place(name)
    if is_data_set(name):
        return _data_set(place, table, need_masks, crops)
    if not need_masks:
        return map(_bare, list_images(name))
    if name.endswith(".json"):
        return _json_file(absolute(name))
    return _folder(name)


def _data_set(place: str, table: str, need_masks: bool, crops: WantedCrops | None) -> Iterator[dict[str, Any]]:
    """Masks of a run, of all runs (`@masks`), those that people drew (`@annotations`), those that an engine round froze
    (`@round-3`), or, unsaid, all of them."""
    if table and not need_masks:
        raise ValueError(f"{place}@{table}: images without masks are all of a data set; leave @{table} out")
    connection = connect(place)
    if frozen := _SNAPSHOT.fullmatch(table):
        store, key = open_store(place), snapshot_key(int(frozen[1]))
        if not store.exists(key):
            raise ValueError(f"{place}@{table}: no engine round of that number has frozen masks there")
        connection.register("snapshot", get_table(store, key))
    if not need_masks:
        tell_unread(connection)
        for uris, image_id in connection.execute(_PICTURES).fetchall():
            yield _row(uris, image_id=image_id)
        return
    for source, where in _chosen(connection, table):
        masks, vectors = (_with_crops(source, crops), _VECTORS) if crops else (source, "")
        listed = _OF_TABLE.format(table=masks, where=where, vectors=vectors)
        for row in connection.sql(listed).to_arrow_table().to_pylist():
            yield _row(**row)


def _with_crops(table: str, crops: WantedCrops) -> str:
    """The table's masks that have embeddings, with them."""
    revision = "0" if table == "masks" else "masks.revision"
    return _WITH_CROPS.format(table=table, clip=crops.clip_sha256, revision=revision, least=crops.min_area)


def _chosen(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Tables with conditions that the text after @ names: all for none."""
    if not table:
        return [(name, "true") for name in _TABLES]
    if _SNAPSHOT.fullmatch(table):
        return [("snapshot", "true")]
    return [(table, "true")] if table in _TABLES else [("masks", f"run_id = '{_run_id(connection, table)}'")]


def _run_id(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """The run of that id or name. Raises ValueError when there is none."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise ValueError(f"@{text}: after @ stands masks, annotations, round-N or the name or id of a run")
    if (run_id := find_run(connection, text)) is None:
        raise ValueError(f"@{text}: no such run; see SELECT run_id, name FROM runs")
    return run_id


def _json_file(source: str) -> Iterator[dict[str, Any]]:
    data = UriReader().read(source)
    kind = _json_kind(data, source)
    if kind == "sa1b":
        beside = f"{source.rpartition('/')[0]}/{parse_object(data, source).child('image').text('file_name')}"
        yield _row([beside], masks_uri=source, stamp=f"{stamp_of(beside)} {content_hash(data)}")
        return
    document = coco.from_json(data, where=source)
    pictures = {int(json.loads(found.metadata)["id"]): found for found in list_images(source)}
    if len(pictures) < len(document.images):
        raise ValueError(f"{source}: two images have the same id, so whose the masks are cannot be told")
    by_image: dict[int, list[coco.Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        if not annotation.iscrowd:
            by_image[annotation.image_id].append(annotation)
    for image in document.images:
        rles = [coco_rle(annotation, image, source) for annotation in by_image[image.id]]
        masks, picture = [rle for rle in rles if rle], pictures[image.id]
        yield _row([picture.uri], height=image.height, width=image.width, rles=masks, stamp=picture.stamp)


def coco_rle(annotation: coco.Annotation, image: coco.Image, source: str) -> bytes | None:
    """None where polygons enclose nothing; an RLE of another size is an error."""
    try:
        return coco.rle_of(annotation.segmentation, height=image.height, width=image.width)
    except ValueError as error:
        if isinstance(annotation.segmentation, tuple) and "three corners" in str(error):
            return None
        raise ValueError(f"{source}: annotation {annotation.id} of {image.file_name}: {error}") from error


def _json_kind(data: bytes, source: str) -> str:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: not JSON ({error})") from error
    if isinstance(document, dict) and "images" in document:
        return "coco"
    if isinstance(document, dict) and {"image", "annotations"} <= document.keys():
        return "sa1b"
    raise ValueError(f"{source}: neither a COCO instances JSON nor one of SA-1B")


def _folder(name: str) -> Iterator[dict[str, Any]]:
    """`images/` beside `labels/`, a COCO `instances.json`, or pictures beside the JSON of each, as SA-1B comes."""
    if not _is_folder(name):
        raise ValueError(f"{name}: no such data set, folder or file")
    store = open_store(name)
    stamps = {entry.key: entry.stamp for entry in store.list() if not is_hidden(entry.key)}
    keys = list(stamps)
    shown = [key for key in keys if PurePosixPath(key).suffix.lower() in SUFFIXES]
    labels = _below("labels", [key for key in shown if key.lower().endswith(".png")], name)
    if labels:
        pictures = _below("images", shown, name)
        for place, key in labels.items():
            if place not in pictures:
                raise ValueError(f"{name}: {key} has no picture images/{place}.*")
            yield _beside(store.root, pictures[place], key, stamps)
        return
    if INSTANCES in keys:
        yield from _json_file(f"{store.root}/{INSTANCES}")
        return
    documents = [key for key in keys if key.endswith(".json")]
    if not documents:
        raise ValueError(f"{name}: no masks found; expected a data set, labels/*.png with images/, or SA-1B's *.json")
    beside = {key.rpartition(".")[0]: key for key in reversed(shown)}
    for key in documents:
        picture = beside.get(key[:-5])
        if picture is None:
            raise ValueError(f"{name}: {key} has no picture {key[:-5]}.jpg beside it")
        yield _beside(store.root, picture, key, stamps)


def _beside(root: str, picture: str, masks: str, stamps: dict[str, str]) -> dict[str, Any]:
    """The row of a picture and the file of its masks, by their keys."""
    return _row([f"{root}/{picture}"], masks_uri=f"{root}/{masks}", stamp=f"{stamps[picture]} {stamps[masks]}")


def _bare(reference: ImageRef) -> dict[str, Any]:
    """The row of a picture without masks."""
    return _row([reference.uri], stamp=reference.stamp)


def _require_there(name: str, index: pa.Table) -> None:
    """Look for one of the first pictures, so that a data set whose images moved is refused before any work."""
    places = [uri for uris in index["uris"].slice(0, LOOKED_AT).to_pylist() for uri in uris]
    reader = UriReader()
    if not any(_is_there(reader, uri) for uri in places):
        reader.exists(places[0])  # which says so where access is denied
        raise ValueError(f"{name}: {_moved(name, places[0])}")


def _moved(name: str, uri: str) -> str:
    """Why no picture of a source is there, and the way out."""
    if is_data_set(name):
        again = f"sam-engine ingest NEW_PLACE {shlex.quote(place_of(name))}"
        return f"{uri} is not there any more; if the images moved, run `{again}`"
    return f"{uri} is not there; pictures lie beside the JSON that names them, or in the folder images beside it"


def _is_there(reader: UriReader, uri: str) -> bool:
    try:
        return reader.exists(uri)
    except PermissionError:
        return False


def _row(
    uris: list[str],
    *,
    masks_uri: str | None = None,
    height: int | None = None,
    width: int | None = None,
    rles: list[bytes] | None = None,
    vectors: list[list[bytes]] | None = None,
    image_id: str | None = None,
    stamp: str | None = None,
) -> dict[str, Any]:
    named = {"uris": uris, "image_id": image_id, "masks_uri": masks_uri, "stamp": stamp}
    return {**named, "height": height, "width": width, "rles": rles, "vectors": vectors}


def _below(folder: str, keys: list[str], name: str) -> dict[str, str]:
    """The keys in a folder by their path there without ending: what a picture and its labels have in common."""
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(f"{folder}/"):
            place = key.removeprefix(f"{folder}/").rpartition(".")[0]
            if place in found:
                raise ValueError(f"{name}: {found[place]} and {key} differ in their ending alone; keep one of them")
            found[place] = key
    return found


def _is_folder(place: str) -> bool:
    return place.startswith(S3_SCHEME) or Path(place).is_dir()
