"""Figures of the classical baselines on a data set, measured once and stored beside the models' results.

    python -m tests.benchmarks.classical --data FOLDER

A baseline's figure is that of the parameter which scores best on the data set itself: generous to it. Evaluating a
model reads the stored figures of all images and repeats nothing but the cheap control.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro
from rich.progress import track

from sam_core.metrics.clicks import first_clicks
from sam_core.metrics.iou import mask_iou
from tests.benchmarks.baselines import BASELINES, Baseline
from tests.benchmarks.ground_truth import GroundTruth, Selection, TrueImage, open_ground_truth
from tests.benchmarks.record import RESULTS, cpu_seconds, environment, write_json
from tests.benchmarks.refusals import refusals

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """One baseline at its best parameter: mean IoU over `masks` masks, and the means of every parameter tried."""

    miou: float
    parameter: float
    meaning: str
    masks: int
    by_parameter: dict[str, float]


@dataclass(frozen=True, slots=True)
class Options:
    """Measures the classical baselines on all of a data set and stores their figures."""

    data: Path
    """Folder of the data set: COCO JSON, BSDS500 or label PNGs."""
    seed: int = 0
    """Of the draw of masks, where the data set's rule takes some of them."""


def labels(baseline: Baseline) -> list[str]:
    """The parameters as records name them."""
    return [f"{parameter:.4g}" for parameter in baseline.parameters]


def baseline_iou(baseline: Baseline, image: TrueImage) -> Floats:
    """IoU of every mask (rows) at every parameter."""
    clicks = first_clicks(image.masks).xy.astype(np.int64)
    found = [baseline.segment(image.image, clicks, parameter) for parameter in baseline.parameters]
    return np.stack([mask_iou(torch.from_numpy(masks), torch.from_numpy(image.masks)).numpy() for masks in found], 1)


def figure(baseline: Baseline, iou: Floats) -> Figure:
    """The best column of IoU [N, P]."""
    means = iou.mean(0)
    best = int(means.argmax())
    by_parameter = dict(zip(labels(baseline), means.tolist(), strict=True))
    return Figure(float(means[best]), baseline.parameters[best], baseline.meaning, len(iou), by_parameter)


def measure(baseline: Baseline, truth: GroundTruth, selection: Selection) -> Figure:
    """The baseline's figure over the selected masks of a data set."""
    iou = []
    for name in track(truth.chosen(selection), f"{truth.name} {baseline.name}", disable=not sys.stderr.isatty()):
        image = truth.select(truth.read(name), selection)
        if len(image.masks):
            iou.append(baseline_iou(baseline, image))
    return figure(baseline, np.concatenate(iou))


def stored_path(truth: GroundTruth) -> Path:
    return RESULTS / f"classical_{truth.name}.json"


def stored_figures(truth: GroundTruth) -> dict[str, dict[str, Any]]:
    """The stored figures of a data set, by baseline; empty when it was never measured."""
    path = stored_path(truth)
    return json.loads(path.read_text())["baselines"] if path.exists() else {}


def measured_already(entry: dict[str, Any] | None, baseline: Baseline, selection: Selection) -> bool:
    """Whether a stored entry is of the same masks and parameters, so that measuring would repeat it."""
    return (
        entry is not None
        and entry["selection"] == asdict(selection)
        and list(entry["by_parameter"]) == labels(baseline)
    )


def update(truth: GroundTruth, selection: Selection) -> None:
    """Measures what is not stored yet; every figure is stored at once, with the machine it was measured on."""
    entries = stored_figures(truth)
    for baseline in BASELINES:
        if not measured_already(entries.get(baseline.name), baseline, selection):
            start = cpu_seconds()
            found = asdict(measure(baseline, truth, selection)) | {"selection": asdict(selection)}
            entries[baseline.name] = found | {"cpu_seconds": cpu_seconds() - start} | asdict(environment())
            write_json(stored_path(truth), {"data": truth.name, "least_area": truth.least_area, "baselines": entries})
        best = entries[baseline.name]
        print(f"{truth.name:10} {baseline.name:14} {best['miou']:.3f} at {best['parameter']:.4g}", flush=True)


def main() -> None:
    options = tyro.cli(Options)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with refusals():
        update(open_ground_truth(options.data), Selection(seed=options.seed))


if __name__ == "__main__":
    main()
