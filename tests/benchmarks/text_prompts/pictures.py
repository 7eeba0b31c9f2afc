"""What the experiment looks like: curves, and phrases with the masks that they bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sam_core.answers import answer
from sam_core.clip import Clip
from sam_core.masks import rle
from sam_core.model.sam import Sam
from sam_core.predict import Prompts, encode
from tests.benchmarks.photographs import read_image

ROWS, COLUMNS = 3, 4
SHOWN = 320
"""Side of a scene in the picture, px."""
_TRUTH, _FOUND = (255, 255, 255), (255, 0, 200)


def draw_curves(path: Path, curves: Mapping[str, list[dict[str, float]]]) -> None:
    """CLIP's retrieval and SAM's IoU over their steps."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    clip, sam = curves["clip"], curves["sam"]
    left.plot([dot["step"] for dot in clip], [100 * dot["retrieval"] for dot in clip], lw=0.8)
    left.set(title="CLIP: phrases whose nearest crop of 128 is right, %", xlabel="step", ylim=(0, 100))
    for name, label in (("embedding_iou", "embedding of a crop"), ("click_iou", "with a click")):
        right.plot([dot["step"] for dot in sam], [100 * dot[name] for dot in sam], label=label)
    right.set(title="SAM in training: IoU, %", xlabel="step", ylim=(0, 100))
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_examples(path: Path, sam: Sam, clip: Clip, folder: Path) -> None:
    """The first phrases of a test set, one per scene: the mask in colour, the truth as a white line."""
    document = json.loads((folder / "instances.json").read_text())
    asked: dict[int, dict[str, Any]] = {}
    for annotation in document["annotations"]:
        if "caption" in annotation:
            asked.setdefault(annotation["image_id"], annotation)
    names = {image["id"]: image["file_name"] for image in document["images"]}
    chosen = list(asked.items())[: ROWS * COLUMNS]
    figure = Figure(figsize=(COLUMNS * 2.9, ROWS * 3.2), layout="constrained")
    for axes, (number, annotation) in zip(np.ravel(figure.subplots(ROWS, COLUMNS)), chosen, strict=False):
        image = read_image(folder / "images" / names[number])
        found, iou = _found(sam, clip, image, annotation)
        truth = rle.decode(annotation["segmentation"]["counts"].encode(), image.shape[:2])
        axes.imshow(_outlined(image, truth, found))
        axes.set_title(f"{_broken(annotation['caption'])}\nIoU {100 * iou:.0f}", fontsize=8)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 88})


def _found(
    sam: Sam, clip: Clip, image: NDArray[np.uint8], annotation: Mapping[str, Any]
) -> tuple[NDArray[np.bool_], float]:
    """The most confident mask of a phrase and its IoU."""
    with torch.inference_mode():
        text = clip.embed_texts([annotation["caption"]]).vectors
        mask = answer(sam, encode(sam, [image]), Prompts(text=text)).best().masks()[0, 0].numpy()
    truth = rle.decode(annotation["segmentation"]["counts"].encode(), image.shape[:2])
    return mask, float((mask & truth).sum() / max(1, (mask | truth).sum()))


def _outlined(image: NDArray[np.uint8], truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    large = cv2.resize(image, (SHOWN, SHOWN), interpolation=cv2.INTER_CUBIC)
    region = cv2.resize(found.astype(np.uint8), (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST) > 0
    large[region] = (0.55 * large[region] + 0.45 * np.array(_FOUND)).astype(np.uint8)
    shape = cv2.resize(truth.astype(np.uint8), (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(shape, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(large, contours, -1, _TRUTH, 2)
    return np.asarray(large)


def _broken(text: str) -> str:
    """A phrase over two lines where it is long."""
    if len(text) <= 34:
        return text
    middle = text.find(" ", len(text) // 2 - 4)
    return text if middle < 0 else f"{text[:middle]}\n{text[middle + 1 :]}"
