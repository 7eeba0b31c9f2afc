"""The two sides of a comparison, each in a process of its own, so that neither's memory or caches help the other.

Our generator and the released one answer the same way: images in, their generations and the seconds that they took out.
Only the generator for a GPU makes use of being given several.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Protocol
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import torch

from sam_core.device_generator import DeviceGenerator
from sam_core.device_settings import DeviceSettings
from sam_core.generator import MaskGenerator
from sam_core.masks.batch import Generation
from sam_core.model.checkpoint import load_model
from sam_core.recipes import Recipe
from tests.benchmarks.clock import Clock, clock_of, peak_bytes
from tests.benchmarks.photographs import read_image
from tests.benchmarks.released_run import ReleasedGenerator
from tests.one_by_one import OneByOne

START_SECONDS = 1800  # within which a side has loaded and warmed up


class Kind(StrEnum):
    """What runs on a side."""

    FAST = "fast"
    """Our generator as it comes."""
    PLAIN = "plain"
    """Our generator with `exact_reference`."""
    DEVICE = "device"
    """Our generator of many images at once."""
    RELEASED = "released"
    """segment-anything 1.0."""
    RELEASED_FAST = "released-fast"
    """segment-anything 1.0 as segment-anything-fast runs it: bfloat16, a compiled encoder, 1024 prompts at a time."""


@dataclass(frozen=True, slots=True)
class SideConfig:
    """What a process has to know. longest_side: of images, px; threads: of torch, OpenCV and the generator;
    gpu_memory: GB that our generator may use."""

    kind: Kind
    checkpoint: Path
    recipe: Recipe
    longest_side: int | None = None
    device: str = "cpu"
    threads: int = 2
    gpu_memory: float = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """One image on one side. seconds: by the clock of the device, those of `generation.seconds` too; wall: elapsed.

    peak: bytes, the most this process has held so far.
    """

    generation: Generation
    seconds: float
    wall: float
    peak: int


class Generator(Protocol):
    """Makes the masks of images uint8 RGB [H, W, 3]."""

    def attempt_many(self, images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Generation | Exception]: ...


class Side:
    """A generator in another process, for use in a `with` statement."""

    def __init__(self, config: SideConfig) -> None:
        self.config = config

    def __enter__(self) -> Side:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self.config, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._answer(START_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()  # the other end reads end of file and returns
        self._process.join(timeout=10)
        self._process.kill()

    def generate(self, image: Path) -> Measured:
        """The masks of an image file. Raises ValueError, one line, when the generator fails on it."""
        return self.generate_many([image])[0]

    def generate_many(self, images: Sequence[Path]) -> list[Measured]:
        """The masks of image files, each with its share of the time. Raises ValueError, one line, when one fails."""
        answer = self._answer(None, ask=images)
        if isinstance(answer, list):
            return answer
        raise ValueError(f"{images[0].name}: the {self.config.kind} generator failed: {answer}")

    def _answer(self, seconds: float | None, *, ask: Sequence[Path] = ()) -> list[Measured] | str | None:
        """What the process sends next. Raises ValueError when it ends instead or takes too long."""
        try:
            if ask:
                self._pipe.send(ask)
            if self._pipe.poll(seconds):
                return self._pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            raise ValueError(f"the process of the {self.config.kind} generator ended with {code}") from None
        raise ValueError(f"the process of the {self.config.kind} generator did not start within {seconds} s")


def serve(config: SideConfig, pipe: Connection) -> None:
    """The other process: answers image files with what was measured, until the pipe is closed."""
    sys.stdin.close()
    use_threads(config.threads)
    generator = make_generator(config, config.recipe)
    if config.kind is Kind.DEVICE:  # compiles for a generator, and kernels for masks when there are any
        measure(generator, [photograph()], config.device)
    else:
        measure(make_generator(config, easy(config.recipe)), [noise()], config.device)
    pipe.send(None)
    while True:
        try:
            paths = pipe.recv()
        except EOFError:
            return
        try:
            images = [read_image(path, longest_side=config.longest_side) for path in paths]
            pipe.send(measure(generator, images, config.device))
        except Exception as error:  # reported by the other end, which knows the image
            pipe.send(" ".join(f"{type(error).__name__}: {error}".split()))


def measure(generator: Generator, images: Sequence[npt.NDArray[np.uint8]], device: str) -> list[Measured]:
    """Runs a generator on images, its own steps timed by the clock of the device. Raises what one of them raised.

    To time a step on a GPU is to wait for it, which nobody does otherwise when there are several images: then that is a
    second run, after the one that says how long the images take.
    """
    clock, wall = clock_of(device), time.monotonic()
    start, overlapping = clock(), torch.device(device).type != "cpu" and len(images) > 1
    generations = _generations(generator, images, time.perf_counter if overlapping else clock)
    seconds, wall = (clock() - start) / len(images), (time.monotonic() - wall) / len(images)
    if overlapping:
        generations = _generations(generator, images, clock)
    return [Measured(generation, seconds, wall, peak_bytes(device)) for generation in generations]


def _generations(generator: Generator, images: Sequence[npt.NDArray[np.uint8]], clock: Clock) -> list[Generation]:
    """The masks of the images, their steps timed by this clock. Raises what one of them raised."""
    generations = []
    with mock.patch("time.perf_counter", clock):
        for answer in generator.attempt_many(images):
            if isinstance(answer, Exception):
                raise answer
            generations.append(answer)
    return generations


def make_generator(config: SideConfig, recipe: Recipe) -> Generator:
    """The generator of a side. Raises ValueError for a missing checkpoint or a recipe that it cannot follow."""
    sam = load_model(config.checkpoint, device=config.device).sam
    match config.kind:
        case Kind.DEVICE:
            settings = DeviceSettings(memory_bytes=round(config.gpu_memory * 1e9))
            return DeviceGenerator(sam, recipe, settings, threads=config.threads)
        case Kind.RELEASED:
            return OneByOne(ReleasedGenerator(sam, recipe).generate)
        case Kind.RELEASED_FAST:
            return OneByOne(ReleasedGenerator(sam, recipe, points_per_batch=1024, hurried=True).generate)
        case _:
            return MaskGenerator(sam, recipe, exact_reference=config.kind is Kind.PLAIN, threads=config.threads)


def easy(recipe: Recipe) -> Recipe:
    """A few prompts, of which every mask passes: what is compiled or set up on first use is so before measuring."""
    return replace(recipe, points_per_side=2, crop_layers=0, min_predicted_iou=0.0, min_stability_score=0.0)


def noise() -> npt.NDArray[np.uint8]:
    """An image to warm up with, uint8 RGB [200, 300, 3]."""
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


def photograph() -> npt.NDArray[np.uint8]:
    """One with things to find, uint8 RGB [480, 480, 3]."""
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:480, :480])


def use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
