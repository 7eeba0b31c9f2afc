"""What every subcommand can be told: frozen, typed configurations that become flags and, resolved, part of a record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from tyro.conf import Positional

from sam_core.recipes import Recipe
from workflows.images import MAX_PIXELS

AUTO = "auto"
"""The recipe that suits the model."""


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Make the masks of every image in a source; the same command again goes on where it stopped."""

    source: Positional[str]
    """Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`), COCO JSON, or `samples`."""
    dataset: Positional[str]
    """Where the data set lies or shall lie: a local folder or s3://bucket/prefix."""
    model: str = "vit_n"
    """A model by name (see `sam-engine models`) or a checkpoint file."""
    recipe: str = AUTO
    """reference, sa1b, draft, edges or proposals; auto is draft for vit_n, else reference. Flags change values."""
    run: str | None = None
    """Name of the run. The same model, recipe and name continue a run; anything else starts another beside it."""
    image_folder: str | None = None
    """Where the pictures of a COCO JSON lie, if not beside it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    exact_reference: bool = False
    """Run the generator step by step as the released code does, which is slower."""
    workers: int | None = None
    """Processes that hold a model, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    shard_size: int | None = None
    """Images per shard, which is written at once and repeated after a failure; grows with the source if not given."""
    max_pixels: int = MAX_PIXELS
    """Larger images become error rows before they are decoded."""
    image_timeout: float = 3600.0
    """Seconds after which an image is given up and its worker restarted."""
    thresholds: Recipe = field(default_factory=Recipe)
    """Single values of the recipe."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "shard_size", "max_pixels", "image_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be positive")

    def record(self) -> dict[str, object]:
        """The resolved command for the run record, which holds the recipe in a field of its own."""
        values = asdict(self)
        del values["thresholds"]
        return values


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """List a source and note every image, by its content, in the data set."""

    source: Positional[str]
    """Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`), COCO JSON, or `samples`."""
    dataset: Positional[str]
    """Where the data set lies or shall lie: a local folder or s3://bucket/prefix."""
    metadata: str | None = None
    """CSV or Parquet with a column `uri` or `file_name`; its other columns are kept with the images."""
    image_folder: str | None = None
    """Where the pictures of a COCO JSON lie, if not beside it."""
    max_pixels: int = MAX_PIXELS
    """Larger images are noted without a size."""


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """Ask a data set in SQL; views: images, masks, outcomes, annotations, events, models, runs, rounds, summary."""

    dataset: Positional[str]
    """A local folder or s3://bucket/prefix."""
    query: Positional[str]
    """One SQL statement of DuckDB. It can read this data set and nothing else."""
    format: Literal["table", "csv", "json"] = "table"
    """table shows the first rows for reading; csv and json give all of them."""


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Write one HTML page that shows a data set: masks over images, distributions, rejections, errors."""

    dataset: Positional[str]
    """A local folder or s3://bucket/prefix."""
    out: str = "report.html"
    """The page to write."""
    run: str | None = None
    """Show this run alone."""
    images: int = 12
    """Images to show, drawn at random."""


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """List the models, where their checkpoints lie, and how to get those that are missing."""
