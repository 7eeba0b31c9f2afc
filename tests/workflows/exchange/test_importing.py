"""The tables that an import asks shard by shard: in an order in which a question looks at few of their rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.schemas import rows
from workflows.exchange import importing, succession
from workflows.scratch import open_scratch
from workflows.storage import LocalStore

GROUP = 122_880
"""Rows of which DuckDB knows the least and the greatest value, so that it can pass over them."""
IMAGES = 3 * GROUP


def groups_with(tables: duckdb.DuckDBPyConnection, table: str, image_id: str) -> int:
    """Of how many groups of rows a question about one image looks at the rows."""
    ranges = f"SELECT min(image_id) AS low, max(image_id) AS high FROM {table} GROUP BY rowid // {GROUP}"
    ((count,),) = tables.execute(f"SELECT count(*) FROM ({ranges}) WHERE ? BETWEEN low AND high", [image_id]).fetchall()
    return int(count)


@pytest.fixture(scope="module")
def image_ids() -> pa.Array:
    """Ids as hashes come, in no order."""
    return pa.array([f"{number:08x}" for number in np.random.default_rng(0).permutation(IMAGES)])


def test_places_and_sizes_lie_in_the_order_of_image_id(image_ids: pa.Array) -> None:
    same = {"uri": pa.repeat("/photos/a.jpg", IMAGES), "height": pa.repeat(4, IMAGES), "width": pa.repeat(4, IMAGES)}
    images = pa.table({"image_id": image_ids, **same})
    with open_scratch() as tables, duckdb.connect() as catalog:
        importing._note_places(tables, images.to_reader(8192))
        catalog.register("images", images)
        importing._note_sizes(tables, catalog)
        for table in ("places", "sizes"):
            assert tables.execute(f"SELECT count(*) FROM {table}").fetchall() == [(IMAGES,)]
            assert groups_with(tables, table, f"{IMAGES // 2:08x}") <= 2


def test_earlier_revisions_lie_in_the_order_of_image_id(image_ids: pa.Array, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("annotations/masks/session=import-0123456789abcdef/part-00000001.parquet", b"")
    one = rows.annotation("import-1.a", 1, np.ones((4, 4), bool))
    many = one.take(pa.array(np.zeros(IMAGES, np.int64)))
    revisions = many.set_column(many.column_names.index("image_id"), "image_id", image_ids)
    with open_scratch() as tables, duckdb.connect() as catalog:
        importing._note_places(tables, pa.table({"image_id": image_ids, "uri": image_ids}).to_reader(8192))
        catalog.register("annotation_revisions", revisions)
        succession.note_earlier(tables, catalog, store, "import-0000000000000000")
        assert tables.execute("SELECT count(*) FROM earlier").fetchall() == [(IMAGES,)]
        assert groups_with(tables, "earlier", f"{IMAGES // 2:08x}") <= 2
