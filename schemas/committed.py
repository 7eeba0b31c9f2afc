"""Which files of a data set count, and the records beside them, read from any `pyarrow.fs` file system."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow.fs as pafs

from schemas import layout
from schemas.mergers import PartRange, counted
from schemas.place_errors import naming
from schemas.records import DatasetRecord, MergerRecord, ModelRecord, RoundRecord, RunRecord, from_json

Record = TypeVar("Record", DatasetRecord, RunRecord, ModelRecord, RoundRecord, MergerRecord)

_RECORDS_AT_ONCE = 16


class Place(NamedTuple):
    """Where a data set lies: `path` in `filesystem`, without a trailing slash."""

    filesystem: pafs.FileSystem
    path: str


def open_place(root: str | Path, filesystem: pafs.FileSystem | None = None) -> Place:
    """The place of a data set that exists and that this program can read.

    Args:
        root: a local folder; with `filesystem`, a path in it, for S3 `bucket/prefix` or `s3://bucket/prefix`.
        filesystem: where `root` lies when it is not local.

    Raises:
        ValueError: one line: there is no data set, it is remote and no file system is given, or it is newer.
    """
    if filesystem is not None:
        bucket, _, prefix = str(root).split("://", 1)[-1].partition("/")
        place = Place(filesystem, f"{bucket}/{prefix.strip('/')}".rstrip("/"))
    elif "://" in str(root):
        raise ValueError(f"{root} is not local: pass the pyarrow file system that reads it")
    else:
        place = Place(pafs.LocalFileSystem(), Path(root).absolute().as_posix())
    if place.filesystem.get_file_info(f"{place.path}/{layout.DATASET_KEY}").type != pafs.FileType.File:
        raise ValueError(f"{root} is not a data set: it has no {layout.DATASET_KEY}")
    _record(place, layout.DATASET_KEY, DatasetRecord)
    return place


class Committed(NamedTuple):
    """sizes: key to size (bytes) of every table file that counts. merged: parts of annotations and events that count
    as what they were merged into."""

    sizes: dict[str, int]
    merged: list[PartRange]


def committed_files(place: Place) -> Committed:
    """Every table file that counts: all parts of images and crops, annotations and events each once, and what every
    shard has that is done, with outcomes and masks; masks without outcomes are still being written.

    Outcomes are listed before masks and masks before images, so that what a later step of a running job needs is there;
    the rest beside these two.

    Raises:
        ValueError: an outcomes file has no masks file, which no interruption leaves behind; or a merger is damaged.
    """
    outcomes = _listing(place, layout.OUTCOMES_PREFIX, layout.parse_shard_key)
    with ThreadPoolExecutor() as pool:
        saving = pool.submit(_saves, place)
        crops = pool.submit(_listing, place, layout.CROPS_PREFIX, layout.parse_crops_key)
        relations = pool.submit(_listing, place, layout.RELATIONS_PREFIX, layout.parse_shard_key)
        tags = pool.submit(_listing, place, layout.TAGS_PREFIX, layout.parse_shard_key)
        masks = _listing(place, layout.MASKS_PREFIX, layout.parse_shard_key)
        images = _listing(place, layout.IMAGES_PREFIX, layout.parse_images_key)
    saves, merged = saving.result()
    derived = relations.result() | tags.result()
    done = [shard for shard in map(layout.parse_shard_key, outcomes) if shard is not None]
    finished = [layout.masks_key(shard.run_id, shard.shard) for shard in done]
    if lost := [key for key in finished if key not in masks]:
        raise ValueError(
            f"{place.path} is damaged: {lost[0]} is gone although its outcomes are there; "
            "delete that outcomes file and run the same command again"
        )
    wanted = [key(shard.run_id, shard.shard) for shard in done for key in (layout.relations_key, layout.tags_key)]
    sizes = (
        outcomes
        | {key: masks[key] for key in finished}
        | {key: derived[key] for key in wanted if key in derived}
        | saves
        | images
        | crops.result()
    )
    return Committed(sizes, merged)


def _saves(place: Place) -> Committed:
    """What annotators saved, each row once."""
    listed = _listing(place, layout.SAVES_PREFIX, lambda key: key)
    keys = [key for key in listed if layout.parse_merger_key(key)]
    saves = counted(listed, dict(zip(keys, _records(place, keys, MergerRecord), strict=True)))
    return Committed({key: listed[key] for key in saves.keys}, saves.merged)


def run_records(place: Place) -> list[RunRecord]:
    """Every run's record. Raises ValueError when one cannot be read."""
    return _records(place, _listing(place, layout.RUNS_PREFIX, layout.parse_run_key), RunRecord)


def model_records(place: Place) -> list[ModelRecord]:
    """Every registered model's record. Raises ValueError when one cannot be read."""
    return _records(place, _listing(place, layout.MODELS_PREFIX, layout.parse_model_key), ModelRecord)


def round_records(place: Place) -> list[RoundRecord]:
    """Every engine round's record. Raises ValueError when one cannot be read."""
    return _records(place, _listing(place, layout.ROUNDS_PREFIX, layout.parse_round_key), RoundRecord)


def _listing(place: Place, prefix: str, parse: Callable[[str], object | None]) -> dict[str, int]:
    """Key to size of the files under a prefix whose key `parse` knows, in the order of their keys."""
    found = {info.path.removeprefix(f"{place.path}/"): info.size for info in _files(place, prefix)}
    return {key: found[key] for key in sorted(found) if parse(key) is not None}


def _files(place: Place, prefix: str) -> Iterator[pafs.FileInfo]:
    selector = pafs.FileSelector(f"{place.path}/{prefix.rstrip('/')}", recursive=True, allow_not_found=True)
    return (info for info in place.filesystem.get_file_info(selector) if info.type == pafs.FileType.File)


def _records(place: Place, keys: Iterable[str], kind: type[Record]) -> list[Record]:
    """The records of these keys, in order, read side by side: in an object store each is a request."""
    with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:
        return list(pool.map(lambda key: _record(place, key, kind), keys))


def _record(place: Place, key: str, kind: type[Record]) -> Record:
    where = f"{place.path}/{key}"
    with naming(where), place.filesystem.open_input_stream(where) as stream:
        data = stream.read()
    return from_json(kind, data, where=where)
