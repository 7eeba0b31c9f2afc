"""Label images: a grey PNG of any depth whose values tell masks apart, 0 where there is none."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def decode_labels(data: bytes, where: str) -> NDArray[np.integer]:
    """Labels [H, W] of a grey PNG of any depth. Raises ValueError, one line, when it is something else."""
    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if labels is None or labels.ndim != 2:
        raise ValueError(f"{where}: not a grey label image")
    return labels
