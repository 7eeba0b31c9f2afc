"""The report: one HTML page, complete in itself, that shows what a data set holds and how it came about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from schemas.layout import DATASET_KEY
from schemas.records import DatasetRecord, from_json
from workflows.commands import ReportConfig
from workflows.report.page import gather, render
from workflows.report.training import read_training
from workflows.sizes import tell_unread
from workflows.sql import connect
from workflows.storage import open_store, write_file


def report(config: ReportConfig) -> int:
    """The subcommand: write the page and print where it lies; exit status 0."""
    write_report(config.dataset, config.out, run=config.run, images=config.images)
    print(config.out)
    return 0


def write_report(dataset: str, out: str | Path, *, run: str | None = None, images: int = 12) -> None:
    """Write the report of a data set.

    Args:
        dataset: a local folder or `s3://bucket/prefix`.
        out: the page to write; replaced as a whole or not at all.
        run: only this run, by its run_id or name; all runs when not given.
        images: how many photographs to show at most.

    Raises:
        ValueError: one line: no data set there, no such run, or a negative number of images.
        OSError: the page cannot be written.
    """
    if images < 0:
        raise ValueError(f"images is {images}; it must be 0 or more")
    connection = connect(dataset)
    tell_unread(connection)
    store = open_store(dataset)
    record = from_json(DatasetRecord, store.get(DATASET_KEY), where=f"{store.root}/{DATASET_KEY}")
    page = gather(connection, record, store.root, run=run, images=images)
    page = replace(page, training=read_training(store))
    write_file(str(out), render(page).encode("utf-8"))
