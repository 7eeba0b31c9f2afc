"""`sam-engine protect`: pictures in, blurred pictures and a record of every region out.

Pictures in which nothing is to be blurred keep their bytes; the others are written upright, without EXIF, as JPEG where
they were JPEG, else as PNG. A new picture is named by its own bytes, so no other one ever takes its place. A page of
pictures is done when its part of the record is there and leaves none out; where pages end follows from names, so that
pictures that are added change their own pages alone. In the end the parts become
`protected.parquet`, which is a source for `ingest` and `generate`. A folder belongs to one source and one way of
blurring it, which `protect.json` says: the record of another source would take the place of the first one's.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from schemas.ids import canonical_json, content_hash, image_id_of_hash
from schemas.parquet import from_plain_parquet, to_plain_parquet
from workflows.failures import is_of_the_machine, one_line, tell_denied, tell_left_out
from workflows.image_limits import byte_limit
from workflows.images import ImageError, decode, has_more_frames, hides_colours, read_header
from workflows.progress import Progress
from workflows.protect.blur import Region, blur
from workflows.protect.commands import ProtectConfig
from workflows.protect.detect import FaceDetector
from workflows.protect.table import BoxTable
from workflows.scratch import scratch_folder
from workflows.sources import list_images, spelt
from workflows.storage import S3_SCHEME, Store, lies_in, open_store
from workflows.uris import ImageRef, UriReader, read_manifest

MANIFEST_KEY = "protected.parquet"
SETTINGS_KEY = "protect.json"
IMAGES_PER_PAGE = 256
_THREADS = 4
_QUALITY = 95
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "jpeg2000": ".jp2", "mpo": ".jpg"}

RECORD = pa.schema(
    [
        ("uri", pa.string()),  # of the new picture; null where there is none
        ("source_uri", pa.string()),
        ("source_sha256", pa.string()),
        ("sha256", pa.string()),  # of the new picture
        ("licence", pa.string()),
        ("n_regions", pa.int32()),
        ("regions", pa.string()),  # JSON: x, y, w, h in px of the upright picture, kind, score
        ("blurred_by", pa.string()),  # hash of the detector, name of the table
        ("error", pa.string()),  # why there is no new picture; null where there is
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """What became of one picture: a row of RECORD."""

    source_uri: str
    licence: str | None
    blurred_by: str
    uri: str | None = None
    source_sha256: str | None = None
    sha256: str | None = None
    n_regions: int = 0
    regions: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Blurrer:
    """Where regions come from, and how they are blurred. Safe to use from several threads."""

    config: ProtectConfig
    detector: FaceDetector | None
    table: BoxTable | None
    reader: UriReader
    store: Store

    @property
    def name(self) -> str:
        """What decides about regions, for the record."""
        parts = [self.detector and f"detector {self.detector.sha256}", self.table and f"table {self.table.name}"]
        return ", ".join(part for part in parts if part)

    def protect(self, reference: ImageRef) -> Protected:
        """Write the new picture of one image. Raises OSError when a store or the machine fails."""
        row = Protected(source_uri=reference.uri, licence=reference.licence or None, blurred_by=self.name)
        try:
            data = self.reader.read(reference.uri)
            header = read_header(data, max_pixels=self.config.max_pixels)
            pixels = decode(data, max_pixels=self.config.max_pixels)
            holds_more = has_more_frames(data) or hides_colours(data, max_pixels=self.config.max_pixels)
        except (ImageError, OSError) as error:
            if is_of_the_machine(error):
                raise
            return replace(row, error=one_line(error))
        regions = self._regions(reference.uri, pixels)
        if outside := next((region for region in regions if not region.touches(*pixels.shape[:2])), None):
            error_message = f"{outside} lies outside of the picture of {pixels.shape[1]}x{pixels.shape[0]} px"
            return replace(row, error=error_message)
        # Of an animation, or a photograph with a film behind it, one picture was looked at, so only that one goes on.
        redrawn = bool(regions) or holds_more
        blurred = _encoded(blur(pixels, regions, margin=self.config.margin), header.format) if redrawn else data
        suffix = _blurred_suffix(header.format) if redrawn else _SUFFIXES.get(header.format, f".{header.format}")
        new = content_hash(blurred)
        key = f"images/{image_id_of_hash(new)}{suffix}"
        self.store.put(key, blurred)
        return replace(
            row,
            uri=f"{self.store.root}/{key}" if self.store.root.startswith(S3_SCHEME) else key,
            source_sha256=content_hash(data),
            sha256=new,
            n_regions=len(regions),
            regions=json.dumps([asdict(region) for region in regions]),
        )

    def _regions(self, uri: str, pixels: NDArray[np.uint8]) -> list[Region]:
        drawn = self.table.regions(uri) if self.table else []
        seen = self.detector.regions(pixels) if self.detector else []
        # A detector looks at a padded picture, and what it sees in the padding is nowhere.
        return [*drawn, *(region for region in seen if region.touches(*pixels.shape[:2]))]


def protect(config: ProtectConfig) -> int:
    """The subcommand: exit status 0, or 1 when pictures, folders or rows of the table were left out.

    Raises ValueError or OSError, one line each, when the input cannot be used or a store fails for good.
    """
    _require_apart(config.source, config.out)
    denied: list[str] = []
    references = _apart(list_images(config.source, image_folder=config.image_folder, denied=denied), config.out)
    detector = FaceDetector(config.detector, min_score=config.min_score) if config.detector else None
    table = BoxTable(config.boxes) if config.boxes else None
    if table and table.is_empty and not detector:
        raise ValueError(f"{config.boxes}: no rows, so nothing would be blurred")
    reader = UriReader(max_bytes=byte_limit(config.max_pixels))
    blurrer = Blurrer(config, detector, table, reader, open_store(config.out))
    way = _way(blurrer)
    _settle(blurrer.store, way)
    keys = list(_write_pages(blurrer, references, way))
    images, regions, left_out = _write_manifest(blurrer.store, keys)
    left_out += table.unused() if table else []
    tell_left_out(left_out)
    tell_denied(denied)
    print(
        f"{blurrer.store.root}: {images:,} pictures, {regions:,} regions blurred, {len(left_out):,} left out; "
        f"the record, and a source for generate, is {MANIFEST_KEY}"
    )
    return 1 if left_out or denied else 0


def _require_apart(source: str, out: str) -> None:
    """Raises ValueError where raw and new pictures would lie in one folder."""
    new, is_folder = f"{out.rstrip('/')}/images", source.startswith(S3_SCHEME) or Path(source).is_dir()
    if is_folder and (lies_in(new, source) or lies_in(source, new)):
        raise ValueError(f"{out} and {source} overlap: blurred pictures would stand among the others")


def _apart(references: Iterable[ImageRef], out: str) -> Iterator[ImageRef]:
    """The references. Raises ValueError at one that is a blurred picture, as a pattern or a list may name them, too."""
    new = f"{out.rstrip('/')}/images"
    for reference in references:
        if lies_in(reference.uri, new):
            raise ValueError(f"{reference.uri} is a blurred picture of {out}; leave it out of the source")
        yield reference


def _settle(store: Store, way: dict[str, object]) -> None:
    """Note whose pictures a folder holds and how they are blurred. Raises ValueError when that was another before."""
    mine = canonical_json(way).encode()
    if store.put_if_absent(SETTINGS_KEY, mine) != mine:
        raise ValueError(
            f"{store.root} holds pictures of another source, or that were blurred in another way (its {SETTINGS_KEY} "
            "says of which, and how); choose another folder"
        )


def _way(blurrer: Blurrer) -> dict[str, object]:
    """Whose pictures they are, what finds regions, and what blurs them."""
    config = blurrer.config
    table = hashlib.sha256(read_manifest(config.boxes)).hexdigest() if config.boxes else ""
    how = {"min_score": config.min_score, "margin": config.margin}
    return {"source": spelt(config.source), "by": blurrer.name, "table": table, **how}


def _write_pages(blurrer: Blurrer, references: Iterable[ImageRef], way: dict[str, object]) -> Iterator[str]:
    """Do every page that is not done; the keys of the parts of the record, in order."""
    with Progress("protecting", 0) as progress, ThreadPoolExecutor(_THREADS) as workers:
        for page in _pages(references):
            key = _part_key(way, page)
            errors = 0
            if blurrer.table:
                blurrer.table.note(page)
            if not _is_done(blurrer.store, key):
                rows = list(workers.map(blurrer.protect, page))
                errors = sum(row.error is not None for row in rows)
                table = pa.Table.from_pylist([asdict(row) for row in rows], schema=RECORD)
                blurrer.store.put(key, to_plain_parquet(table))
            progress.add(images=len(page), errors=errors)
            yield key


def _pages(references: Iterable[ImageRef]) -> Iterator[list[ImageRef]]:
    """The references in order, about IMAGES_PER_PAGE and at most twice as many at once."""
    page: list[ImageRef] = []
    for reference in references:
        page.append(reference)
        if len(page) == 2 * IMAGES_PER_PAGE or int(content_hash(reference.uri.encode())[:8], 16) % IMAGES_PER_PAGE == 0:
            yield page
            page = []
    if page:
        yield page


def _is_done(store: Store, key: str) -> bool:
    """Whether a page is there without a picture left out: one that was away may be back."""
    return store.exists(key) and not from_plain_parquet(store.get(key), ["uri"])["uri"].null_count


def _part_key(way: dict[str, object], page: list[ImageRef]) -> str:
    """A page is the same page when its pictures, what finds regions, and what blurs them are the same."""
    listed = [[reference.uri, reference.stamp] for reference in page]
    return f"record/part-{content_hash(canonical_json([way, listed]).encode())[:16]}.parquet"


def _write_manifest(store: Store, keys: list[str]) -> tuple[int, int, list[str]]:
    """Join the parts of the record; how many pictures and regions there are, and a line for each that was left out."""
    images = regions = 0
    left_out: list[str] = []
    with scratch_folder() as scratch:
        path = scratch / MANIFEST_KEY
        with pq.ParquetWriter(path, RECORD, compression="zstd") as file:
            for key in keys:
                table = from_plain_parquet(store.get(key))
                good = table.filter(pa.compute.is_valid(table["uri"]))
                file.write_table(good.cast(RECORD))
                images, regions = images + len(good), regions + sum(good["n_regions"].to_pylist())
                bad = table.filter(pa.compute.is_null(table["uri"])).to_pylist()
                left_out += [f"{row['source_uri']}: {row['error']}" for row in bad]
        store.put_file(MANIFEST_KEY, path)
    return images, regions, left_out


def _blurred_suffix(kind: str) -> str:
    return ".jpg" if kind in ("jpeg", "mpo") else ".png"


def _encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """A picture file without any metadata."""
    buffer = io.BytesIO()
    if _blurred_suffix(kind) == ".jpg":
        Image.fromarray(pixels).save(buffer, "jpeg", quality=_QUALITY, subsampling=0)
    else:
        Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
