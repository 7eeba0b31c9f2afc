"""What `sam-engine export`, `import`, `relate` and `protect` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflows.image_limits import MAX_PIXELS
from workflows.option_values import Dataset, Out, Several, Source, require_positive

Format = Literal["sa1b", "coco", "lvis", "huggingface", "imagefolder", "webdataset", "labels"]
Kind = Literal["auto", "sa1b", "coco", "label-studio", "cvat"]
_OF_PICTURES = ("huggingface", "imagefolder", "webdataset")
StageName = Literal["as-stated", "assisted-manual", "semi-automatic", "automatic"]


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Write masks for other tools to read; killed, the same command goes on where it stopped."""

    dataset: Dataset
    """DATASET for all masks, or DATASET@masks, DATASET@annotations, DATASET@RUN; a local folder or s3://bucket/prefix."""
    out: Out
    """Where to write: a local folder or s3://bucket/prefix."""
    format: Format
    """sa1b (one JSON per image), coco, lvis, huggingface (Parquet), imagefolder, webdataset (tar) or labels (PNG)."""
    where: str = "true"
    """SQL condition on the columns of `masks`, such as "predicted_iou > 0.9 AND area > 100"."""
    images: str | None = None
    """SQL that returns the `image_id`s to export; those of all images if not given."""
    licences: Several = ()
    """Only images under these licences; * stands for anything, case does not count. All images when not given."""
    distinct: bool = False
    """Leave out masks that `sam-engine relate` found to be duplicates of better ones."""
    pictures: bool = True
    """Write the pictures beside the masks; huggingface, imagefolder and webdataset are nothing without them."""
    images_per_file: int = 256
    """Images that are written together, and per file of huggingface and webdataset."""
    overwrite: bool = False
    """Delete what an earlier export wrote there and begin anew."""
    max_pixels: int = MAX_PIXELS
    """Larger images are left out."""

    def __post_init__(self) -> None:
        require_positive(self, "images_per_file", "max_pixels")
        if not self.pictures and self.format in _OF_PICTURES:
            raise ValueError(f"--no-pictures: {self.format} has masks in or beside its pictures; take another --format")
        if not self.where.strip():
            raise ValueError('--where is empty; it must be a condition, such as "area > 100"')
        if self.images is not None and not self.images.strip():
            raise ValueError('--images is empty; it must be SQL, such as "SELECT image_id FROM images"')


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """Take masks of others into a data set, with their stage and annotator; doing it again adds nothing."""

    source: Source
    """A COCO JSON, a folder of SA-1B, a Label Studio JSON or a CVAT XML; a local path or s3://bucket/key."""
    dataset: Dataset
    """Where the data set lies or shall lie: a local folder or s3://bucket/prefix."""
    kind: Kind = "auto"
    """What the source is; auto looks."""
    image_folder: str | None = None
    """Where the pictures lie, if not beside the source or in `images` beside it."""
    stage: StageName = "as-stated"
    """Stage of the masks; where the source states none, SA-1B is automatic and all else assisted-manual."""
    annotator: str = "imported"
    """Who drew the masks, where the source does not say."""
    crowds: bool = False
    """Take COCO's crowds, too: single masks over many objects."""
    max_pixels: int = MAX_PIXELS
    """Larger images are refused."""

    def __post_init__(self) -> None:
        require_positive(self, "max_pixels")
        if not self.annotator.strip():
            raise ValueError("--annotator is empty; name whoever drew the masks")


@dataclass(frozen=True, slots=True)
class RelateConfig:
    """Find out which masks are parts of others, and which repeat others; views relations, mask_tree, distinct_masks."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    containment: float = 0.9
    """A mask is a part of a larger one when this share of its pixels lies in it."""
    duplicate_iou: float = 0.9
    """Masks of this IoU or more are the same; the better one is kept, `distinct_masks` shows those."""

    def __post_init__(self) -> None:
        for name in ("containment", "duplicate_iou"):
            if not 0.5 < getattr(self, name) <= 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be above 0.5, at most 1"
                )
