"""Figures of the experiment: ways to a mask by test set, targets, curves and speed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_core.answers import answer
from sam_core.clip import Clip
from sam_core.metrics.text_prompts import Way
from sam_core.model.sam import Sam
from sam_core.predict import Prompts, encode
from tests.benchmarks.photographs import read_image
from tests.benchmarks.text_prompts.train_on_gpu import CURVE
from workflows.storage import LocalStore
from workflows.train.metrics import read_metrics

Ways = Mapping[str, Mapping[str, float]]
"""By part of a test set ("" for all of it): by way to a mask, mIoU in percent; and the number of phrases."""
AMBIGUOUS = "ambiguous clicks"
STEPS_IN_A_DOT, ROWS_IN_A_DOT = 25, 5
REPEATS = 30


def ways(name: str, figures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The table of a test set out of the figures of `evaluate text`, whose rows read "SET, PART: WAY"."""
    found: dict[str, dict[str, float]] = {}
    for figure in figures:
        part, _, way = figure["row"].removeprefix(name).removeprefix(", ").rpartition(": ")
        if figure["figure"] == "mIoU":
            found.setdefault(part, {})[way] = 100 * figure["value"]
        if figure["figure"] == "phrases":
            found.setdefault(part, {})["phrases"] = figure["value"]
    return found


def targets(table: Mapping[str, Ways], text_to_mask_ms: float) -> dict[str, Any]:
    """Each target with its figure and whether it is met; unseen combinations, in wordings that CLIP was trained on."""
    whole = table["unseen_combinations"][""]
    none = dict.fromkeys((Way.TEXT_POINT, Way.POINT, Way.RIVAL_POINT), float("nan"))
    clicked = table["unseen_combinations"].get(AMBIGUOUS, none)
    above_ranking = whole[Way.TEXT] - whole[Way.RANKED]
    above_point = clicked[Way.TEXT_POINT] - max(clicked[Way.POINT], clicked[Way.RIVAL_POINT])
    gap = whole[Way.IMAGE] - whole[Way.TEXT]
    return {
        "text_miou": _target(whole[Way.TEXT], whole[Way.TEXT] >= 50),
        "text_above_clip_ranking": _target(above_ranking, above_ranking > 0),
        "text_and_point_above_point_on_ambiguous_clicks": _target(above_point, above_point >= 10),
        "image_embedding_above_text": _target(gap, gap <= 8),
        "text_to_mask_ms": _target(text_to_mask_ms, text_to_mask_ms < 150),
    }


def training_curve(dataset: Path) -> list[dict[str, float]]:
    """IoU of the mask that the crop's embedding brings, and after one click, over SAM's training."""
    (run,) = {path.parent.name for path in dataset.glob("training/run=*/finished.json")}
    rows = read_metrics(LocalStore(dataset), run.removeprefix("run="))
    return [
        {
            "step": float(part[-1].step),
            "embedding_iou": float(np.mean([row.values["first_iou"] for row in part])),
            "click_iou": float(np.mean([row.values["last_iou"] for row in part])),
        }
        for start in range(0, len(rows), STEPS_IN_A_DOT)
        if (part := rows[start : start + STEPS_IN_A_DOT])
    ]


def curve_from_gpu(folder: Path) -> list[dict[str, float]]:
    """The same of a training by `train_on_gpu`."""
    with (folder / CURVE).open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [
        {
            "step": part[-1]["step"],
            "embedding_iou": float(np.mean([row["first_iou"] for row in part])),
            "click_iou": float(np.mean([row["last_iou"] for row in part])),
        }
        for start in range(0, len(rows), ROWS_IN_A_DOT)
        if (part := rows[start : start + ROWS_IN_A_DOT])
    ]


def latency_ms(sam: Sam, clip: Clip, picture: Path) -> dict[str, float]:
    """Medians on this machine: a phrase to its embedding, that to a mask of the picture, and the picture's encoding."""
    image = read_image(picture)
    embedding = encode(sam, [image])
    text = clip.embed_texts(["the small striped ring"]).vectors
    return {
        "phrase_to_embedding": _median_ms(lambda: clip.embed_texts(["the small striped ring"])),
        "text_to_mask": _median_ms(lambda: answer(sam, embedding, Prompts(text=text)).best().masks()),
        "encode_image": _median_ms(lambda: encode(sam, [image])),
    }


def _median_ms(work: Callable[[], object]) -> float:
    seconds = []
    with torch.inference_mode():
        work()
        for _ in range(REPEATS):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def _target(value: float, met: bool) -> dict[str, Any]:
    return {"value": value, "met": bool(met)}
