"""Where training samples come from: data sets, COCO and SA-1B JSON, label PNGs, bare images, and procedural scenes,
which may have things in them that are cut out of pictures.

A source becomes an index, one row per image (`index.py`), from tables (`table_rows.py`) or files (`file_rows.py`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import content_hash
from schemas.layout import DATASET_KEY
from workflows.sources import WORD, list_images
from workflows.storage import S3_SCHEME, open_store, split_place
from workflows.train.cutouts import read_cutout
from workflows.train.file_rows import file_rows, is_folder
from workflows.train.index import INDEX, bare_row, index_sha256
from workflows.train.left_out import UnreadableError
from workflows.train.table_rows import WantedCrops, mask_rows, picture_rows
from workflows.uris import UriReader

SCENES = "scenes"
CUTOUTS = "cutouts:"
"""What stands before the place of things to be put into scenes."""
LOOKED_AT = 100
"""Pictures that are looked at before a source is refused because none is there, or none shows a thing."""
_WEIGHTED = re.compile(r"(.+)=(\d+(?:\.\d+)?)")
_WORDS = (SCENES, WORD)
"""Sources that are no places."""


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
        return content_hash(b"scenes") if self.index is None else index_sha256(self.index)

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
    return name != SCENES and is_folder(place) and open_store(place).exists(DATASET_KEY)


def place_of(text: str) -> str:
    """Where a data set lies, without the table that a source takes of it, and its weight."""
    return split_place(_weighted(text)[0])[0]


def _weighted(text: str) -> tuple[str, float]:
    """`name=weight` or `name`; a path that has such a form is taken as it is."""
    match = _WEIGHTED.fullmatch(text)
    if match is None or _lies_there(text):
        return _plain(text), 1.0
    return _plain(match[1]), float(match[2])


def _lies_there(place: str) -> bool:
    """Whether a place that ends as a weight does is one: folders of partitions are called `fold=1`."""
    if not place.startswith(S3_SCHEME):
        return Path(place).exists()
    try:
        return next(iter(open_store(place).list()), None) is not None
    except PermissionError:  # a single JSON can be read without leave to list
        return False


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
    tables = _tables(name, need_masks, crops)
    chosen = (rows.filter(_has_masks(rows)) for rows in tables) if need_masks else tables
    index = pa.concat_tables([INDEX.empty_table(), *chosen])
    if not len(index) and crops:
        raise ValueError(
            f"{name}: no mask of {crops.min_area:,} px or more has crops that this CLIP embedded; run "
            f"`sam-engine crops {shlex.quote(place_of(name))} --clip FOLDER --min-area {crops.min_area}` first"
        )
    if not len(index):
        raise ValueError(f"{name}: {'no image with masks' if need_masks else 'no images to train on'}")
    _require_there(name, index)
    return Source(name, weight, index)


def _cutouts(name: str) -> pa.Table:
    """The pictures of a source of things. Raises ValueError when none of the first ones shows such a thing."""
    rows = [bare_row(reference) for reference in list_images(name.removeprefix(CUTOUTS))]
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


def _tables(name: str, need_masks: bool, crops: WantedCrops | None) -> Iterator[pa.Table]:
    """Rows of INDEX."""
    place, table = split_place(name)
    if need_masks and is_data_set(name):
        return mask_rows(place, table, crops)
    if is_data_set(name):
        rows = picture_rows(place, table)
    else:
        rows = file_rows(name) if need_masks else map(bare_row, list_images(name))
    return iter([pa.Table.from_pylist(list(rows), INDEX)])


def _has_masks(index: pa.Table) -> pa.ChunkedArray:
    """Whether each row holds a mask, or names a file of masks."""
    return pc.or_(
        pc.is_valid(index["masks_uri"]), pc.fill_null(pc.greater(pc.list_value_length(index["rles"]), 0), False)
    )


def _require_there(name: str, index: pa.Table) -> None:
    """Look for one of the first pictures, so that a data set whose images moved is refused before any work."""
    places = [uri for uris in index["uris"].slice(0, LOOKED_AT).to_pylist() for uri in uris]
    reader = UriReader()
    if not any(map(reader.may_be_read, places)):
        reader.exists(places[0])  # which says so where access is denied
        raise FileNotFoundError(f"{name}: {_moved(name, places[0])}")  # no fault of data: a disk may not be mounted


def _moved(name: str, uri: str) -> str:
    """Why no picture of a source is there, and the way out."""
    if is_data_set(name):
        again = f"sam-engine ingest NEW_PLACE {shlex.quote(place_of(name))}"
        return f"{uri} is not there any more; if the images moved, run `{again}`"
    return f"{uri} is not there; pictures lie beside the JSON that names them, or in the folder images beside it"
