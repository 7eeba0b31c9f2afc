"""A closer look: what clicks or a box mean, asked several times, of an image and of its mirror image.

A model sees an image at the size of its input: a nucleus of 15 px in a scan of 1,272 px is gone by then, and a click
on it means nothing. A box says how large its object is, so that one window shows it as large as it should be
(`windows.window_around`). Clicks do not say it: they are asked in a window of every level of the pyramid. Each window
is seen as it is and mirrored, which should make no difference and does: the mean of both is better than either. What
counts is the mask that the model believes in and that is most like all others; one that goes on beyond its window is
no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, takewhile

import numpy as np
import numpy.typing as npt
import torch

from sam_core.answers import answer
from sam_core.geometry import Frame
from sam_core.masks.batch import MaskBatch
from sam_core.masks.kernels import pixels
from sam_core.mirror import mirror_logits, mirror_prompts, mirror_window
from sam_core.model.prompt_encoder import NOT_A_POINT
from sam_core.model.sam import Sam
from sam_core.predict import Look, Prompts, require_places
from sam_core.windows import Box, outline, window_around, windows_over

Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
LEVEL = 0.08
"""How much less a predicted IoU counts in a window half as wide: through a small window a part of a large object looks
whole. Chosen, like the next one, on photographs and nuclei (tests/benchmarks/LOG.md)."""
SIZE = 0.02
"""How much less it counts for each factor of 2 between a mask's area and a quarter of its window's."""
LEAST_TRUST = 1e-3
"""Of a mask whose predicted IoU is less than these: it is an answer, if the last one."""


@torch.no_grad()
def look_closer(sam: Sam, look: Look, mirrored: Look, size: tuple[int, int], prompts: Prompts) -> MaskBatch:
    """The masks of one prompt in the window that shows its object best.

    Args:
        sam: the model.
        look: embeddings of windows of one image, by this model (`predict.look_at`).
        mirrored: the same of its mirror image, `image[:, ::-1]`.
        size: (height, width) of the image, px.
        prompts: one prompt (N = 1) that says where the object is: clicks, a box or both; a text beside them if at all.

    Returns:
        The batch of 1, whose frame says which window it is. Its `iou` is what each mask is trusted: the mean of its
        predicted IoU, less `LEVEL` and `SIZE`, and of its IoU with what all windows found; 0 for no answer.

    Raises:
        ValueError: neither clicks nor a box, several prompts, or prompts that do not fit the model or the image.
    """
    windows, width = windows_of(size, prompts), size[1]
    turned = mirror_prompts(prompts, width)
    found = []
    for window in windows:
        there = answer(sam, look(window), prompts)
        again = answer(sam, mirrored(mirror_window(window, width)), turned)
        logits = torch.lerp(there.logits, mirror_logits(again.logits, again.frame), 0.5)
        found.append(MaskBatch(logits, torch.lerp(there.iou, again.iou, 0.5), there.frame))
    return _most_trusted(found)


def windows_of(size: tuple[int, int], prompts: Prompts) -> list[Box]:
    """Where to look for the object of one prompt; for clicks level by level, while all of them lie in the window.

    Raises ValueError when it is not one prompt, has no place, as text alone, or one that is no number.
    """
    if {len(part) for part in (prompts.points, prompts.boxes) if part is not None} != {1}:
        raise ValueError("a closer look takes one prompt that has a place: clicks, a box or both")
    require_places(prompts)
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


def _most_trusted(found: Sequence[MaskBatch]) -> MaskBatch:
    """Of the answers level by level the one that holds the mask which is trusted most."""
    masks = [(mask, batch.frame) for batch in found for mask in pixels(batch)[0].cpu().numpy()]
    answers = np.array([_is_answer(*each) for each in masks])
    if not answers.any():
        return replace(found[0], iou=torch.zeros_like(found[0].iou))
    levels = np.repeat(np.arange(len(found)), [batch.iou.shape[1] for batch in found])
    predicted = np.concatenate([batch.iou[0].double().cpu().numpy() for batch in found])
    share = np.array([max(np.count_nonzero(mask), 1) / mask.size for mask, _ in masks])
    own = (predicted - LEVEL * levels - SIZE * np.abs(np.log2(4 * share))).clip(LEAST_TRUST)
    weights = np.where(answers, own, 0)
    alike = _alike([(mask, frame.crop_box) for mask, frame in masks]) @ weights / weights.sum()
    trust = np.where(answers, (own + alike) / 2, 0)
    chosen = int(levels[trust.argmax()])
    best = found[chosen]
    return replace(best, iou=best.iou.new_tensor(trust[levels == chosen])[None])


def _is_answer(mask: Masks, frame: Frame) -> bool:
    """Whether a mask has pixels, and none at a border of its window inside the image."""
    x0, y0, x1, y1 = frame.crop_box
    height, width = frame.original_size
    cut = (x0 > 0, mask[:, 0]), (y0 > 0, mask[0]), (x1 < width, mask[:, -1]), (y1 < height, mask[-1])
    return bool(mask.any()) and not any(inside and bool(border.any()) for inside, border in cut)


def _alike(masks: Sequence[tuple[Masks, Box]]) -> Floats:
    """IoU [K, K] of masks that lie in windows of one image."""
    areas = np.array([np.count_nonzero(mask) for mask, _ in masks], np.float64)
    common = np.diag(areas)
    for (i, one), (j, other) in combinations(enumerate(masks), 2):
        common[i, j] = common[j, i] = _common(*one, *other)
    return common / np.maximum(areas[:, None] + areas - common, 1)


def _common(one: Masks, here: Box, other: Masks, there: Box) -> int:
    """How many px of the image belong to both masks."""
    left, top = max(here[0], there[0]), max(here[1], there[1])
    right, bottom = min(here[2], there[2]), min(here[3], there[3])
    if left >= right or top >= bottom:
        return 0
    shared = (left, top, right, bottom)
    return int(np.count_nonzero(_part(one, here, shared) & _part(other, there, shared)))


def _part(mask: Masks, window: Box, box: Box) -> Masks:
    """What of a window's mask lies in a box of the image inside that window."""
    x0, y0, x1, y1 = box
    left, top, *_ = window
    return mask[y0 - top : y1 - top, x0 - left : x1 - left]
