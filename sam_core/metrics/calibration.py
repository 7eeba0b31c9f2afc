"""How well the model's own predicted IoU tells good masks from bad ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def iou_correlation(predicted: Floats, real: Floats) -> float:
    """Pearson correlation of predicted and real IoU, arrays of one shape; NaN when either is constant or empty.

    Raises:
        ValueError: arrays of different shapes.
    """
    if predicted.shape != real.shape:
        raise ValueError(f"{predicted.shape} predicted against {real.shape} real IoU values")
    if not predicted.size or not np.ptp(predicted) or not np.ptp(real):  # a mean that is rounded is no constant's own
        return float("nan")
    x, y = (values.ravel().astype(np.float64) - values.mean(dtype=np.float64) for values in (predicted, real))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")
