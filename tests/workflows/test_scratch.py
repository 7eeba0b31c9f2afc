"""Temporary folders that are full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from workflows.failures import one_line
from workflows.scratch import scratch_folder


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OSError, match="TMPDIR") as caught, scratch_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert one_line(caught.value).startswith(f"{tmp_path}: No space left on device (temporary files")
    assert not list(tmp_path.iterdir())


def test_another_full_disk_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space left") as caught, scratch_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/masks")
    assert one_line(caught.value) == "/data/masks: No space left on device"
