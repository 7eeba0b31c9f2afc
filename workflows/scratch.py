"""Tables too long for memory: a DuckDB database in a temporary folder of this machine, which spills instead of growing.

What a command notes here is gone when it ends; nothing that must last is written here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

MEMORY_BYTES = 256 << 20  # 96 MiB were too few to sort 2 million places


@contextmanager
def open_scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that holds at most MEMORY_BYTES in memory and the rest in a folder under TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="sam-engine-") as folder:
        limits = {"memory_limit": f"{MEMORY_BYTES}B", "temp_directory": folder, "threads": 2}
        with duckdb.connect(f"{folder}/scratch.duckdb", config=limits) as connection:
            connection.execute("SET preserve_insertion_order = false")
            connection.execute("SET enable_external_access = false")
            yield connection
