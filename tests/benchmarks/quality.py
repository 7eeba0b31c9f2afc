"""How good a model is, zero-shot, on photographs with true masks; beside the classical baselines.

    python -m tests.benchmarks.quality --model NAME_OR_PATH --data FOLDER [--limit N] [--closer] [--recall] [--json F]

Clicks, boxes and calibration follow `sam_core.metrics.single_point`, true masks `tests.benchmarks.ground_truth`: one
look at the whole image, as in the paper. `--closer` adds what one click and a box find with a closer look
(`sam_core.closer`), which sees the mirror image too and small objects through windows. The main figures are over masks
above the data set's least area; `--every-size` adds the same over masks of all sizes. Average recall (`--recall`)
generates masks from a grid of clicks, nothing filtered but NMS, and ranks them by the mean of predicted IoU and
stability. Baselines other than the disc are stored figures (`tests.benchmarks.classical`).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sam_core.closer import look_closer
from sam_core.generator import MaskGenerator
from sam_core.geometry import uncrop
from sam_core.masks import rle
from sam_core.metrics.clicks import first_clicks
from sam_core.metrics.iou import mask_iou
from sam_core.metrics.recall import Overlaps, average_recall
from sam_core.metrics.single_point import ClickFigures, MaskScores, box_prompts, join, score_sample, summarise
from sam_core.model.checkpoint import LoadedModel, load_model
from sam_core.model.sam import Sam
from sam_core.predict import Prompts, look_at
from sam_core.recipes import proposals
from tests.benchmarks.baselines import BASELINES, best_triple
from tests.benchmarks.classical import baseline_iou, figure, stored_figures
from tests.benchmarks.ground_truth import GroundTruth, Selection, TrueImage, open_ground_truth
from tests.benchmarks.record import cpu_seconds, environment, write_json
from tests.benchmarks.refusals import refusals
from workflows.evaluate.proposals import proposal_overlaps

CLICKS = (1, 3, 5, 9)
WORDS = ("one_click", "three_click", "five_click", "nine_click")
DISC = BASELINES[0]


@dataclass(frozen=True, slots=True)
class Options(Selection):
    """Measures a model against true masks, zero-shot."""

    model: str = tyro.MISSING
    """Name of a model, or path of a checkpoint."""
    data: Path = tyro.MISSING
    """Folder of the data set: COCO JSON, BSDS500 or label PNGs."""
    json: Path | None = None
    """Where to write the record."""
    recall: bool = False
    """Also measure average recall of generated masks (slow), on every true mask of the chosen images."""
    closer: bool = False
    """Also measure what a closer look finds (several encodings of an image)."""
    points_per_side: int = 16
    """Grid of clicks for average recall."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1."""
    threads: int = 0
    """Threads of torch; 0 for its default."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Every chosen mask of a data set: model scores, disc IoU [N, radii], areas [N] px; proposals of each image.

    closer: [N, 2], real IoU with a closer look after one click and with the box; NaN where it was not asked for.
    """

    scores: MaskScores
    closer: npt.NDArray[np.float64]
    discs: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    overlaps: tuple[Overlaps, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over one set of masks."""

    model: ClickFigures
    closer: tuple[float, float]
    disc: float
    disc_radius: float
    disc_oracle: float


def measure(loaded: LoadedModel, truth: GroundTruth, options: Options) -> Measured:
    """Runs the model and the discs over the chosen images. Raises ValueError when these have no mask."""
    scores, closer, discs, areas, overlaps = [], [], [], [], []
    generator = MaskGenerator(loaded.sam, replace(proposals(), points_per_side=options.points_per_side))
    for name in track(truth.chosen(options), truth.name, disable=not sys.stderr.isatty()):
        image = truth.read(name)
        if options.recall:
            overlaps.append(image_overlaps(generator, image))
        few = truth.select(image, options)
        if len(few.masks):
            scores.append(score_sample(loaded.sam, few.sample, clicks=CLICKS))
            closer.append(closer_iou(loaded.sam, few) if options.closer else np.full((len(few.masks), 2), np.nan))
            discs.append(baseline_iou(DISC, few))
            areas.append(few.areas)
    if not any((found > truth.least_area).any() for found in areas):
        raise ValueError(f"{truth.name}: the chosen images have no masks above {truth.least_area:g} px; raise --limit")
    return Measured(join(scores), np.concatenate(closer), np.concatenate(discs), np.concatenate(areas), tuple(overlaps))


def image_overlaps(generator: MaskGenerator, image: TrueImage) -> Overlaps:
    """Generated masks of an image, ranked as in the paper's proposal evaluation, against all its true masks."""
    found = generator.generate(image.image).masks
    return proposal_overlaps(found, [rle.encode(mask) for mask in image.masks], image.areas)


def closer_iou(sam: Sam, image: TrueImage) -> npt.NDArray[np.float64]:
    """Real IoU [N, 2] of the most confident mask after one click and with the tight box, looked at more closely."""
    clicks, truth = first_clicks(image.masks), torch.from_numpy(image.masks)
    look, mirrored = (cache(look_at(sam, pixels)) for pixels in (image.image, image.image[:, ::-1]))
    size = image.image.shape[:2]
    boxes = box_prompts(truth)
    found = np.zeros((len(truth), 2))
    for index, true in enumerate(truth):
        click = Prompts(torch.from_numpy(clicks.xy[index][None, None]), torch.ones(1, 1, dtype=torch.int64))
        for column, prompts in enumerate((click, Prompts(boxes=boxes[index : index + 1]))):
            best = look_closer(sam, look, mirrored, (size[0], size[1]), prompts).best()
            mask = uncrop(best.masks()[0, 0].numpy(), best.frame)
            found[index, column] = mask_iou(torch.from_numpy(mask), true)
    return found


def figures(measured: Measured, keep: npt.NDArray[np.bool_]) -> Figures:
    """The means over the masks at `keep`, bool [N]; the discs at the radii that suit these masks best."""
    discs = measured.discs[keep]
    control = figure(DISC, discs)
    return Figures(
        model=summarise(measured.scores.select(keep), CLICKS),
        closer=(float(measured.closer[keep, 0].mean()), float(measured.closer[keep, 1].mean())),
        disc=control.miou,
        disc_radius=control.parameter,
        disc_oracle=best_triple(discs)[1],
    )


def headline(found: Figures) -> dict[str, float]:
    """The figures by the names that records and targets use."""
    model = found.model
    chosen = {f"{word}_miou": value for word, value in zip(WORDS, model.miou, strict=True)}
    oracle = {f"{word}_oracle_miou": value for word, value in zip(WORDS, model.oracle_miou, strict=True)}
    return {
        **chosen,
        **oracle,
        "oracle_miou": model.oracle_miou[0],
        "box_miou": model.box_miou,
        "box_oracle_miou": model.box_oracle_miou,
        "closer_one_click_miou": found.closer[0],
        "closer_box_miou": found.closer[1],
        "iou_correlation": model.iou_correlation,
        "iou_bias": model.iou_bias,
        "disc_miou": found.disc,
        "disc_oracle_miou": found.disc_oracle,
        "disc_radius": found.disc_radius,
        "masks": model.masks,
    }


def record(loaded: LoadedModel, truth: GroundTruth, options: Options, measured: Measured) -> dict[str, Any]:
    """Everything worth keeping of a run; figures of the main masks at the top level."""
    main = figures(measured, measured.areas > truth.least_area)
    stored = {name: entry for name, entry in stored_figures(truth).items() if name != DISC.name}
    rivals = {DISC.name: main.disc} | {name: entry["miou"] for name, entry in stored.items()}
    recall = average_recall(measured.overlaps) if measured.overlaps else None
    parameters = sum(weight.numel() for weight in loaded.sam.parameters())
    return {
        "data": truth.name,
        "model": {"name": loaded.name, "sha256": loaded.sha256, "parameters": parameters},
        **headline(main),
        # The best of some baselines would be a rival too weak: null until all of them are measured.
        "best_classical_miou": None if unmeasured(rivals) else max(rivals.values()),
        "classical_miou": rivals,
        "classical_masks": {name: entry["masks"] for name, entry in stored.items()},
        "ar_1000": recall.all if recall else None,
        "recall": asdict(recall) if recall else None,
        "recall_images": len(measured.overlaps),
        "every_size": headline(figures(measured, measured.areas > 0)) if options.every_size else None,
        "least_area": truth.least_area,
        "config": {name: value for name, value in asdict(options).items() if name not in ("data", "json", "model")},
    }


def unmeasured(rivals: Collection[str]) -> list[str]:
    """Baselines without a figure."""
    return [baseline.name for baseline in BASELINES if baseline.name not in rivals]


def show(found: dict[str, Any]) -> None:
    """The record as a table."""
    table = Table(title=f"{found['model']['name']} on {found['data']}: {found['masks']} masks", min_width=44)
    table.add_column("zero-shot")
    table.add_column("most confident", justify="right")
    table.add_column("oracle", justify="right")
    for name in (*WORDS, "box"):
        table.add_row(name.replace("_", " "), _percent(found[f"{name}_miou"]), _percent(found[f"{name}_oracle_miou"]))
    if found["config"]["closer"]:
        for name in ("one_click", "box"):
            table.add_row(f"{name.replace('_', ' ')}, looked at closely", _percent(found[f"closer_{name}_miou"]))
    table.add_section()
    for name, value in found["classical_miou"].items():
        table.add_row(name, _percent(value), _percent(found["disc_oracle_miou"]) if name == DISC.name else "")
    table.add_section()
    table.add_row("IoU correlation", f"{found['iou_correlation']:.3f}")
    table.add_row("IoU bias", f"{found['iou_bias']:+.3f}")
    for size, value in (found["recall"] or {}).items():
        table.add_row(f"AR@1000 {size}", _percent(value))
    Console().print(table)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def main() -> None:
    options = tyro.cli(Options)
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    start = cpu_seconds()
    with refusals():
        loaded, truth = load_model(options.model, device=options.device), open_ground_truth(options.data)
        found = record(loaded, truth, options, measure(loaded, truth, options))
    found |= {"cpu_seconds": cpu_seconds() - start} | asdict(environment())
    show(found)
    if missing := unmeasured(found["classical_miou"]):
        print(f"not measured: {', '.join(missing)}; python -m tests.benchmarks.classical --data {options.data}")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
