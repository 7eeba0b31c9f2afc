"""The same masks in files of other layouts: what each costs in bytes, in writing, and in the usual questions."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import MASKS
from tests.benchmarks import many_masks

_LOOK_UPS = 15


@dataclass(frozen=True, slots=True)
class Layout:
    """How a masks file is written; the defaults are those of schemas/parquet.py."""

    name: str
    sorted: bool = True
    row_group_rows: int = 65_536
    level: int | None = 6
    """Of Zstandard; None leaves the pages as they are."""
    rle_codec: str = "zstd"
    rle_encoding: str = "PLAIN"
    statistics: bool = True
    page_index: bool = False
    mask_id_encoding: str = "DELTA_BYTE_ARRAY"


CHOSEN = Layout("as written")
LAYOUTS = (
    CHOSEN,
    replace(CHOSEN, name="images in no order", sorted=False),
    replace(CHOSEN, name="no statistics", statistics=False),
    replace(CHOSEN, name="page index", page_index=True),
    *(
        replace(CHOSEN, name=f"row groups of {rows:,}", row_group_rows=rows)
        for rows in (16_384, 32_768, 262_144, 1_048_576)
    ),
    *(replace(CHOSEN, name=f"zstd level {level}", level=level) for level in (1, 3, 12)),
    replace(CHOSEN, name="rle snappy", rle_codec="snappy"),
    replace(CHOSEN, name="rle not compressed", rle_codec="none"),
    replace(CHOSEN, name="rle as lengths and bytes", rle_encoding="DELTA_LENGTH_BYTE_ARRAY"),
    replace(CHOSEN, name="mask_id plain", mask_id_encoding="PLAIN"),
)


def compare(masks: int) -> list[dict[str, object]]:
    """One line per layout: bytes per mask, and seconds of writing and asking."""
    drawn = many_masks.outlines(many_masks.OUTLINES)
    shards = -(-masks // (many_masks.MASKS_PER_IMAGE * many_masks.IMAGES_PER_SHARD))
    tables = [many_masks.shard_tables(number, shards, drawn)[1] for number in range(shards)]
    return [_measured(layout, tables) for layout in LAYOUTS]


def _measured(layout: Layout, tables: list[pa.Table]) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="layouts-") as folder:
        begun = time.perf_counter()
        for number, table in enumerate(tables if layout.sorted else _shuffled(tables)):
            _write(layout, table, Path(folder) / f"{number}.parquet")
        seconds = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        rows = sum(map(len, tables))
        found = {
            "layout": layout.name,
            "bytes_per_mask": size / rows,
            "write_seconds_per_million": 1e6 * seconds / rows,
        }
        found |= _asked(folder, tables)
    print(found, flush=True)
    return found


def _write(layout: Layout, table: pa.Table, path: Path) -> None:
    encodings = {field.name: field.metadata[b"encoding"].decode() for field in MASKS}
    encodings |= {"rle": layout.rle_encoding, "mask_id": layout.mask_id_encoding}
    codec = "zstd" if layout.level else "none"
    pq.write_table(
        table,
        path,
        row_group_size=layout.row_group_rows,
        compression={name: layout.rle_codec if name == "rle" else codec for name in table.column_names},
        compression_level={
            name: layout.level for name in table.column_names if name != "rle" or layout.rle_codec == "zstd"
        },
        use_dictionary=[name for name, encoding in encodings.items() if encoding == "dictionary"],
        column_encoding={name: encoding for name, encoding in encodings.items() if encoding != "dictionary"},
        write_statistics=[name for name in table.column_names if name != "rle"] if layout.statistics else False,
        write_page_index=layout.page_index,
    )


def _asked(folder: str, tables: list[pa.Table]) -> dict[str, object]:
    """Seconds of an aggregate, of a sum over all outlines' lengths, and milliseconds to get one image's rows."""
    connection = duckdb.connect()
    connection.execute("SET parquet_metadata_cache = true")
    relation = f"read_parquet('{folder}/*.parquet')"
    rng = np.random.default_rng(0)
    images = [
        tables[rng.integers(len(tables))]["image_id"][int(rng.integers(len(tables[0])))].as_py()
        for _ in range(_LOOK_UPS)
    ]
    aggregate = f"SELECT area < 1024, count(*), avg(predicted_iou) FROM {relation} GROUP BY 1"
    everything = f"SELECT sum(octet_length(rle)) FROM {relation}"
    look_ups = [_seconds(connection, f"FROM {relation} WHERE image_id = '{image}'") for image in images]
    return {
        "aggregate_seconds": min(_seconds(connection, aggregate) for _ in range(3)),
        "outlines_seconds": min(_seconds(connection, everything) for _ in range(2)),
        "one_image_ms": 1000 * statistics.median(look_ups),
    }


def _seconds(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    begun = time.perf_counter()
    connection.sql(sql).to_arrow_table()
    return time.perf_counter() - begun


def _shuffled(tables: list[pa.Table]) -> list[pa.Table]:
    """The same rows with the images spread over all files, as they come when a run is not planned by their ids."""
    whole = pa.concat_tables(tables)
    images = len(whole) // many_masks.MASKS_PER_IMAGE
    order = np.random.default_rng(0).permutation(images)
    rows = (order[:, None] * many_masks.MASKS_PER_IMAGE + np.arange(many_masks.MASKS_PER_IMAGE)).ravel()
    mixed = whole.take(pa.array(rows))
    return [mixed.slice(number * len(tables[0]), len(tables[0])) for number in range(len(tables))]
