"""Patterns beside Python's own glob, on trees of files at random; and folders that may not be listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from glob import glob
from pathlib import Path
from random import Random

import pytest

from workflows.globs import matches

PATTERNS = (
    *("*", "?", "[ab]*", "*.png", "a/*", "*/a", "*/b/*.png", "a/../*", "*/../b", "*/./a", "**", "**/*", "**/*.png"),
    *("**/a", "**/a/*", "a/**/b.png", "*/**/a", "**/b/**", "**/*/**/*.png", ".*", ".a/*", "*/.a/*", "**/.*", "**.png"),
    *("a/[", "[", "*/c", "./**/b", "***/*.png"),
)


@pytest.fixture(scope="module", params=range(4))
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in folders, files, hidden ones of both, without links."""
    root, random = tmp_path_factory.mktemp("tree"), Random(request.param)
    folders = [root]
    for _ in range(60):
        name = random.choice(("a", "b", "c", ".a", "a.png", "b.png", ".b.png", "ä b.png", "[.png"))
        path = random.choice(folders) / name
        if path.exists():
            continue
        if name.endswith("png"):
            path.touch()
        else:
            path.mkdir()
            folders.append(path)
    return root


def files(names: Iterable[str]) -> set[str]:
    return {os.path.normpath(name) for name in names if Path(name).is_file()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_pythons_own(tree: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    for whole in (pattern, f"{tree}/{pattern}"):
        assert files(matches(whole, None)) == files(glob(whole, recursive=True))  # noqa: PTH207 - the reference


def test_all_depths_enter_no_links_and_single_ones_do(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c.png").touch()
    (tmp_path / "a/up").symlink_to("..")
    assert list(matches(f"{tmp_path}/**/*.png", None)) == [f"{tmp_path}/a/b/c.png"]
    assert list(matches(f"{tmp_path}/a/*/a/b/*", None)) == [f"{tmp_path}/a/up/a/b/c.png"]


@pytest.mark.parametrize("pattern", ["**/*.png", "**/**/*.png", "**", "*/*.png", "*/*/*.png", "[ac]/*"])
def test_folders_that_may_not_be_listed(
    tmp_path: Path, may_not_be_listed: Callable[[Path], None], pattern: str
) -> None:
    for name in ("a/b.png", "a/c/d.png", "c/e.png", "c/f/g.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    before = set(matches(f"{tmp_path}/{pattern}", None))
    may_not_be_listed(tmp_path / "c")
    denied: list[str] = []
    after = set(matches(f"{tmp_path}/{pattern}", denied))
    assert denied == [f"{tmp_path}/c"]
    assert after == {name for name in before if not name.startswith(f"{tmp_path}/c/")}
    with pytest.raises(PermissionError):
        list(matches(f"{tmp_path}/{pattern}", None))
    may_not_be_listed(tmp_path)
    with pytest.raises(PermissionError):
        list(matches(f"{tmp_path}/{pattern}", []))


def test_a_link_that_leads_to_itself_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.png").touch()
    (tmp_path / "loop").symlink_to("loop")
    for pattern in ("*/*.png", "**/*.png"):
        assert list(matches(f"{tmp_path}/{pattern}", None)) == [f"{tmp_path}/a/b.png"]


def test_what_is_no_folder_or_has_gone_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert list(matches(f"{tmp_path}/a.png/*", None)) == list(matches(f"{tmp_path}/gone/**", None)) == []
