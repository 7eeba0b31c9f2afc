"""Pictures by the names that annotation tools have for them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from workflows.sources import SUFFIXES, list_images
from workflows.storage import S3_SCHEME, open_store
from workflows.uris import ImageRef

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight digits before the name of a file that was uploaded."""


class PictureFolder:
    """The pictures below a folder or S3 prefix, found by path or, where that is unique, by name alone.

    A name from a source is only ever compared with what was listed, so none can lead out of the folder. Two names that
    lead to one picture are refused: one of `a/1.jpg` and `b/1.jpg` may well mean another, which is not there.
    """

    def __init__(self, folder: str) -> None:
        self.root = open_store(folder).root
        self._references = {reference.uri.removeprefix(f"{self.root}/"): reference for reference in list_images(folder)}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self._references:
            self._by_name[PurePosixPath(path).name].append(path)
        self._meant: dict[str, str] = {}

    def find(self, name: str) -> ImageRef:
        """The picture of a name. Raises ValueError when there is none, or several, or another name means it, too."""
        text = _path_of(name)
        found = self._find(name, text)
        path = text.lstrip("/")
        if (other := self._meant.setdefault(found.uri, path)) != path:
            raise ValueError(f"{other[:100]!r} and {path[:100]!r} both lead to {found.uri}, though their names differ")
        return found

    def _find(self, name: str, text: str) -> ImageRef:
        for candidate in _candidates(text):
            if candidate in self._references:
                return self._references[candidate]
            found = self._by_name.get(PurePosixPath(candidate).name, [])
            if len(found) == 1:
                return self._references[found[0]]
            if found:
                raise ValueError(f"{name[:100]!r} may be any of {len(found)} pictures in {self.root}")
        raise ValueError(f"no picture {name[:100]!r} in {self.root}; --image-folder says where they lie")


def picture_folder(source: str, image_folder: str | None) -> str:
    """Where the pictures of a file lie when nobody says: `images` beside it if there is one, else beside it."""
    if image_folder:
        return image_folder
    beside = source.rpartition("/")[0] or "."
    inside = f"{beside}/images"
    return inside if next(iter(open_store(inside).list()), None) is not None else beside


def names_picture(text: str) -> bool:
    """Whether a text ends as the name of a picture does."""
    return PurePosixPath(_path_of(text)).suffix.lower() in SUFFIXES


def _path_of(name: str) -> str:
    """The path in an address; of Label Studio's local files the one in its query."""
    if "://" not in name and not name.startswith("/data/"):
        return name
    parts = urlsplit(name.removeprefix(S3_SCHEME) if name.startswith(S3_SCHEME) else name)
    asked = parse_qs(parts.query).get("d")
    return asked[0] if asked else unquote(parts.path)


def _candidates(path: str) -> Iterator[str]:
    """The path as it is, and as it was before it was uploaded."""
    yield path.lstrip("/")
    last = PurePosixPath(path).name
    if match := _UPLOADED.fullmatch(last):
        yield match[1]
