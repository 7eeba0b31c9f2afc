"""`sam-engine relate`: for every mask of the committed shards the one that it is a part of, and the one it repeats.

One relations file per shard, from its masks alone, as the masks of an image lie in one shard. A file that was made with
the same thresholds is not made again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sam_core.masks.relations import NONE, Ints, Relations, relate
from schemas.layout import OUTCOMES_PREFIX, masks_key, outcomes_key, parse_shard_key, relations_key
from schemas.parquet import from_plain_parquet, to_parquet_bytes
from schemas.tables import RELATIONS
from workflows.exchange.commands import RelateConfig
from workflows.image_rows import on_each
from workflows.progress import Progress
from workflows.runs import require_here
from workflows.sql import connect
from workflows.storage import Store, open_store
from workflows.stored_tables import get_table

_SHARDS_AT_ONCE = 8
_TALLY = """
SELECT count(*), count(*) FILTER (parent_mask_id IS NOT NULL), count(*) FILTER (duplicate_of IS NOT NULL) FROM relations
"""


def relate_command(config: RelateConfig) -> int:
    """The subcommand: exit status 0. Raises ValueError (one line) when there is no data set or no finished mask."""
    ((images,),) = connect(config.dataset).execute("SELECT count(*) FROM outcomes").fetchall()
    store = open_store(config.dataset)
    if not images:
        raise ValueError(f"{store.root}: no finished images to relate masks of; `sam-engine generate` makes some")
    work = partial(relate_shards, store.root, config.containment, config.duplicate_iou)
    answers = on_each(work, _chunks(store))  # before the progress, since Ray takes over standard error
    with Progress("relating", images) as progress:
        for done in answers:
            for row in done.to_pylist():
                progress.add(images=row["images"], masks=row["masks"])
    ((masks, parts, copies),) = connect(config.dataset).execute(_TALLY).fetchall()
    print(f"{store.root}: {masks:,} masks, {parts:,} are parts of others, {copies:,} repeat better ones")
    return 0


def relate_shards(root: str, containment: float, duplicate_iou: float, shards: pa.Table) -> pa.Table:
    """Write the relations files of some shards (columns run_id, shard); how many images and masks they have.

    Raises ValueError (one line) when masks are none of their image."""
    store = open_store(root)
    require_here(store)
    counts = []
    for shard in shards.to_pylist():
        outcomes = store.get(outcomes_key(shard["run_id"], shard["shard"]))
        kept = from_plain_parquet(outcomes, ["n_masks"])["n_masks"]
        count = pc.sum(kept, min_count=0).as_py()
        key = relations_key(shard["run_id"], shard["shard"])
        if not _is_made(store, key, count, containment, duplicate_iou):
            place = masks_key(shard["run_id"], shard["shard"])
            try:
                made = relation_rows(get_table(store, place), containment=containment, duplicate_iou=duplicate_iou)
            except ValueError as error:
                raise ValueError(f"{store.root}/{place}: {error}") from error
            store.put(key, to_parquet_bytes(made))
        counts.append({"images": len(kept), "masks": count})
    return pa.Table.from_pylist(counts)


def relation_rows(masks: pa.Table, *, containment: float, duplicate_iou: float) -> pa.Table:
    """Rows of RELATIONS for rows of MASKS of whole images, in the order in which their file has them."""
    tables = [RELATIONS.empty_table()]
    for start, stop in _images(masks["image_id"].to_numpy(zero_copy_only=False)):
        rows = masks.slice(start, stop - start)
        size = (rows["height"][0].as_py(), rows["width"][0].as_py())
        found = relate(
            rows["rle"].to_pylist(),
            rows["area"].to_numpy(),
            size,
            containment=containment,
            duplicate_iou=duplicate_iou,
        )
        tables.append(_rows(rows, found, containment, duplicate_iou))
    return pa.concat_tables(tables)


def _rows(masks: pa.Table, found: Relations, containment: float, duplicate_iou: float) -> pa.Table:
    names = masks["mask_id"].combine_chunks()
    columns = {
        "mask_id": names,
        "image_id": masks["image_id"],
        "run_id": masks["run_id"],
        "parent_mask_id": _named(names, found.parent),
        "whole_mask_id": _named(names, found.whole),
        "depth": pa.array(found.depth.astype(np.int32)),
        "parts": pa.array(found.parts.astype(np.int32)),
        "inside": pa.array(found.inside.astype(np.float32), from_pandas=True),
        "duplicate_of": _named(names, found.duplicate_of),
        "duplicate_iou": pa.array(found.duplicate_iou.astype(np.float32), from_pandas=True),
        "containment": pa.array(np.full(len(found), containment, np.float32)),
        "duplicate_threshold": pa.array(np.full(len(found), duplicate_iou, np.float32)),
    }
    return pa.table([columns[field.name] for field in RELATIONS], schema=RELATIONS)


def _named(names: pa.Array, positions: Ints) -> pa.Array:
    """The identifiers at these positions; null where a position is NONE."""
    return names.take(pa.array(positions, mask=positions == NONE))


def _images(image_ids: NDArray[np.object_]) -> Iterator[tuple[int, int]]:
    """First and last + 1 row of each image in a sorted column."""
    _, starts = np.unique(image_ids, return_index=True)
    yield from itertools.pairwise([*starts.tolist(), len(image_ids)])


def _chunks(store: Store) -> Iterator[pa.Table]:
    """The committed shards of all runs, some at once."""
    found = (parse_shard_key(entry.key) for entry in store.list(OUTCOMES_PREFIX))
    rows = ({"run_id": shard.run_id, "shard": shard.shard} for shard in found if shard is not None)
    while chunk := list(itertools.islice(rows, _SHARDS_AT_ONCE)):
        yield pa.Table.from_pylist(chunk)


def _is_made(store: Store, key: str, masks: int, containment: float, duplicate_iou: float) -> bool:
    """Whether the relations of a shard are there, with these thresholds."""
    if not store.exists(key):
        return False
    file = from_plain_parquet(store.get(key), ["containment", "duplicate_threshold"])
    wanted = np.array([containment, duplicate_iou], np.float32).tolist()
    used = file.group_by(file.column_names).aggregate([]).to_pylist()
    return len(file) == masks and all([*row.values()] == wanted for row in used)
