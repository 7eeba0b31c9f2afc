"""Tables as they lie in a store; apart from the stores, as most commands start without the library that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.parquet import from_parquet_bytes
from workflows.storage import Store


def get_table(store: Store, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a Parquet file of a data set, or some of its columns. Raises ValueError, which names the file, when
    it is damaged."""
    return parse_table(store.get(key), where=f"{store.root}/{key}", columns=columns)


def parse_table(data: bytes, *, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table that was read from there. Raises ValueError, which says where, when it is damaged."""
    try:
        return from_parquet_bytes(data, columns)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
