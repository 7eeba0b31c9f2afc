"""A closer look: what clicks or a box mean where the object is small in its image.

A model sees an image at the size of its input: a nucleus of 15 px in a scan of 1,272 px is gone by then, and a click on
it means nothing. A box says how large its object is, so that one window shows it as large as it should be
(`windows.window_around`). Clicks do not say it. They are asked in a window of every level of the pyramid, and the most
confident answer counts; one that goes on beyond its window is no answer.
"""

from __future__ import annotations

from itertools import takewhile
from math import inf

import numpy as np
import torch

from sam_core.answers import answer
from sam_core.masks.batch import MaskBatch
from sam_core.model.prompt_encoder import NOT_A_POINT
from sam_core.model.sam import Sam
from sam_core.predict import Look, Prompts
from sam_core.windows import Box, outline, window_around, windows_over

LEVEL = 0.06
"""By how much the predicted IoU in a window has to exceed that in one twice as wide: through a small window a part of a
large object looks whole. Chosen on halves of coco128 and bsds500 and a quarter of bbbc038 (tests/benchmarks/LOG.md)."""


@torch.no_grad()
def look_closer(sam: Sam, look: Look, size: tuple[int, int], prompts: Prompts) -> MaskBatch:
    """The masks of one prompt in the window that shows its object best, as `answers.answer` gives them.

    Args:
        sam: the model.
        look: embeddings of windows of one image, by this model (`predict.look_at`).
        size: (height, width) of the image, px.
        prompts: one prompt (N = 1) that says where the object is: clicks, a box or both; a text beside them if at all.

    Returns:
        The batch of 1, whose frame says which window it is.

    Raises:
        ValueError: neither clicks nor a box, several prompts, or prompts that do not fit the model or the image.
    """
    best, most = None, -inf
    for level, window in enumerate(windows_of(size, prompts)):
        found = answer(sam, look(window), prompts)
        trust = found.iou.max().item() - LEVEL * level
        if best is None or (trust > most and _within(found)):
            best, most = found, trust
    assert best is not None, "every prompt has a window"
    return best


def windows_of(size: tuple[int, int], prompts: Prompts) -> list[Box]:
    """Where to look for the object of one prompt; for clicks level by level, while all of them lie in the window."""
    if {len(part) for part in (prompts.points, prompts.boxes) if part is not None} != {1}:
        raise ValueError("a closer look takes one prompt that has a place: clicks, a box or both")
    clicks = _clicks(prompts)
    if prompts.boxes is not None:
        windows = [window_around(size, outline(prompts.boxes[0].tolist()))]
    elif clicks:
        x, y = np.mean(clicks, 0)
        windows = windows_over(size, (float(x), float(y)))
    else:
        windows = []
    height, width = size
    return list(takewhile(lambda window: _shows(window, clicks), windows)) or [(0, 0, width, height)]


def _clicks(prompts: Prompts) -> list[tuple[float, float]]:
    """The places of a prompt's clicks; those that fill up a batch are none."""
    if prompts.points is None or prompts.labels is None:
        return []
    return [(x, y) for x, y in prompts.points[0][prompts.labels[0] != NOT_A_POINT].tolist()]


def _shows(window: Box, clicks: list[tuple[float, float]]) -> bool:
    x0, y0, x1, y1 = window
    return all(x0 <= x <= x1 and y0 <= y <= y1 for x, y in clicks)


def _within(found: MaskBatch) -> bool:
    """Whether the most confident mask has pixels, and none at a border of the window inside the image."""
    mask, (x0, y0, x1, y1) = found.best().masks()[0, 0], found.frame.crop_box
    height, width = found.frame.original_size
    cut = (x0 > 0, mask[:, 0]), (y0 > 0, mask[0]), (x1 < width, mask[:, -1]), (y1 < height, mask[-1])
    return bool(mask.any()) and not any(inside and bool(border.any()) for inside, border in cut)
