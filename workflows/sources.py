"""Where images come from: folder, glob, S3 prefix, Parquet of URIs, COCO JSON, or the photographs in scikit-image.

A source yields references, never pixels. Only local paths and `s3://` are read; every other scheme is refused.
"""

from __future__ import annotations

import fnmatch
import glob
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from workflows.globs import matches, split
from workflows.manifests import coco_images, parquet_images
from workflows.redact import require_no_secrets
from workflows.storage import S3_SCHEME, Entry, LocalStore, open_store
from workflows.uris import ImageRef, UriReader, address_of, full_address, stamp_of

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".ppm", ".pgm", ".pbm", ".jp2", ".j2k", ".avif"),
}
WORD = "samples"
"""The source that is no place."""
SAMPLES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)


def list_images(source: str, *, image_folder: str | None = None, denied: list[str] | None = None) -> Iterator[ImageRef]:
    """The references of a source in a fixed order, page by page.

    `image_folder` is where the pictures of a COCO JSON lie; its own folder, or `images` in it, when not given. Folders
    in a folder that may not be listed are left out, and are in `denied` once all references were taken; without it they
    raise PermissionError.
    Raises ValueError (one line) when the source is missing, empty, malformed or of an unknown kind.
    """
    references = _reader(source, image_folder, denied)(source)
    first = next(references, None)
    if first is None:
        not_seen = f"; {denied[0]} may not be listed" if denied else ""
        raise ValueError(f"{source}: no images found (looked for {' '.join(sorted(SUFFIXES))}){not_seen}")
    return itertools.chain([first], references)


def spelt(source: str) -> str:
    """One spelling of a source, from whatever folder it is named."""
    return source if source == WORD else full_address(source).rstrip("/")


def _reader(source: str, image_folder: str | None, denied: list[str] | None) -> Callable[[str], Iterator[ImageRef]]:
    """The function that reads this kind of source."""
    remote = source.startswith(S3_SCHEME)
    require_no_secrets(source)
    if not source:
        raise ValueError("an empty source; give a folder, glob, s3://bucket/prefix, Parquet or COCO JSON")
    if image_folder and not source.lower().endswith(".json"):
        raise ValueError(f"{source} is no COCO JSON, of whose pictures alone --image-folder says where they lie")
    if "://" in source and not remote:
        raise ValueError(f"{source}: images are read from local paths and s3:// only")
    if source == WORD:
        if Path(source).is_dir():
            raise ValueError("samples: a folder of that name lies here: say ./samples for it, or go elsewhere for ours")
        return _samples
    if not remote and Path(source).is_dir():
        return lambda folder: _folder(folder, denied)
    suffix = PurePosixPath(source).suffix.lower()
    if not remote and not glob.has_magic(source) and not Path(source).exists():
        raise ValueError(f"{source}: no such folder or file")
    if suffix == ".parquet":
        return parquet_images
    if suffix == ".json":
        return lambda path: coco_images(path, image_folder)
    return _s3 if remote else lambda pattern: _local_glob(pattern, denied)


def _folder(source: str, denied: list[str] | None) -> Iterator[ImageRef]:
    """Every picture in a folder, recursively."""
    store = LocalStore(source)
    return _pictures(store.root, store.list(denied=denied))


def _pictures(root: str, entries: Iterable[Entry]) -> Iterator[ImageRef]:
    """Every file with an image's ending in a listed folder or S3 prefix; hidden files are left out."""
    for entry in entries:
        if PurePosixPath(entry.key).suffix.lower() in SUFFIXES and not is_hidden(entry.key):
            yield ImageRef(address_of(root, entry.key), entry.stamp)


def _local_glob(pattern: str, denied: list[str] | None) -> Iterator[ImageRef]:
    """Every file that a pattern matches, or the one file of that name."""
    literal = Path(pattern).is_file()
    for match in [pattern] if literal else sorted(set(matches(pattern, denied))):
        path = Path(match).absolute()
        if path.is_file():
            uri = address_of(str(path.parent), path.name)
            yield ImageRef(uri, stamp_of(uri))


def _s3(source: str) -> Iterator[ImageRef]:
    """The one object of that name, every image below that prefix, or, where none is, what it matches as a pattern."""
    if PurePosixPath(source).suffix.lower() in SUFFIXES and UriReader().exists(source):
        return iter([ImageRef(source)])
    store = open_store(source)
    below = _pictures(store.root, store.list())
    if not glob.has_magic(source):
        return below
    first = next(below, None)
    return _s3_glob(source) if first is None else itertools.chain([first], below)


def _s3_glob(pattern: str) -> Iterator[ImageRef]:
    """Every object whose whole address matches the pattern; here `*` also matches `/`, but nothing hidden."""
    store = open_store(split(pattern)[0])
    for entry in store.list():
        uri = address_of(store.root, entry.key)
        if fnmatch.fnmatchcase(uri, pattern) and ("/." in pattern or not is_hidden(entry.key)):
            yield ImageRef(uri, entry.stamp)


def is_hidden(key: str) -> bool:
    """Whether a name on the way to an object begins with a dot, as hidden files do on disks."""
    return any(part.startswith(".") for part in key.split("/"))


def _samples(_: str) -> Iterator[ImageRef]:
    """Colour photographs that ship inside scikit-image; nothing is downloaded."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise ValueError("samples: scikit-image is not installed; pip install 'sam-data-engine[demo]'")
    store = LocalStore(Path(package.origin).parent / "data")
    found = {entry.key: entry for entry in store.list()}
    for name in SAMPLES:
        if name in found:
            yield ImageRef(address_of(store.root, name), found[name].stamp)
