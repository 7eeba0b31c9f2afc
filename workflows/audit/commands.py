"""What `sam-engine audit` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.option_values import Dataset, Several, require_seed


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Write one interactive page that audits a data set: masks, shapes, bias, duplicates, places, licences, quality."""

    dataset: Dataset
    """DATASET, a local folder or s3://bucket/prefix; or DATASET@RUN, or DATASET@annotations for masks by people."""
    against: Several = ()
    """Reference data sets to show beside it: data sets as above, or COCO or LVIS JSON files."""
    out: str = "audit.html"
    """The page to write."""
    json: str | None = None
    """Write the numbers of the page here as well."""
    licences: Several = ()
    """Audit only images whose licence fits one of these patterns, such as "CC BY*"; capitals do not matter."""
    images: int = 5_000
    """Images whose masks are looked at for shape, coverage and duplicates; counts and sizes are of all images."""
    pictures: int = 1_000
    """Images whose files are opened for duplicates and positions; 0 opens none."""
    duplicate_iou: float = 0.9
    """Two masks of an image are near-duplicates from this IoU on."""
    target: float = 0.94
    """Share of masks that should be good; the paper found 94 %."""
    target_iou: float = 0.9
    """A mask is good when its IoU with its corrected self is above this."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        for name in ("images", "pictures"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} is {getattr(self, name)}; it must be 0 or more")
        require_seed(self.seed)
        for name in ("duplicate_iou", "target", "target_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must lie in 0 to 1")
