"""What fine-tuning brings: `vit_n` on half of the images of a label PNG set, measured on the other half.

    python -m tests.benchmarks.fine_tune --data FOLDER --iterations 270 --learning-rate 4e-4 --image-size 640 \
        --window-share 0 --chosen 1 --bfloat16 True --workers 2 --threads 1 \
        --json tests/benchmarks/results/fine_tune_bbbc038.json

The halves are the images at even and odd places of the sorted names; near-duplicates that the set may hold across them
are not looked for. One click at the maximum of the distance transform, at most 8 masks of an image, as in `quality`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from sam_core.metrics.single_point import ClickFigures, Sample, evaluate_clicks
from sam_core.model.checkpoint import load_model
from tests.benchmarks.ground_truth import GroundTruth, Selection, open_ground_truth
from tests.benchmarks.record import environment_fields, write_json
from workflows.commands import TrainCommand
from workflows.train.job import train

CLICKS = (1, 3)


@dataclass(frozen=True, slots=True)
class Options:
    """What to train on and where to write."""

    data: Path
    """Folder with images/ and labels/."""
    json: Path | None = None
    """Record to write."""
    iterations: int | None = None
    """Steps; the preset's when not given."""
    learning_rate: float | None = None
    """Base learning rate; the preset's when not given."""
    image_size: int | None = None
    """Side of the input, px; the preset's when not given."""
    window_share: float | None = None
    """Of photographs seen through windows; the preset's when not given."""
    centre_share: float | None = None
    """Of first points deep inside their object; the preset's when not given."""
    chosen: float | None = None
    """Share of the mask loss for the mask that is shown; the preset's when not given."""
    bfloat16: bool | None = None
    """Products in bfloat16."""
    workers: int = 1
    """Training processes."""
    threads: int = 2
    """CPU cores for each of them."""
    others: str = ""
    """What else ran on the machine, for the record."""


def main() -> None:
    options = tyro.cli(Options)
    torch.set_num_threads(options.workers * options.threads)
    truth = open_ground_truth(options.data)
    with tempfile.TemporaryDirectory() as folder:
        half = copy_images(options.data, truth.names[0::2], Path(folder) / "half")
        before = measure("vit_n", truth)
        print("before", before, flush=True)
        started = time.perf_counter()
        finished = train(
            TrainCommand(
                sources=(str(half),),
                out=f"{folder}/out",
                iterations=options.iterations,
                learning_rate=options.learning_rate,
                image_size=options.image_size,
                window_share=options.window_share,
                centre_share=options.centre_share,
                chosen=options.chosen,
                bfloat16=options.bfloat16,
                workers=options.workers,
                threads=options.threads,
            )
        )
        seconds = time.perf_counter() - started
        after = measure(finished.weights, truth)
    print("after", after, f"{seconds:.0f} s")
    if options.json:
        found = {
            "one_click_miou_before": before.miou[0],
            "one_click_miou_after": after.miou[0],
            "points_gained": 100 * (after.miou[0] - before.miou[0]),
            "training_minutes": seconds / 60,
            "before": asdict(before),
            "after": asdict(after),
            "steps": finished.steps,
            "train_metrics": finished.metrics,
            "images": {"trained": len(truth.names[0::2]), "measured": len(truth.names[1::2])},
            "config": {name: str(value) for name, value in asdict(options).items() if name not in ("data", "json")},
        }
        write_json(options.json, {"data": truth.name, **found, **environment_fields()})


def copy_images(data: Path, names: tuple[str, ...], to: Path) -> Path:
    """These images and their labels as a set of their own."""
    for kind in ("images", "labels"):
        (to / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(data / kind / f"{name}.png", to / kind)
    return to


def measure(model: str, truth: GroundTruth) -> ClickFigures:
    """Click figures on the images at odd places."""
    return evaluate_clicks(load_model(model).sam, _samples(truth), clicks=CLICKS)


def _samples(truth: GroundTruth) -> Iterator[Sample]:
    for name in truth.names[1::2]:
        yield truth.select(truth.read(name), Selection()).sample


if __name__ == "__main__":
    main()
