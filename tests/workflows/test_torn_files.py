"""Writers killed in the middle: what they had written is seen by nobody, and what was there before stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tests.workflows.cheap_engine import Sabotage, _install
from workflows.storage import Store, open_store

KEY = "masks/run=r/shard-00000000.parquet"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path / "root" if request.param == "local" else f"s3://{request.getfixturevalue('bucket')}/p")


@pytest.mark.parametrize("halfway", [True, False])
def test_a_torn_write_is_never_visible(store: Store, tmp_path: Path, halfway: bool) -> None:
    before = bytes(1000)
    store.put(KEY, before)
    sabotage = Sabotage("masks/", 0, halfway, str(tmp_path / "struck"))
    given = (dict(os.environ), store.root, sabotage, bytes(200_000))
    writer = multiprocessing.get_context("forkserver").Process(target=_write, args=given)
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert (tmp_path / "struck").exists()
    assert [entry.key for entry in store.list()] == [KEY]
    assert store.get(KEY) == before
    if store.root.startswith("/") and halfway:
        torn = list(Path(store.root).rglob(".*.tmp"))
        assert [path.stat().st_size for path in torn] == [100_000], "the kill came in the middle of the file"
    store.put(KEY, b"after")
    assert store.get(KEY) == b"after"


def _write(environment: dict[str, str], root: str, sabotage: Sabotage, data: bytes) -> None:
    """environment: the test's; the process that forks keeps the one it was started with."""
    os.environ.update(environment)
    _install(sabotage)
    open_store(root).put(KEY, data)
