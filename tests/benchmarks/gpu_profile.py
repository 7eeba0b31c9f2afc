"""Where the time of a GPU goes while the generator works: how long it is busy, and with which kernels.

    python -m tests.benchmarks.gpu_profile --model NAME_OR_PATH --images FOLDER [--recipe sa1b] [--longest-side 1800]

Several runs say images per second; the first one is slower, as memory is still being found. One run more, of half of
the images, is recorded by torch's profiler: how long the device worked, and how long on each kernel.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from sam_core.device_generator import DeviceGenerator
from sam_core.device_settings import DeviceSettings
from sam_core.model.checkpoint import load_model
from sam_core.recipes import recipe
from tests.benchmarks.photographs import image_files, read_image
from tests.benchmarks.refusals import refusals
from tests.benchmarks.sides import photograph


@dataclass(frozen=True, slots=True)
class Options:
    """Says where the time of a GPU goes."""

    model: str
    """Name of a model or path of a checkpoint."""
    images: Path
    """Folder of images; the first by name are taken."""
    limit: int = 64
    """At most this many images."""
    longest_side: int | None = None
    """Bring images to this longest side, px; by default they stay as they are."""
    recipe: str = "reference"
    """Which masks are looked for and kept."""
    gpu_memory: float = 12
    """GB of the GPU that the generator may use."""
    threads: int = 8
    """Of the host."""
    runs: int = 4
    """How often images per second are measured."""
    kernels: int = 30
    """How many kernels are shown, the longest first."""


class Span(NamedTuple):
    """A kernel's run, from start to end, microseconds."""

    name: str
    start: float
    end: float


def busy(spans: Iterable[Span]) -> float:
    """Microseconds in which at least one kernel runs."""
    total, until = 0.0, float("-inf")
    for _, start, end in sorted(spans, key=lambda span: span.start):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def by_kernel(spans: Iterable[Span]) -> list[tuple[str, float, int]]:
    """Name, microseconds and runs of each kernel, the longest first."""
    runs: defaultdict[str, list[float]] = defaultdict(list)
    for name, start, end in spans:
        runs[name].append(end - start)
    return sorted(((name, sum(each), len(each)) for name, each in runs.items()), key=lambda row: -row[1])


def lines(spans: Sequence[Span], images: int, *, kernels: int) -> list[str]:
    """The account of one run, for people; times are of an image, in milliseconds."""
    whole = max(span.end for span in spans) - min(span.start for span in spans)
    shown = [f"busy {busy(spans) / 1000 / images:.2f} ms an image, of {whole / 1000 / images:.2f}"]
    for name, spent, runs in by_kernel(spans)[:kernels]:
        shown.append(f"{spent / 1000 / images:9.3f} ms {runs / images:7.1f} x {name[:100]}")
    return shown


def run(options: Options) -> None:
    """Measures and prints. Raises ValueError without a GPU, and for a missing model, recipe or folder."""
    if not torch.cuda.is_available():
        raise ValueError("there is no GPU here, which is what this is about")
    files = image_files(options.images, options.limit)
    images = [read_image(file, longest_side=options.longest_side) for file in files]
    sam = load_model(options.model, device="cuda").sam
    settings = DeviceSettings(memory_bytes=round(options.gpu_memory * 1e9))
    generator = DeviceGenerator(sam, recipe(options.recipe), settings, threads=options.threads)
    list(generator.generate_many([photograph(), *images[:2]]))  # compiles
    for _ in range(options.runs):
        start = time.perf_counter()
        masks = sum(len(each.masks) for each in generator.generate_many(images))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        print(f"{len(images) / seconds:.2f} images/s, {masks / len(images):.0f} masks an image", flush=True)
    some = images[: max(1, len(images) // 2)]
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        list(generator.generate_many(some))
        torch.cuda.synchronize()
    on_device = (event for event in recorded.events() if event.device_type == DeviceType.CUDA)
    spans = [Span(event.name, event.time_range.start, event.time_range.end) for event in on_device]
    print(*lines(spans, len(some), kernels=options.kernels), sep="\n")


def main() -> None:
    with refusals():
        run(tyro.cli(Options))


if __name__ == "__main__":
    main()
