"""What is of S3 alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from workflows import s3
from workflows.storage import StoreError


def test_a_file_that_s3_does_not_take_at_once_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LARGEST_PUT", 3)
    store, file = s3.S3Store(f"s3://{bucket}/x"), tmp_path / "file"
    file.write_bytes(b"four")
    with pytest.raises(StoreError, match=rf"cannot write s3://{bucket}/x/a: 4 bytes are more than S3 takes at once"):
        store.put_file("a", file)
    assert not store.exists("a")
    file.write_bytes(b"one")
    store.put_file("a", file)
    assert store.get("a") == b"one"


def test_what_watches_an_answer_ends_with_it(bucket: str) -> None:
    """Or a thread would stay behind for every object that is read, for minutes."""
    store = s3.S3Store(f"s3://{bucket}")
    store.put("a", b"content")
    before = set(threading.enumerate())
    for _ in range(3):
        assert store.get("a") == b"content"
    watches = [thread for thread in set(threading.enumerate()) - before if isinstance(thread, threading.Timer)]
    for watch in watches:
        watch.join(5)
        assert not watch.is_alive()
