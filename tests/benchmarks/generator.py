"""How fast the generator is, and whether it keeps the masks of the released one.

    python -m tests.benchmarks.generator --model NAME_OR_PATH --images FOLDER [--limit N] [--recipe sa1b] [--released]
                                         [--random-seed S] [--exact-reference] [--device cuda] [--json FILE]

Every side runs in a process of its own with the same weights, and images alternate: ours, theirs, ours, theirs; but on
a GPU ours is given all of them at once, after which theirs follow one by one. Seconds are CPU seconds of the process on
a CPU, and synchronised seconds on a GPU. Other work on the machine still adds to CPU
seconds, as threads spin while they wait for each other; the record holds the load average.
Loading, and a first tiny image on which kernels are compiled, are not counted; memory is all the process ever held.
With `--released` the recipe loses what the released generator does not have (the rule on full-image masks, dropping
masks of small parts). A limit in images per second follows from the arithmetic that our path needs for what it found
and the rate at which the machine multiplies large matrices.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sam_core.masks.batch import Generation, Reason, StepSeconds
from sam_core.masks.crops import crop_plan
from sam_core.model.checkpoint import LoadedModel, find_checkpoint, load_model, save_model
from sam_core.presets import preset
from sam_core.recipes import Recipe, recipe, reference
from tests.benchmarks.agreement import compare, total
from tests.benchmarks.flops import absorbed_decoder_macs, encoder_macs, matrix_rate, released_decoder_macs
from tests.benchmarks.photographs import folder_label, image_files, read_image
from tests.benchmarks.random_model import MEANING, random_model
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.refusals import refusals
from tests.benchmarks.released_run import released_recipe
from tests.benchmarks.sides import Kind, Measured, Side, SideConfig, use_threads

STEPS = tuple(step.name for step in fields(StepSeconds))


@dataclass(frozen=True, slots=True)
class Options:
    """Measures the generator, beside the released one if asked."""

    model: str
    """Name of a model or path of a checkpoint; with --random-seed, name of a configuration."""
    images: Path
    """Folder of images; the first by name are taken."""
    limit: int | None = None
    """At most this many images."""
    longest_side: int | None = None
    """Bring images to this longest side, px; by default they stay as they are."""
    recipe: str = "reference"
    """Which masks are looked for and kept."""
    thresholds: Recipe = field(default_factory=reference)
    """Values of the recipe; those of the named one where not given."""
    released: bool = False
    """Also run segment-anything 1.0."""
    released_fast: bool = False
    """Instead, run it as segment-anything-fast does: bfloat16, a compiled encoder, 1024 prompts at a time."""
    exact_reference: bool = False
    """Run our plain path instead of the fast one."""
    random_seed: int | None = None
    """Take random weights of this seed that draw regions around clicks (see random_model.py)."""
    threads: int = 2
    """Threads of each side."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda."""
    gpu_memory: float = 12
    """GB of a GPU that our generator may use."""
    json: Path | None = None
    """Where to write the record."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image on both sides; theirs is None when the released generator was not asked for."""

    ours: Measured
    theirs: Measured | None


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured. skipped: images that a side failed on, with the reason."""

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...]

    @property
    def ours(self) -> list[Measured]:
        return [pair.ours for pair in self.pairs]

    @property
    def theirs(self) -> list[Measured]:
        return [pair.theirs for pair in self.pairs if pair.theirs]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options from the command line; thresholds that are not given are those of the named recipe. Raises ValueError."""
    config = (tyro.conf.OmitArgPrefixes,)
    options = tyro.cli(Options, args=arguments, config=config)
    named = replace(options, thresholds=recipe(options.recipe))
    options = tyro.cli(Options, args=arguments, config=config, default=named)
    rival = options.released or options.released_fast
    return replace(options, thresholds=released_recipe(options.thresholds)) if rival else options


@contextmanager
def checkpoint(options: Options) -> Iterator[Path]:
    """The checkpoint that both sides load; for random weights a temporary one."""
    if options.random_seed is None:
        yield find_checkpoint(options.model)
        return
    sam = random_model(preset(options.model), read_image(image_files(options.images)[0]), seed=options.random_seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{options.model}_random.safetensors"
        save_model(sam, path, {"weights": MEANING})
        yield path


def measure(options: Options, path: Path) -> Run:
    """Runs the sides over the images, one image at a time in turn. Raises ValueError when every image fails.

    A generator of many images at once has them all first, and fails with any of them.
    """
    files = image_files(options.images, options.limit)
    pairs, skipped = [], []
    with ExitStack() as sides:
        running = [sides.enter_context(Side(_side_config(options, kind, path))) for kind in kinds(options)]
        together = running[0].generate_many(files) if running[0].config.kind is Kind.DEVICE else None
        for number, file in enumerate(track(files, "images", disable=not sys.stderr.isatty())):
            try:
                ours = together[number] if together else running[0].generate(file)
                pairs.append(Pair(ours, running[1].generate(file) if running[1:] else None))
            except ValueError as error:
                skipped.append(str(error))
    if not pairs:
        raise ValueError(skipped[0])
    return Run(tuple(pairs), tuple(skipped))


def kinds(options: Options) -> list[Kind]:
    """Our side, then the one it is compared with, if any."""
    fast = Kind.FAST if options.device == "cpu" else Kind.DEVICE
    ours = Kind.PLAIN if options.exact_reference else fast
    return [ours, *[Kind.RELEASED] * options.released, *[Kind.RELEASED_FAST] * options.released_fast][:2]


def record(options: Options, loaded: LoadedModel, run: Run, rate: float) -> dict[str, Any]:
    """Everything worth keeping of a run; rate: FLOP per second of matrix products."""
    ours, theirs = side_figures(run.ours), side_figures(run.theirs) if run.theirs else None
    agreed = total(compare(pair.theirs.generation, pair.ours.generation) for pair in run.pairs if pair.theirs)
    work = arithmetic(loaded, options.thresholds, [each.generation for each in run.ours])
    least = 2e9 * work["gmac_per_image"] / rate
    encoding = 2e9 * work["encoder_gmac"] / rate
    return {
        "model": describe(loaded, options),
        "data": folder_label(options.images),
        "recipe": options.recipe,
        "images": len(run.pairs),
        "skipped": run.skipped,
        "speedup": theirs["seconds"] / ours["seconds"] if theirs else None,
        "matched": agreed.share if theirs else None,
        "same_count": agreed.same_count / agreed.images if theirs else None,
        "peak_memory_ratio": theirs["peak_memory_gb"] / ours["peak_memory_gb"] if theirs else None,
        "images_per_second": 1 / ours["wall_seconds"],
        "share_of_limit": least / ours["seconds"],
        "seconds_are": "CPU seconds per image" if options.device == "cpu" else "synchronised seconds per image",
        "ours": ours,
        "released": theirs,
        "agreement": asdict(agreed) if theirs else None,
        "limit": {
            **work,
            "matrix_gflop_per_second": rate / 1e9,
            "seconds_per_image": least,
            "encoder_share": encoding / ours["steps"]["encode"],
            "images_per_second": (options.threads if options.device == "cpu" else 1) / least,
        },
        "load_average": os.getloadavg()[0],
        "config": settings(options),
    }


def side_figures(measured: Sequence[Measured]) -> dict[str, Any]:
    """Means over the images of one side: seconds by step and together, masks, rejections; peak memory in 10^9 bytes."""
    generations = [each.generation for each in measured]
    return {
        "seconds": float(np.mean([each.seconds for each in measured])),
        "wall_seconds": float(np.mean([each.wall for each in measured])),
        "steps": {step: float(np.mean([getattr(g.seconds, step) for g in generations])) for step in STEPS},
        "peak_memory_gb": max(each.peak for each in measured) / 1e9,
        "masks": float(np.mean([len(g.masks) for g in generations])),
        "candidates": float(np.mean([g.candidates for g in generations])),
        "rejected": {r.value: float(np.mean([g.rejections.counts()[r] for g in generations])) for r in Reason},
    }


def arithmetic(loaded: LoadedModel, thresholds: Recipe, generations: Sequence[Generation]) -> dict[str, float]:
    """GMAC per image of our path, given what it had to draw, and of the released one, which draws everything."""
    config = loaded.sam.config
    encoder = encoder_macs(config.image_encoder)
    ours, theirs = absorbed_decoder_macs(config), released_decoder_macs(config)
    plans = [crop_plan(generation.masks.size, thresholds) for generation in generations]
    crops = float(np.mean([len(plan) for plan in plans]))
    prompts = float(np.mean([sum(len(crop.points) for crop in plan) for plan in plans]))
    drawn = prompts - float(np.mean([undrawn(generation) for generation in generations]))
    return {
        "crops": crops,
        "prompts": prompts,
        "drawn_prompts": drawn,
        "encoder_gmac": crops * encoder / 1e9,
        "gmac_per_image": (crops * (encoder + ours.share) + prompts * ours.ask + drawn * ours.draw) / 1e9,
        "released_gmac_per_image": (crops * encoder + prompts * (theirs.ask + theirs.draw)) / 1e9,
    }


def undrawn(generation: Generation, *, outputs: int = 3) -> int:
    """Prompts none of whose outputs passed on predicted IoU, so that nothing had to be drawn for them."""
    rejections = generation.rejections
    low = rejections.reason == Reason.IOU.code
    prompts = np.concatenate([rejections.crop_boxes[low], rejections.points[low]], axis=1)
    _, counts = np.unique(prompts, axis=0, return_counts=True)
    return int(np.count_nonzero(counts == outputs))


def describe(loaded: LoadedModel, options: Options) -> dict[str, Any]:
    """Which weights were used."""
    parameters = sum(weight.numel() for weight in loaded.sam.parameters())
    weights = dict(loaded.metadata).get("weights", "trained") if options.random_seed is None else MEANING
    return {
        "name": loaded.name,
        "sha256": loaded.sha256,
        "parameters": parameters,
        "weights": weights,
        "random_seed": options.random_seed,
    }


def settings(options: Options) -> dict[str, Any]:
    """The options that say what was measured, without places on this machine."""
    chosen = asdict(options)
    return {name: value for name, value in chosen.items() if name not in ("images", "json", "model", "random_seed")}


def show(found: dict[str, Any]) -> None:
    """The record as a table."""
    ours, theirs = found["ours"], found["released"] or {}
    table = Table(title=f"{found['model']['name']}, {found['recipe']}, {found['images']} images of {found['data']}")
    for name in (found["seconds_are"], "ours", "released"):
        table.add_column(name, justify="left" if name == found["seconds_are"] else "right")
    for step in STEPS:
        table.add_row(step, *(f"{side['steps'][step]:.3f}" for side in (ours, theirs) if side))
    table.add_section()
    for name in ("seconds", "wall_seconds", "peak_memory_gb", "masks"):
        table.add_row(name.replace("_", " "), *(f"{side[name]:.3f}" for side in (ours, theirs) if side))
    Console().print(table)
    for name in ("speedup", "matched", "same_count", "peak_memory_ratio", "images_per_second", "share_of_limit"):
        if found[name] is not None:
            print(f"{name:18} {found[name]:.4f}")
    if found["agreement"]:
        print("lost", dict(found["agreement"]["lost"]), "gained", dict(found["agreement"]["gained"]))
    for complaint in found["skipped"]:
        print("skipped:", complaint)


def _side_config(options: Options, kind: Kind, path: Path) -> SideConfig:
    return SideConfig(
        kind, path, options.thresholds, options.longest_side, options.device, options.threads, options.gpu_memory
    )


def run(options: Options) -> dict[str, Any]:
    """Measures, shows and stores. Raises ValueError, one line, for anything that cannot be measured."""
    use_threads(options.threads)
    with checkpoint(options) as path:
        loaded = load_model(path)
        rate = matrix_rate(options.device, dtype=torch.float32 if options.device == "cpu" else torch.bfloat16)
        found = record(options, loaded, measure(options, path), rate)
    found |= environment_fields()
    show(found)
    if options.json:
        write_json(options.json, found)
    return found


def main() -> None:
    with refusals():
        run(parse())


if __name__ == "__main__":
    main()
