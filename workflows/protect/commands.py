"""What `sam-engine protect` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.image_limits import MAX_PIXELS
from workflows.option_values import Out, Source, require_positive


@dataclass(frozen=True, slots=True)
class ProtectConfig:
    """Blur faces, plates or other regions in new pictures, with a record; killed, the same command goes on."""

    source: Source
    """Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`), COCO JSON, or `samples`."""
    out: Out
    """Where the new pictures go, as images/*; a local folder or s3://bucket/prefix."""
    detector: str | None = None
    """ONNX file of a face detector like OpenCV's YuNet; `yunet` is what `sam-engine models fetch yunet` gets."""
    boxes: str | None = None
    """CSV or Parquet with the columns uri or file_name, x, y, w, h (px of the upright picture) and, if there, kind."""
    min_score: float = 0.6
    """Detections below are passed over; a low value blurs more that is no face."""
    margin: float = 0.2
    """The blur fades out over this share of the region's sides around it."""
    image_folder: str | None = None
    """Where the pictures of a COCO JSON lie, if not beside it."""
    max_pixels: int = MAX_PIXELS
    """Larger images are left out."""

    def __post_init__(self) -> None:
        if not (self.detector or self.boxes):
            raise ValueError("say what to blur: --detector FILE.onnx, --boxes TABLE, or both")
        if not 0 < self.min_score < 1:
            raise ValueError(f"--min-score is {self.min_score}; it must be between 0 and 1")
        if not 0 <= self.margin <= 2:
            raise ValueError(f"--margin is {self.margin}; it must be from 0 to 2")
        require_positive(self, "max_pixels")
