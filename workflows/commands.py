"""What every subcommand can be told: frozen, typed configurations that become flags and, resolved, part of a record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from sam_core.recipes import Recipe
from schemas.layout import checked_name
from workflows.image_limits import MAX_PIXELS
from workflows.option_values import (
    Dataset,
    Several,
    Source,
    require_at_most_a_year,
    require_positive,
    require_round,
    require_seed,
)
from workflows.redact import redact

AUTO = "auto"
"""The recipe that suits the model."""
_TRAINING_SOURCES = (
    "Data sets (DATASET, or DATASET@annotations, @masks, @round-N, @RUN), COCO or SA-1B JSON, folders of SA-1B or of "
    "images/ and labels/, `scenes`, cutouts:FOLDER (scenes with the things that a folder's pictures show on a "
    "transparent ground); each with =WEIGHT behind it to be drawn that many times as often."
)
_TRAINING_PRESETS = (
    "paper_vit_h, paper_vit_l, paper_vit_b, stage3_generator, text, fine_tune, stage3_fine_tune, nano, nano_gpu, "
    "nano_things, nano_small, text_nano or distill."
)


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Make the masks of every image in a source; the same command again goes on where it stopped."""

    source: Source
    """Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`), COCO JSON, or `samples`."""
    dataset: Dataset
    """Where the data set is or is to be: a local folder or s3://bucket/prefix."""
    model: str = "vit_n"
    """A model by name (see `sam-engine models`) or a checkpoint: a file or s3://bucket/key."""
    recipe: str = AUTO
    """reference, sa1b, draft, edges or proposals; auto is draft for vit_n, else reference. Flags change values."""
    run: str | None = None
    """Name of the run. The same model, recipe and name continue a run; anything else starts another beside it."""
    round: int | None = None
    """Engine round that the masks belong to."""
    image_folder: str | None = None
    """Where the pictures of a COCO JSON lie, if not beside it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the model's products; auto is bfloat16 on a GPU and float32 on a CPU."""
    gpu_memory: float = 12.0
    """GB of a GPU's memory that its worker may use, which sets how many images go through it at once."""
    exact_reference: bool = False
    """Run the generator step by step as the released code does, which is slower."""
    workers: int | None = None
    """Processes that hold a model, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    shard_size: int | None = None
    """Images per shard, which is written at once and repeated after a failure; grows with the source if not given."""
    licences: Several = ()
    """Only images under these licences, by every place that states one; * stands for anything; all when not given."""
    max_pixels: int = MAX_PIXELS
    """Larger images become error rows before they are decoded."""
    image_timeout: float = 3600.0
    """Seconds after which an image is given up and its worker restarted."""
    image_memory: float | None = None
    """GB that an image may take when, after a death, images are worked on one by one; half of the free memory."""
    thresholds: Recipe = field(default_factory=Recipe)
    """Single values of the recipe."""

    def __post_init__(self) -> None:
        require_positive(
            self, "workers", "threads", "shard_size", "max_pixels", "image_timeout", "image_memory", "gpu_memory"
        )
        require_at_most_a_year(self, "image_timeout")
        require_round(self.round)
        if self.run is not None:
            checked_name(self.run, "--run")  # before a source is listed and read

    def record(self) -> dict[str, object]:
        """The resolved command for the run record, which holds the recipe in a field of its own."""
        values = asdict(self)
        del values["thresholds"]
        return {name: redact(value) if isinstance(value, str) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """List a source and note every image, by its content, in the data set."""

    source: Source
    """Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`), COCO JSON, or `samples`."""
    dataset: Dataset
    """Where the data set is or is to be: a local folder or s3://bucket/prefix."""
    metadata: str | None = None
    """CSV or Parquet with a column `uri`, or `file_name` with as much of the path as it takes; the rest is metadata."""
    image_folder: str | None = None
    """Where the pictures of a COCO JSON lie, if not beside it."""
    max_pixels: int = MAX_PIXELS
    """Larger images are noted without a size."""

    def __post_init__(self) -> None:
        require_positive(self, "max_pixels")


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """Ask a data set in SQL; views: images, masks, outcomes, annotations, events, models, runs, rounds, summary."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    query: Positional[Annotated[str, arg(metavar="SQL")]]
    """One SQL statement of DuckDB. It can read this data set and nothing else."""
    format: Literal["table", "csv", "json"] = "table"
    """table shows the first rows for reading; csv and json give all of them."""


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Write one HTML page that shows a data set: masks over images, distributions, rejections, errors."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    out: str = "report.html"
    """The page to write."""
    run: str | None = None
    """Show this run alone."""
    images: int = 12
    """Images to show, drawn at random."""


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """List the models, where their checkpoints lie, and how to get those that are missing; or fetch one."""

    action: Positional[Literal["list", "fetch"]] = "list"
    """list shows all of them, fetch downloads one."""
    name: Positional[Annotated[str, arg(metavar="[NAME]")]] = ""
    """What to fetch: vit_b, vit_l, vit_h, vit_t, or yunet, the face detector of `protect`."""
    folder: str | None = None
    """Where to keep it; the folder that SAM_ENGINE_CHECKPOINTS names when not given."""

    def __post_init__(self) -> None:
        if self.action == "list" and (self.name or self.folder):
            raise ValueError("models list shows all of them; `sam-engine models fetch NAME --folder FOLDER` gets one")


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """Say how far the runs of a data set have got, from any machine: done, errors, rate, time left."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    watch: float | None = None
    """Say it again every so many seconds until all runs are finished."""
    json: bool = False
    """One JSON array instead of words."""

    def __post_init__(self) -> None:
        require_positive(self, "watch")


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """Say what a run will take, and afterwards what it took: hours, GPUs, cost, storage, requests."""

    source: Source
    """The images, as for generate; with --actual the data set."""
    model: str = "vit_h"
    """Name of a model; with --actual it is the run's."""
    recipe: str = AUTO
    """reference, sa1b, draft, edges or proposals; auto is draft for vit_n, else reference."""
    gpu: str = "h200"
    """What the workers run on: cpu (one worker of two cores), t4, a10g, l4, l40s, a100, h100 or h200."""
    gpus: int | None = None
    """Workers at once; 1 if neither this nor --hours is given."""
    hours: float | None = None
    """Finish within so many hours, with as many workers as that takes."""
    price: float | None = None
    """Cost of one worker's hour, in any currency."""
    utilisation: float = 0.2
    """Share of a GPU's peak that is assumed where nothing was measured; ViT-H keeps an H100 at 0.22."""
    images: int | None = None
    """Assume so many images instead of listing the source."""
    actual: bool = False
    """SOURCE is a data set: compare its last run by generate, or --run, with what would have been foretold."""
    run: str | None = None
    """The run, by id or name, that --actual looks at."""

    def __post_init__(self) -> None:
        require_positive(self, "gpus", "hours", "price", "utilisation", "images")
        if self.gpus and self.hours:
            raise ValueError("--gpus and --hours exclude each other: one follows from the other")
        if self.utilisation > 1:
            raise ValueError(f"--utilisation is {self.utilisation}; it is a share of the peak, at most 1")
        for name in ("gpus", "hours", "price", "images") if self.actual else ("run",):
            if getattr(self, name) is not None:
                other = "does not go with" if self.actual else "goes only with"
                raise ValueError(f"--{name} {other} --actual, which looks at a run that was made")


@dataclass(frozen=True, slots=True)
class TrainCommand:
    """Train a model; the same command again goes on where it stopped, and finished runs are only shown."""

    sources: Positional[Annotated[Several, arg(metavar="SOURCE [SOURCE ...]", help=_TRAINING_SOURCES)]]
    preset: Annotated[str, arg(help=_TRAINING_PRESETS)] = "fine_tune"
    out: str | None = None
    """Data set that gets checkpoints and model; the first source that is a data set when not given."""
    start: str | None = None
    """Model to begin with, by name or checkpoint, a file or s3://bucket/key; presets say which when not given."""
    run: str | None = None
    """Name of the run. The same preset, data and name continue a run; anything else starts another beside it."""
    workers: int = 1
    """Processes that share every step; one per GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the workers run; auto takes GPUs if there are any. Named, it waits for a cluster to start such machines."""
    threads: int | None = None
    """CPU cores per worker; a fair share when not given."""
    accumulate: int = 1
    """Parts in which each worker takes its share of a step, one after the other, to save memory."""
    shard: bool = False
    """Spread the encoder's parameters over the workers (FSDP2) instead of copying them (DDP)."""
    checkpoint_activations: bool = False
    """Compute the encoder's activations twice instead of keeping them."""
    save_every: int = 100
    """Steps between checkpoints."""
    validate: str | None = None
    """Source whose first 200 images with masks one-click mIoU is measured on, after the training."""
    model: str | None = None
    """Another model than the preset's."""
    teacher: str | None = None
    """Another teacher than the preset's, for distillation."""
    clip: str | None = None
    """Folder of the CLIP that embedded the sources' crops (`sam-engine crops`), for text and text_nano."""
    iterations: int | None = None
    """Another number of steps; decay steps move with it."""
    learning_rate: float | None = None
    """Another base learning rate."""
    images: int | None = None
    """Another number of images per step, over all workers."""
    masks_per_image: int | None = None
    """Another most masks per image."""
    image_size: int | None = None
    """Another side of the input, px."""
    window_share: float | None = None
    """Another share of photographs seen through a window around an object; 0 for models that look at whole images."""
    centre_share: float | None = None
    """Another share (0 to 1) of first points that lie deep inside their object, as people click, not anywhere in it."""
    chosen: float | None = None
    """Another share (0 to 1) of the mask loss for the mask that is shown, not the best; 1 for things without parts."""
    bfloat16: bool | None = None
    """Products in bfloat16 or not; a CPU without AVX512-BF16 or AMX takes some ten times as long as in float32."""
    seed: int | None = None
    """Another seed of samples, prompts and new weights; that of the first stage, where a preset has several."""
    round: int | None = None
    """Engine round that the model belongs to."""

    def __post_init__(self) -> None:
        if isinstance(self.sources, str):  # from Python: each of its letters would be a source
            raise ValueError(f"sources is {self.sources!r}; it must be a tuple of places: ({self.sources!r},)")
        require_positive(
            self, "workers", "threads", "accumulate", "save_every", "iterations", "images", "masks_per_image"
        )
        require_round(self.round)
        for name in ("window_share", "centre_share", "chosen"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; it must lie in 0..1")
        if self.model and {".", "/"} & set(self.model):
            raise ValueError(f"--model {self.model}: here a model's name, such as vit_n; weights go to --start")
        if self.seed is not None:
            require_seed(self.seed)
