"""Simulated annotators: what a person with clicks and a brush would do to objects whose true masks are known.

A click falls where the error is largest, at the centre of its distance transform (`metrics.clicks`), until the mask has
IoU 0.9 or nine clicks are given; what is still wrong then is brushed away, so that the mask becomes the true one. The
first click asks for three outputs and takes the most confident, every later one for a single output, with the previous
logits as mask prompt, as people use the app. They zoom in as far as they like, and the model sees the window around the
object then (`sam_core.windows`). Seconds follow from a stated cost model, not from a clock.

Shapes: N objects of one image of [H, W] px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from sam_core.geometry import masks_at_once, uncrop
from sam_core.honour import honour_clicks
from sam_core.masks import rle
from sam_core.masks.candidates import object_column
from sam_core.masks.kernels import pixels
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.clicks import correction_clicks, first_clicks
from sam_core.metrics.iou import mask_iou
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Look, Prompts, decode
from sam_core.windows import ZOOM, Windowed, box_of, by_window, inside

Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Habits:
    """When a simulated person is content: at this IoU, or, after so many clicks, with the brush in hand.

    zoom: they see a window at least so many times as large as the object; 0 for the whole image always.
    """

    iou: float = 0.9
    clicks: int = 9
    zoom: int = ZOOM

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1 or self.clicks < 1:
            raise ValueError(f"an annotator wants an IoU in (0, 1] and gives at least 1 click, not {self}")
        if self.zoom < 0 or self.zoom == 1:
            raise ValueError(f"zoom is 0, or 2 or more times the object's size, not {self.zoom}")

    def windows(self, masks: PackedMasks) -> list[Windowed]:
        """What they look at to draw these masks."""
        height, width = masks.size
        if self.zoom:
            return by_window(masks.size, map(box_of, masks), zoom=self.zoom)
        return [Windowed((0, 0, width, height), np.arange(len(masks)))] if len(masks) else []


@dataclass(frozen=True, slots=True)
class Costs:
    """Working time in seconds. With these values nine clicks and the brush take about as long as the paper's first
    masks (34 s), three clicks less than its last ones (14 s)."""

    find: float = 4.0
    """To see the next object, and to move and zoom there."""
    click: float = 2.0
    """To click and to judge the answer."""
    brush: float = 10.0
    """To take up the brush and look closely."""
    stroke: float = 0.1
    """For each px of the side of a square as large as what is wrong: strokes follow borders, not areas."""
    review: float = 1.5
    """To accept or delete a mask that was there already."""

    def __post_init__(self) -> None:
        if min(getattr(self, field.name) for field in fields(self)) < 0:
            raise ValueError(f"working times are 0 or more, not {self}")

    def drawing(self, clicks: Ints, brushed: Ints) -> Floats:
        """Seconds [N] of drawing masks with so many clicks and brushed px [N]."""
        brushing = np.where(brushed > 0, self.brush + self.stroke * np.sqrt(brushed), 0.0)
        return (self.find + self.click * clicks + brushing).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Drawn:
    """N finished masks, in the order of the objects.

    rle: objects [N], COCO compressed counts as saved. clicks: [N]. brushed: [N] px that the brush changed, 0 where
    clicks were enough.
    points: float32 [N, 2], xy px, the first click. predicted_iou: float32 [N], the model's word after the last click.
    first_iou: [N], real IoU after the first click.
    """

    rle: npt.NDArray[np.object_]
    clicks: Ints
    brushed: Ints
    points: npt.NDArray[np.float32]
    predicted_iou: npt.NDArray[np.float32]
    first_iou: Floats

    def __len__(self) -> int:
        return len(self.rle)

    def take(self, indices: Ints) -> Drawn:
        """Those at these places, in this order."""
        return Drawn(*(getattr(self, field.name)[indices] for field in fields(self)))


@torch.inference_mode()
def draw(
    sam: Sam, look: Look, truth: PackedMasks, habits: Habits | None = None, *, prompts_per_batch: int = 32
) -> Drawn:
    """Draw every object of an image.

    Args:
        sam: a model in eval mode.
        look: embeddings of windows of the one image, by this model.
        truth: the objects' masks, none empty.
        habits: the defaults when not given.
        prompts_per_batch: prompts decoded together, in large windows fewer; a bound on memory only.

    Raises:
        ValueError: an empty mask.
    """
    habits = habits or Habits()
    order, parts = [], []
    for seen in habits.windows(truth):
        embedding = look(seen.window)
        at_once = masks_at_once(embedding.frames[0].crop_size, prompts_per_batch)
        for start in range(0, len(seen.indices), at_once):
            some = seen.indices[start : start + at_once]
            order.append(some)
            parts.append(_draw_batch(sam, embedding, truth.at(some), habits))
    return join(parts).take(np.argsort(np.concatenate(order))) if parts else nothing()


def work_through(
    sam: Sam,
    look: Look,
    truth: PackedMasks,
    costs: Costs,
    *,
    seconds: float,
    habits: Habits | None = None,
    at_once: int = 16,
) -> Drawn:
    """Draw objects one after the other until the working time of the image is used up.

    Args:
        look: as for `draw`.
        truth: masks in the order of work, such as most prominent first; none empty.
        costs: the cost model.
        seconds: working time; a mask that was begun in time is finished.
        at_once: objects decoded together, which changes nothing but speed.

    Returns:
        The masks of the objects that there was time for, a prefix of `truth`.
    """
    done: list[Drawn] = []
    spent = 0.0
    for start in range(0, len(truth), at_once):
        part = draw(sam, look, truth[start : start + at_once], habits, prompts_per_batch=at_once)
        begun = spent + np.concatenate([[0.0], np.cumsum(costs.drawing(part.clicks, part.brushed))])
        in_time = int(np.searchsorted(begun[:-1], seconds))
        done.append(part.take(np.arange(in_time)))
        spent = float(begun[-1])
        if spent >= seconds:
            break
    return join(done) if done else nothing()


def join(parts: Sequence[Drawn]) -> Drawn:
    """Masks of several batches as one."""
    return Drawn(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Drawn)))


def nothing() -> Drawn:
    """No masks."""
    none = np.zeros(0, np.int64)
    points = np.zeros((0, 2), np.float32)
    return Drawn(object_column([]), none, none, points, points[:, 0], none.astype(np.float64))


def prominence(masks: PackedMasks) -> Ints:
    """The order of work, indices [N]: the largest first, as people go by prominence (paper, section 4); ties stay."""
    order: Ints = np.argsort(-np.array([rle.area(counts) for counts in masks.rles], np.int64), kind="stable")
    return order


def _draw_batch(sam: Sam, embedding: ImageEmbedding, whole: PackedMasks, habits: Habits) -> Drawn:
    """Draw objects that lie in the one window of the embedding."""
    frame = embedding.frames[0]
    corner = np.array(frame.crop_box[:2], np.float32)
    truth = np.empty((len(whole), *frame.crop_size), np.bool_)
    for place, mask in enumerate(whole):
        truth[place] = inside(mask, frame.crop_box)
    count, side = len(truth), sam.config.low_res_size
    masks, clicks = np.zeros_like(truth), np.zeros(count, np.int64)
    real, first_iou, predicted = np.zeros(count), np.zeros(count), np.zeros(count, np.float32)
    xy, labels = np.zeros((count, habits.clicks, 2), np.float32), np.full((count, habits.clicks), -1, np.int64)
    logits = torch.zeros(count, 1, side, side)
    active = np.arange(count)
    for click in range(habits.clicks):
        given = first_clicks(truth[active]) if click == 0 else correction_clicks(masks[active], truth[active])
        xy[active, click], labels[active, click] = given[0] + corner, given[1]
        prompts = Prompts(
            points=torch.from_numpy(xy[active, : click + 1]),
            labels=torch.from_numpy(labels[active, : click + 1]),
            mask_logits=logits[active] if click else None,
        )
        best = honour_clicks(decode(sam, embedding, prompts, multimask=click == 0).best(), prompts)
        found = pixels(best)[:, 0].cpu()
        logits[active], masks[active], predicted[active] = (
            best.logits.cpu(),
            found.numpy(),
            best.iou[:, 0].cpu().numpy(),
        )
        real[active] = mask_iou(found, torch.from_numpy(truth[active])).numpy()
        clicks[active] += 1
        if click == 0:
            first_iou = real.copy()
        active = active[real[active] < habits.iou]
        if not len(active):
            break
    brushed = np.zeros(count, np.int64)
    brushed[active] = np.count_nonzero(masks[active] ^ truth[active], axis=(1, 2))
    masks[active] = truth[active]
    saved = object_column([rle.encode(uncrop(mask, frame)) for mask in masks])
    return Drawn(saved, clicks, brushed, xy[:, 0], predicted, first_iou)
