"""Fetching ONNX Runtime Web: from a tarball, once; nothing with another hash is kept."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from workflows.annotate import assets
from workflows.annotate.assets import AssetError, find_runtime

FILES = {"ort.mjs": b"export const run = 1;", "ort.wasm": b"\0asm"}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """A tarball as npm makes them."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in {
            "../outside.txt": b"no",
            **{f"package/dist/{name}": data for name, data in files.items()},
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, known files of two lines, no npm and no registry."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    monkeypatch.setattr(assets, "RUNTIME_FILES", hashes)
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    for name in (assets.TARBALL_VARIABLE, assets.REGISTRY_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_a_tarball_is_unpacked_once_and_only_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tarball = packed(tmp_path / "ort.tgz", FILES)
    monkeypatch.setenv(assets.TARBALL_VARIABLE, str(tarball))
    folder = find_runtime().folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    tarball.unlink()
    assert "getting onnxruntime-web" in capsys.readouterr().err
    assert find_runtime().folder == folder
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize("name", [assets.CACHE_VARIABLE, "XDG_CACHE_HOME"])
def test_an_empty_variable_names_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """41 MB came into the folder that the command was called in."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(assets.CACHE_VARIABLE)
    monkeypatch.setenv(name, "")
    monkeypatch.setenv(assets.TARBALL_VARIABLE, str(packed(tmp_path / "ort.tgz", FILES)))
    monkeypatch.chdir(tmp_path)
    assert find_runtime().folder.parent == tmp_path / "home" / ".cache" / "sam-engine"


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(assets.TARBALL_VARIABLE, str(packed(tmp_path / "ort.tgz", FILES)))
    (find_runtime().folder / "ort.wasm").write_bytes(b"half")
    assert (find_runtime().folder / "ort.wasm").read_bytes() == FILES["ort.wasm"]


@pytest.mark.parametrize("files", [FILES | {"ort.wasm": b"\0asm and more"}, {"ort.mjs": FILES["ort.mjs"]}])
def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    monkeypatch.setenv(assets.TARBALL_VARIABLE, str(packed(tmp_path / "ort.tgz", files)))
    with pytest.raises(AssetError, match=r"ort\.wasm"):
        find_runtime()
    assert not list((tmp_path / "cache").rglob("ort.wasm"))


def test_what_is_no_tarball_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ort.tgz").write_text("<html>not found</html>")
    monkeypatch.setenv(assets.TARBALL_VARIABLE, str(tmp_path / "ort.tgz"))
    with pytest.raises(AssetError, match=r"holds no package/dist/ort\.mjs"):
        find_runtime()


def test_without_any_way_to_get_them_the_line_says_which_ways_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        AssetError, match=f"install npm, or set {assets.REGISTRY_VARIABLE} .* {assets.TARBALL_VARIABLE}"
    ):
        find_runtime()


def test_a_registry_without_encryption_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(assets.REGISTRY_VARIABLE, "http://registry.example")
    with pytest.raises(AssetError, match="must be an https address"):
        find_runtime()
