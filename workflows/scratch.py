"""What is too large for memory: files and tables in a temporary folder of this machine.

What a command notes here is gone when it ends; nothing that must last is written here.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

MEMORY_BYTES = 256 << 20  # 96 MiB were too few to sort 2 million places
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder under TMPDIR. Where it is full, the OSError, which names no file by itself, says so."""
    with tempfile.TemporaryDirectory(prefix="sam-engine-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in _FULL or error.filename:
                raise
            why = f"{os.strerror(error.errno)} (temporary files lie there; TMPDIR names another folder)"
            raise OSError(error.errno, why, tempfile.gettempdir()) from error


@contextmanager
def open_scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that holds at most MEMORY_BYTES in memory and the rest in a folder under TMPDIR: it spills
    instead of growing."""
    with (
        scratch_folder() as folder,
        duckdb.connect(
            f"{folder}/scratch.duckdb",
            config={"memory_limit": f"{MEMORY_BYTES}B", "temp_directory": str(folder), "threads": 2},
        ) as connection,
    ):
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET enable_external_access = false")
        yield connection
