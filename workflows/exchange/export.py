"""`sam-engine export`: committed masks, page by page, in the format of another tool."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict

from workflows.exchange.commands import ExportConfig, Format
from workflows.exchange.selection import Selection
from workflows.exchange.target import open_target
from workflows.exchange.writers import OWNED, Job, Writer
from workflows.exchange.writers.coco import CocoWriter, LvisWriter
from workflows.exchange.writers.huggingface import HuggingFaceWriter
from workflows.exchange.writers.imagefolder import ImageFolderWriter
from workflows.exchange.writers.labels import LabelsWriter
from workflows.exchange.writers.sa1b import Sa1bWriter, require_scores
from workflows.exchange.writers.webdataset import WebDatasetWriter
from workflows.failures import tell_left_out
from workflows.image_limits import byte_limit
from workflows.progress import Progress
from workflows.scratch import scratch_folder
from workflows.uris import UriReader

_WRITERS: Mapping[Format, Callable[[Job], Writer]] = {
    "sa1b": Sa1bWriter,
    "coco": CocoWriter,
    "lvis": LvisWriter,
    "huggingface": HuggingFaceWriter,
    "imagefolder": ImageFolderWriter,
    "webdataset": WebDatasetWriter,
    "labels": LabelsWriter,
}
_WITH_PICTURES = ("huggingface", "imagefolder", "webdataset")
_DECIDES = ("dataset", "format", "where", "licences", "distinct", "pictures", "images_per_file")
"""Flags that decide about the content; the others may change when an export goes on."""


def export(config: ExportConfig) -> int:
    """The subcommand: exit status 0, or 1 when images were left out. Raises ValueError or OSError, one line each."""
    selection = Selection(config)
    totals = selection.totals()
    if config.format == "sa1b":
        require_scores(totals)
    asked = {name: value for name, value in asdict(config).items() if name in _DECIDES}
    asked |= {"dataset": selection.name, "licences": list(config.licences), "committed": selection.fingerprint()}
    with scratch_folder() as scratch:
        target = open_target(config.out, scratch, asked, OWNED, overwrite=config.overwrite)
        pages = -(-totals.images // config.images_per_file)
        reader = UriReader(max_bytes=byte_limit(config.max_pixels))
        pictures = config.pictures or config.format in _WITH_PICTURES
        job = Job(target, totals, pages, pictures, config.max_pixels, reader, anew=config.overwrite)
        writer = _WRITERS[config.format](job)
        _write(selection, writer, config, totals.images)
    if totals.unsized:
        unread = f"{totals.unsized:,} images without masks, of which nobody knows the size"
        tell_left_out([f"{unread}; `sam-engine ingest SOURCE {shlex.quote(selection.dataset)}` reads them"])
    print(f"{target.store.root}: {totals.images:,} images, {totals.masks:,} masks as {config.format}")
    return 1 if totals.unsized else 0


def _write(selection: Selection, writer: Writer, config: ExportConfig, images: int) -> None:
    """Every page that is not done; where an earlier export was deleted all, as a command that still writes that one may
    put a last file of it before it stops."""
    with Progress("exporting", images) as progress:
        for page in selection.pages(config.images_per_file):
            masks = sum(row["n_masks"] for row in page.rows)
            if config.overwrite or not writer.is_done(page):
                writer.write(page, selection.load(page))
            progress.add(images=len(page.rows), masks=masks)
        writer.finish()
