"""What `sam-engine evaluate` can be told: one frozen configuration per task."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from tyro.conf import subcommand

from sam_core.templates import PLAIN, require_templates
from workflows.image_limits import MAX_PIXELS
from workflows.option_values import require_positive, require_seed

WORK_FIELDS = ("out", "data", "model", "image_folder", "workers", "threads", "shard_size", "device", "max_pixels")
"""Fields that do not decide what is measured, or that the evaluation's identity names by content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """What all tasks have in common."""

    data: tuple[str, ...]
    """COCO or LVIS JSON, images/ with labels/, folder of SA-1B JSON or of BSDS500, data set; NAME=PLACE names it."""
    model: str = "vit_n"
    """A model by name (see `sam-engine models`) or a checkpoint: a file or s3://bucket/key."""
    out: str = "evaluations"
    """Folder or s3://bucket/prefix where results are kept; the same command again goes on there."""
    image_folder: str | None = None
    """Where the pictures of a COCO or LVIS JSON lie, if not beside it; blurred copies, for example."""
    limit: int | None = None
    """At most this many images of each set, drawn at random."""
    seed: int = 0
    """Seed of everything that is drawn at random."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    workers: int | None = None
    """Processes that hold a model, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    shard_size: int | None = None
    """Images that are committed together; grows with the data if not given."""
    max_pixels: int = MAX_PIXELS
    """Larger images end as errors."""

    def __post_init__(self) -> None:
        require_positive(self, "limit", "workers", "threads", "shard_size", "max_pixels")
        require_seed(self.seed)

    def measured(self) -> dict[str, object]:
        """The values that decide what is measured, beside the model, the data and the device."""
        return {name: value for name, value in asdict(self).items() if name not in WORK_FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePointConfig(TaskConfig):
    """Masks from simulated clicks: mIoU after 1, 2, 3, 5 and 9, of the best mask too, over all sets (paper 7.1)."""

    clicks: tuple[int, ...] = (1, 2, 3, 5, 9)
    """Numbers of clicks to report."""
    first_click: Literal["centre", "random"] = "centre"
    """centre: deepest inside the mask, then deepest in the error; random: anywhere in these."""
    least_area: float = 0.0
    """Masks up to this many px are left out."""
    masks_per_image: int | None = None
    """At most this many masks of each image, drawn at random."""
    most_masks: int = 15_000
    """A set with more masks is cut down to `enough-masks`: images are drawn at random until they hold so many."""
    enough_masks: int = 10_000
    """Masks that a set is cut down to."""

    def __post_init__(self) -> None:
        TaskConfig.__post_init__(self)
        require_positive(self, "masks_per_image", "most_masks", "enough_masks")
        require_least_area(self.least_area)
        require_clicks(self.clicks)


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessConfig(TaskConfig):
    """mIoU by group at 1 and 3 random clicks, with bootstrap intervals (paper 6)."""

    by: str = "category"
    """Grouping column: of --table, else a field of the JSON's annotations or images, or `category`."""
    table: str | None = None
    """CSV or Parquet with the column, and `file_name`, or of a COCO JSON `annotation_id`, to say whose it is."""
    clicks: tuple[int, ...] = (1, 3)
    """Numbers of clicks to report."""
    first_click: Literal["centre", "random"] = "random"
    """As for single-point; the paper draws at random."""
    least_area: float = 0.0
    """Masks up to this many px are left out."""
    draws: int = 2000
    """Bootstrap resamples of the images of a group."""

    def __post_init__(self) -> None:
        TaskConfig.__post_init__(self)
        require_least_area(self.least_area)
        require_clicks(self.clicks)
        require_positive(self, "draws")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgesConfig(TaskConfig):
    """Edges of BSDS500 from a grid of masks: ODS, OIS, AP, R50 (paper 7.2)."""

    split: str = "test"
    """Which of ground_truth/* to measure on."""
    humans: bool = False
    """Each person against the others instead of a model."""
    points_per_side: int = 16
    """Clicks along each side of the image."""
    nms_iou: float = 0.7
    """Box IoU above which the less confident of two masks is dropped."""
    thresholds: int = 99
    """Thresholds of the curve, evenly spaced between 0 and 1; matching at each costs most of the time."""

    def __post_init__(self) -> None:
        TaskConfig.__post_init__(self)
        require_positive(self, "points_per_side", "thresholds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsConfig(TaskConfig):
    """Object proposals: class-agnostic average recall of 1000 masks, by size and by frequency (paper 7.3)."""

    points_per_side: int = 64
    """Clicks along each side of the image."""
    nms_iou: float = 0.9
    """Box IoU above which the less confident of two masks is dropped."""
    proposals: int = 1000
    """Masks per image that count, best mean of predicted IoU and stability first."""

    def __post_init__(self) -> None:
        TaskConfig.__post_init__(self)
        require_positive(self, "points_per_side", "proposals")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesConfig(TaskConfig):
    """Masks for the boxes of a detector, refined once: COCO average precision (paper 7.4)."""

    boxes: str
    """COCO results JSON of any detector: image_id, category_id, bbox, score."""

    def measured(self) -> dict[str, object]:
        """Without the name of the file: its boxes are in the plan."""
        return {name: value for name, value in TaskConfig.measured(self).items() if name != "boxes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig(TaskConfig):
    """Masks of phrases: mIoU and P@0.5 with and without a click, beside CLIP's choice of masks (paper 7.5)."""

    clip: str
    """Folder of the CLIP that the model was trained with, as transformers writes it."""
    templates: tuple[str, ...] = PLAIN
    """Sentences with {} in the place of a phrase; their embeddings are averaged."""
    first_click: Literal["centre", "random"] = "centre"
    """Where the point beside a text falls: deepest inside the mask, or anywhere in it."""
    rival: str | None = None
    """Another model for the automatic masks and for clicks alone, as training on text may cost a model both."""
    automatic: bool = True
    """Make automatic masks and choose among them, which costs most of the time."""
    draws: int = 2000
    """Bootstrap resamples of the images."""

    def __post_init__(self) -> None:
        TaskConfig.__post_init__(self)
        require_templates(self.templates)
        require_positive(self, "draws")

    def measured(self) -> dict[str, object]:
        """Without the places of CLIP and of the rival: their hashes are part of the identity."""
        return {name: value for name, value in TaskConfig.measured(self).items() if name not in ("clip", "rival")}


Measurable = SinglePointConfig | EdgesConfig | ProposalsConfig | InstancesConfig | FairnessConfig | TextConfig
_Tasks = (
    Annotated[SinglePointConfig, subcommand("single-point")]
    | Annotated[EdgesConfig, subcommand("edges")]
    | Annotated[ProposalsConfig, subcommand("proposals")]
    | Annotated[InstancesConfig, subcommand("instances")]
    | Annotated[FairnessConfig, subcommand("fairness")]
    | Annotated[TextConfig, subcommand("text")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateCommand:
    """Measure a model as the paper does, beside its figures; the same command again goes on where it stopped."""

    task: _Tasks


def require_least_area(area: float) -> None:
    """Raise ValueError unless it is a number of px."""
    if not 0 <= area < math.inf:
        raise ValueError(f"--least-area is {area}; it must be 0 or more")


def require_clicks(clicks: tuple[int, ...]) -> None:
    """Raise ValueError unless numbers of clicks increase from at least 1."""
    if not clicks or list(clicks) != sorted(set(clicks)) or clicks[0] < 1:
        raise ValueError(f"--clicks must increase from at least 1, got {clicks}")
