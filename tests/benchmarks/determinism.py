"""How many masks change with what should not matter: path, batch size, threads, precision, device.

    python -m tests.benchmarks.determinism --images FOLDER [--model vit_n] [--recipe draft] [--limit N] [--json FILE]

Everything is compared with our plain path in float32 on the CPU: masks lost, masks gained, and masks that both keep but
draw with an IoU below 0.99; and the share of images whose number of masks changes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import tyro
from rich.progress import track

from sam_core.device_generator import DeviceGenerator
from sam_core.device_settings import DeviceSettings
from sam_core.generator import MaskGenerator
from sam_core.masks.batch import Generation
from sam_core.model.checkpoint import LoadedModel, load_model
from sam_core.model.sam import Sam
from sam_core.recipes import Recipe, recipe
from tests.benchmarks.agreement import Agreement, compare, total
from tests.benchmarks.photographs import folder_label, image_files, read_image
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.refusals import refusals
from tests.benchmarks.sides import use_threads

SAME = 0.99
"""IoU from which a mask counts as unchanged."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the generator. points_per_batch: None for its own choice. half: products in bfloat16.

    batched: with the generator of many images at once, its model compiled where it would be in a run if `compiled`.
    """

    name: str
    exact_reference: bool = False
    points_per_batch: int | None = None
    threads: int = 1
    half: bool = False
    device: str = "cpu"
    batched: bool = False
    compiled: bool = True

    @property
    def settings(self) -> DeviceSettings:
        """For the generator of many images."""
        dtype, compile = "bfloat16" if self.half else "float32", "auto" if self.compiled else "off"
        return DeviceSettings(dtype=dtype, compile=compile)  # type: ignore[arg-type]


REFERENCE = Variant("plain path", exact_reference=True)
ON_CPU = (
    Variant("plain path, 8 prompts at a time", exact_reference=True, points_per_batch=8),
    Variant("plain path, 2 threads", exact_reference=True, threads=2),
    Variant("fast path"),
    Variant("fast path, 1 prompt at a time", points_per_batch=1),
    Variant("fast path, 64 prompts at a time", points_per_batch=64),
    Variant("fast path, 2 threads", threads=2),
    Variant("plain path, bfloat16", exact_reference=True, half=True),
    Variant("fast path, bfloat16", half=True),
    Variant("batches of images", batched=True),
)
ON_GPU = (
    Variant("plain path, GPU", exact_reference=True, device="cuda"),
    Variant("fast path, GPU", device="cuda"),
    Variant("batches of images, GPU, not compiled", device="cuda", batched=True, compiled=False),
    Variant("batches of images, GPU", device="cuda", batched=True),
    Variant("batches of images, GPU, bfloat16, not compiled", half=True, device="cuda", batched=True, compiled=False),
    Variant("batches of images, GPU, bfloat16", half=True, device="cuda", batched=True),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Counts the masks that change with path, batch size, threads, precision and device."""

    images: Path
    """Folder of images; the first by name are taken."""
    model: str = "vit_n"
    """Name of a model or path of a checkpoint."""
    recipe: str = "draft"
    """Which masks are looked for and kept."""
    limit: int | None = None
    """At most this many images."""
    points_per_side: int = 32
    """Grid of clicks over the whole image."""
    on: Literal["all", "cpu", "gpu"] = "all"
    """Which variants; by default all that this machine can run. The rest of a record is kept."""
    threads: int = 1
    """Of the plain path that everything is compared with."""
    json: Path | None = None
    """Where to write the record."""


def variants(on: str = "all") -> tuple[Variant, ...]:
    """Those that are asked for and that this machine can run. Raises ValueError for a GPU that is not there."""
    if on == "gpu" and not torch.cuda.is_available():
        raise ValueError("there is no GPU here: ask for the variants on a cpu")
    return (*(ON_CPU if on != "gpu" else ()), *(ON_GPU if on != "cpu" and torch.cuda.is_available() else ()))


Generate = Callable[[npt.NDArray[np.uint8]], Generation]


def generator_of(sam: Sam, thresholds: Recipe, variant: Variant) -> Generate:
    """What makes the masks of an image, uint8 RGB [H, W, 3], in the way of the variant, from a copy of the model."""
    sam = deepcopy(sam).to(variant.device)
    make: Generate
    if variant.batched:
        make = DeviceGenerator(sam, thresholds, variant.settings, threads=variant.threads).generate
    else:
        make = MaskGenerator(
            sam,
            thresholds,
            exact_reference=variant.exact_reference,
            points_per_batch=variant.points_per_batch,
            threads=variant.threads,
            dtype=torch.bfloat16 if variant.half else torch.float32,
        ).generate

    def generate(image: npt.NDArray[np.uint8]) -> Generation:
        with _running(variant):
            return make(image)

    return generate


def measure(
    loaded: LoadedModel, thresholds: Recipe, files: Sequence[Path], chosen: Sequence[Variant], threads: int = 1
) -> list[tuple[Variant, Agreement]]:
    """The agreement of each variant with the plain path over the images."""
    agreements: list[list[Agreement]] = [[] for _ in chosen]
    plain, *others = (
        generator_of(loaded.sam, thresholds, variant) for variant in (replace(REFERENCE, threads=threads), *chosen)
    )
    for file in track(files, "images", disable=not sys.stderr.isatty()):
        image = read_image(file)
        reference = plain(image)
        for generate, found in zip(others, agreements, strict=True):
            found.append(compare(reference, generate(image), iou=SAME))
    return [(variant, total(found)) for variant, found in zip(chosen, agreements, strict=True)]


def row(variant: Variant, agreed: Agreement) -> dict[str, Any]:
    """One line of the table. masks: kept by the plain path; changed: kept by both, IoU below SAME."""
    return {
        "variant": variant.name,
        "masks": agreed.reference,
        "lost": sum(agreed.lost.values()),
        "gained": sum(agreed.gained.values()),
        "changed": agreed.changed,
        "images_with_another_count": 1 - agreed.same_count / agreed.images,
        "lost_by_rule": agreed.lost,
        "gained_by_rule": agreed.gained,
        "settings": asdict(variant),
    }


def run(options: Options) -> dict[str, Any]:
    """Measures, prints and stores. Raises ValueError, one line, for a missing model, recipe or folder."""
    loaded, files = load_model(options.model), image_files(options.images, options.limit)
    thresholds = replace(recipe(options.recipe), points_per_side=options.points_per_side)
    rows = [row(*pair) for pair in measure(loaded, thresholds, files, variants(options.on), options.threads)]
    found = {
        "model": {"name": loaded.name, "sha256": loaded.sha256},
        "data": folder_label(options.images),
        "images": len(files),
        "recipe": options.recipe,
        "rows": rows,
        "config": {"limit": options.limit, "thresholds": asdict(thresholds), "same": SAME},
        **environment_fields(),
    }
    for line in rows:
        print(*(f"{name} {line[name]}" for name in ("variant", "masks", "lost", "gained", "changed")), sep=", ")
    if options.json:
        write_json(options.json, beside(options.json, found))
    return found


def beside(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the rows of other variants that the record has of the same model, images and recipe, and
    where those were measured. Raises ValueError when the record is of something else."""
    if not path.exists():
        return found
    before = json.loads(path.read_text())
    subject = ("model", "data", "images", "recipe")
    if any(before[key] != found[key] for key in subject):
        raise ValueError(f"{path} is a record of another model, other images or another recipe: name another file")
    measured = {line["variant"] for line in found["rows"]}
    others = [{"machine": before["machine"], **line} for line in before["rows"] if line["variant"] not in measured]
    return {**found, "rows": [*others, *({"machine": found["machine"], **line} for line in found["rows"])]}


@contextmanager
def _running(variant: Variant) -> Iterator[None]:
    """Threads as the variant says, and as before afterwards."""
    before = torch.get_num_threads()
    use_threads(variant.threads)
    try:
        yield
    finally:
        use_threads(before)


def main() -> None:
    with refusals():
        run(tyro.cli(Options))


if __name__ == "__main__":
    main()
