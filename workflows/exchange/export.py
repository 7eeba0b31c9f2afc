"""`sam-engine export`: committed masks, page by page, in the format of another tool."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict

from workflows.exchange.commands import ExportConfig, Format
from workflows.exchange.left_out import LeftOut, noted_in
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
_DECIDES = ("dataset", "format", "where", "images", "licences", "distinct", "pictures", "images_per_file")
"""Flags that decide about the content; the others may change when an export goes on."""


def export(config: ExportConfig) -> int:
    """The subcommand: exit status 0, or 1 when images were left out. Raises ValueError or OSError, one line each."""
    selection = Selection(config)
    totals = selection.totals()
    if config.format == "sa1b":
        require_scores(totals)
    asked = {name: value for name, value in asdict(config).items() if name in _DECIDES and value is not None}
    asked |= {"dataset": selection.name, "licences": list(config.licences), "committed": selection.fingerprint()}
    with scratch_folder() as scratch:
        target = open_target(config.out, scratch, asked, OWNED, overwrite=config.overwrite)
        pages = -(-totals.images // config.images_per_file)
        reader = UriReader(max_bytes=byte_limit(config.max_pixels))
        job = Job(target, totals, pages, config.pictures, config.max_pixels, reader, anew=config.overwrite)
        left_out = _write(selection, config.images_per_file, _WRITERS[config.format](job), job)
    lines = left_out.lines
    if totals.unsized:
        unread = f"{totals.unsized:,} images without masks, of which nobody knows the size"
        lines.append(f"{unread}; `sam-engine ingest SOURCE {shlex.quote(selection.dataset)}` reads them")
    tell_left_out(lines)
    images, masks = totals.images - left_out.images, totals.masks - left_out.masks
    print(f"{target.store.root}: {images:,} images, {masks:,} masks as {config.format}")
    return 1 if lines else 0


def _write(selection: Selection, images_at_once: int, writer: Writer, job: Job) -> LeftOut:
    """Every page that is not done, and those that lacked pictures, which may be back; what is left out. Where an
    earlier export was deleted all, as a command that still writes that one may put a last file of it before it stops.

    Raises ValueError where no picture at all can be read, as of a disk that is not mounted.
    """
    totals, left_out = job.totals, noted_in(job.target)
    with Progress("exporting", totals.images) as progress:
        for page in selection.pages(images_at_once):
            masks = sum(row["n_masks"] for row in page.rows)
            errors = 0
            if job.anew or page.number in left_out.noted or not writer.is_done(page):
                errors = left_out.write(writer, job, page, selection.load(page))
            progress.add(images=len(page.rows), masks=masks, errors=errors)
        if left_out.images == totals.images:
            raise ValueError(f"no picture can be read: {left_out.lines[0]}")
        writer.finish(totals.images - left_out.images, totals.masks - left_out.masks)
    return left_out
