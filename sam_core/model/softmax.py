"""Softmax over an axis that is not the last, beside a score of 0: on a CPU passes over lines in the first cache."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sam_core.model.vector_math import can_compile, exp, wide_vectors

_compiled = njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "nnan", "contract"}, error_model="numpy")


def softmax_beside_zero(scores: Tensor) -> Tensor:
    """Softmax over the middle axis of [N, T, L] and one more score, 0, whose weight is left out: [N, T, L].

    On a CPU the scores are used up.
    """
    if not can_compile(scores):
        return F.pad(scores, (0, 0, 1, 0)).softmax(1)[:, 1:]
    _over_middle(scores.numpy())
    return scores


@_compiled  # type: ignore[untyped-decorator]
def _over_middle(x: NDArray[np.float32]) -> None:
    """Overwrites x [N, T, L] with its softmax over T and a zero."""
    wide_vectors()
    peak, total = np.empty(x.shape[2], np.float32), np.empty(x.shape[2], np.float32)
    for n in range(x.shape[0]):
        peak[:] = np.float32(0)
        for t in range(x.shape[1]):
            line = x[n, t]
            for i in range(len(line)):
                peak[i] = max(peak[i], line[i])
        for i in range(len(total)):
            total[i] = exp(-peak[i])
        for t in range(x.shape[1]):
            line = x[n, t]
            for i in range(len(line)):
                line[i] = exp(line[i] - peak[i])
                total[i] += line[i]
        for i in range(len(total)):
            total[i] = np.float32(1) / total[i]
        for t in range(x.shape[1]):
            line = x[n, t]
            for i in range(len(line)):
                line[i] *= total[i]
