"""What `sam-engine crops` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflows.image_limits import MAX_PIXELS
from workflows.option_values import Dataset, require_positive


@dataclass(frozen=True, slots=True)
class CropsConfig:
    """Embed the crops of a data set's masks by a CLIP, for training text prompts; can be repeated and goes on."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix with masks."""
    clip: str
    """Folder of a CLIP as the transformers library writes it."""
    draws: int = 4
    """Crops of each mask; every second one without its background."""
    min_area: int = 100**2
    """Smaller masks are left out, px."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where CLIP runs; auto takes a GPU when there is one."""
    workers: int | None = None
    """Processes that hold a CLIP, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    max_pixels: int = MAX_PIXELS
    """Larger images are left out."""

    def __post_init__(self) -> None:
        require_positive(self, "draws", "min_area", "workers", "threads", "max_pixels")
