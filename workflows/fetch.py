"""Released checkpoints over HTTP: with a bar, resumed where a download broke off, kept only if the hash is right."""

from __future__ import annotations

import fcntl
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sam_core.model.checkpoint import CHECKPOINTS_VARIABLE, PACKAGED_WEIGHTS, RELEASED_FILES, file_sha256
from sam_core.presets import did_you_mean

CHUNK = 1 << 16
"""Bytes that are read at a time: as many may be lost where a connection breaks off."""
SECONDS_WITHOUT_DATA = 30.0
_PARTIAL, _NOTHING_LEFT = 206, 416


@dataclass(frozen=True, slots=True)
class Release:
    """Where a checkpoint is published, and the SHA-256 of the file."""

    url: str
    sha256: str


_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
RELEASES: Mapping[str, Release] = {
    "vit_b": Release(
        f"{_SAM}/{RELEASED_FILES['vit_b']}", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "vit_l": Release(
        f"{_SAM}/{RELEASED_FILES['vit_l']}", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "vit_h": Release(
        f"{_SAM}/{RELEASED_FILES['vit_h']}", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
    "vit_t": Release(
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    "yunet": Release(  # the face detector of `sam-engine protect`, MIT; the hash is that of its Git LFS pointer
        "https://github.com/opencv/opencv_zoo/raw/82b38c8f98e7b52aa171400f3e4c722352d0669f/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
}


def fetch(name: str, folder: str | None, *, releases: Mapping[str, Release] = RELEASES) -> Path:
    """Download a checkpoint unless it is there whole; the file.

    Args:
        name: a model of `releases`.
        folder: where to keep it; the folder that SAM_ENGINE_CHECKPOINTS names when None.

    Raises:
        ValueError: no such model, nowhere to keep it, or a file of another hash, which is removed.
        OSError: the download failed, in one line; the same command goes on where it stopped.
    """
    if not name:
        raise ValueError(f"say which checkpoint: {', '.join(releases)}")
    if (PACKAGED_WEIGHTS / f"{name}.safetensors").exists():
        raise ValueError(f"{name} ships inside the package: there is nothing to fetch")
    if name not in releases:
        raise ValueError(f"no checkpoint is published for {name!r}; {did_you_mean(name, releases)}")
    place = folder or os.environ.get(CHECKPOINTS_VARIABLE)
    if not place:
        raise ValueError(f"say where to keep it: --folder FOLDER, or set {CHECKPOINTS_VARIABLE}")
    if "://" in place:
        raise ValueError(f"{place}: checkpoints are fetched to a local folder; a bucket takes a copy from there")
    release = releases[name]
    path = Path(place) / file_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    if _is_there(path, release):
        return path
    with _alone(partial) as file:
        if _is_there(path, release):  # by another command, which was waited for
            partial.unlink()
        else:
            _fill(file, partial, name, release)
            partial.replace(path)
    return path


def file_name(name: str) -> str:
    """The name under which a release is kept."""
    return RELEASED_FILES.get(name) or RELEASES[name].url.rpartition("/")[2]


def _is_there(path: Path, release: Release) -> bool:
    return path.exists() and file_sha256(path) == release.sha256


@contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """A file to append to, which no other command of this machine writes meanwhile. Two would put the same bytes behind
    one another, and both lose what they have."""
    while True:
        with partial.open("ab") as file:
            _lock(file, partial)
            if not _is_at(partial, file):  # the command that had it is done
                continue
            try:
                yield file
            except OSError as error:
                if error.errno:  # a full disk does not say where it is full
                    error.filename = error.filename or str(partial)
                raise
            finally:
                if not file.tell() and _is_at(partial, file):
                    partial.unlink()
            return


def _lock(file: BinaryIO, partial: Path) -> None:
    """Wait until nobody else has the file; at once on disks that know no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another command fetches {partial}; waiting for it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return


def _is_at(partial: Path, file: BinaryIO) -> bool:
    return partial.exists() and os.path.samestat(partial.stat(), os.fstat(file.fileno()))


def _fill(file: BinaryIO, partial: Path, name: str, release: Release) -> None:
    """Fetch what is missing of a file. Raises as `fetch`."""
    try:
        _download(release.url, file, name)
        file.flush()
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise OSError(f"{release.url} cannot be fetched: {error}; the same command goes on where it stopped") from error
    if (found := file_sha256(partial)) != release.sha256:
        partial.unlink()
        raise ValueError(f"{release.url} has SHA-256 {found}, not {release.sha256}; it was removed")


def _download(url: str, file: BinaryIO, name: str) -> None:
    """Append what is missing to a file; from the beginning where the server cannot resume."""
    have = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS_WITHOUT_DATA)
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_LEFT and have:
            return
        raise
    with answer, _bar() as bar:
        if answer.headers.get_content_type() == "text/html":
            raise ConnectionError("a web page is answered, as by a network that wants a login")
        start = have if answer.status == _PARTIAL else file.truncate(0)
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        task = bar.add_task(name, total=total, completed=start)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            bar.advance(task, len(chunk))
    if total is not None and (size := file.tell()) < total:
        raise ConnectionError(f"the connection ended after {size:,} of {total:,} bytes")


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
