"""Compiled functions answer whatever the disk says on which their machine code would be kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import IndexDataCacheFile

from sam_core import machine_code

MODULE = """
from sam_core.machine_code import cached

@cached()
def twice(x):
    return 2 * x
"""


def loaded(folder: Path) -> Callable[[int], int]:
    """The function of a new copy of the module."""
    (folder / "module.py").write_text(MODULE)
    os.utime(folder / "module.py", (1, 1))  # at which older versions of numba look, newer ones at its text
    spec = spec_from_file_location("module", folder / "module.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    twice: Callable[[int], int] = module.twice
    return twice


def fails(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kept(folder: Path) -> list[str]:
    return [path.suffix for path in sorted(folder.glob("__pycache__/*.nb?"))]


def test_machine_code_is_kept_beside_the_module_and_found_again(tmp_path: Path) -> None:
    assert loaded(tmp_path)(4) == 8
    assert kept(tmp_path) == [".nbc", ".nbi"]
    again: Any = loaded(tmp_path)
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1


def test_loops_of_other_files_count_and_nothing_else_does(tmp_path: Path) -> None:
    for name, text in (("entry", "import numba"), ("inner", "import numba\nx = 1"), ("page", "y = 1")):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / ".#entry.py").symlink_to("somebody@somewhere.1")  # as Emacs locks what is not saved
    loops_of = machine_code.loops_of.__wrapped__
    before = loops_of(tmp_path)
    (tmp_path / "page.py").write_text("y = 2")
    assert loops_of(tmp_path) == before
    (tmp_path / "inner.py").write_text("import numba\nx = 2")
    assert loops_of(tmp_path) != before


@pytest.mark.parametrize("full", [False, True])
def test_machine_code_of_other_loops_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """An entry keeps what it calls in files that numba does not look at: a `git pull` changed them, not its masks. Nor
    is old code taken for new where the disk had room for the new index alone."""
    loaded(tmp_path)(4)
    monkeypatch.setattr(machine_code, "loops_of", lambda _: "others")
    if full:
        with monkeypatch.context() as disk:
            disk.setattr(IndexDataCacheFile, "_save_data", fails)
            loaded(tmp_path)(4)
    again: Any = loaded(tmp_path)
    assert again(4) == 8
    assert not again.stats.cache_hits


def test_where_nothing_may_be_written_it_is_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under another user than it was built by: nothing could even be imported."""
    (tmp_path / "__pycache__").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    with pytest.warns(UserWarning, match="name a folder for it by NUMBA_CACHE_DIR"):
        twice = loaded(tmp_path)
    assert twice(4) == 8


@pytest.mark.parametrize("method", ["save", "load"])
def test_a_full_disk_or_a_file_of_somebody_else_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(IndexDataCacheFile, method, fails)
    assert loaded(tmp_path)(4) == 8
