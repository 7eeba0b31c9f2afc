"""Commands do without pandas, which pyarrow would import; what asks for it by name still gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workflows.runs import open_dataset
from workflows.storage import LocalStore

COMMAND = """
import atexit, sys
slow = {"PIL", "numpy", "pandas", "pyarrow", "torch"}
atexit.register(lambda: print(*sorted(slow & sys.modules.keys()), file=sys.stderr))
from workflows.cli import main
sys.exit(main())
"""
TO_PANDAS = """
import pyarrow as pa
from workflows.without_pandas import leave_pandas_out
leave_pandas_out()
assert pa.table({"area": [2, 3]}).to_pandas().area.sum() == 5
"""


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    return store.root


def test_help_waits_for_nothing_that_takes_time() -> None:
    assert imported("annotate", "--help") == ""


def test_a_query_reads_arrow_alone(dataset: str) -> None:
    pytest.importorskip("pandas")
    assert imported("sql", dataset, "SELECT count(*) FROM masks") == "numpy pyarrow"


def test_what_asks_for_pandas_gets_it() -> None:
    pytest.importorskip("pandas")
    subprocess.run([sys.executable, "-c", TO_PANDAS], check=True, timeout=60)


def imported(*arguments: str) -> str:
    """What takes time of all that a command imports."""
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, check=True, text=True, timeout=60
    )
    return ran.stderr.strip()
