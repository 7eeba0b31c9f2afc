"""Generators that need no model, for the ways in which an image can end; the colour of its first pixel decides."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sam_core.masks.batch import Generation, MaskRecords, Rejections, StepSeconds
from sam_core.masks.rle import encode
from schemas.records import RunRecord
from tests.one_by_one import OneByOne
from tests.schemas import rows
from workflows.image_limits import MAX_PIXELS
from workflows.image_worker import ShardJob

FINE, FAILS, KILLS, HANGS, WRONG, CRAMPED, LOSES_GPU, FULL = 10, 20, 30, 40, 50, 60, 70, 80


@dataclass(frozen=True, slots=True)
class FakeSource:
    """Loads a FakeGenerator.

    With `model_error` that fails, as a broken checkpoint does. The process that finds no file `died` writes it and gets
    the signal `death` at its first image, as on a machine that is taken away, without or with notice. `score` is the
    predicted IoU of its masks.
    """

    model_error: str = ""
    died: str = ""
    death: int = signal.SIGKILL
    score: float = 0.9

    def load(self, *, threads: int | None = None) -> OneByOne:
        if self.model_error:
            raise ValueError(self.model_error)
        return OneByOne(FakeGenerator(self.died, self.death, self.score).generate)


@dataclass(frozen=True, slots=True)
class FakeGenerator:
    """One mask, the left half of the image, and two rejections; or what the first pixel asks for."""

    died: str = ""
    death: int = signal.SIGKILL
    score: float = 0.9

    def generate(self, image: NDArray[np.uint8]) -> Generation:
        if self.died and not Path(self.died).exists():
            Path(self.died).touch()
            os.kill(os.getpid(), self.death)
        match int(image[0, 0, 0]):
            case 20:
                raise RuntimeError("out of\nluck")
            case 30:
                ctypes.string_at(0)  # a real segmentation fault
            case 40:
                threading.Event().wait()
            case 50:
                return half_mask(image.shape[:2], area=1)
            case 60 if multiprocessing.parent_process() is None:
                raise MemoryError
            case 70:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            case 80:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/ada/.triton/cache/x")
        return half_mask(image.shape[:2], score=self.score)


def half_mask(size: tuple[int, ...], *, area: int | None = None, score: float = 0.9) -> Generation:
    """A mask of the left half of an image, and two rejected candidates."""
    height, width = size
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    records = MaskRecords(
        size=(height, width),
        rle=(encode(mask),),
        boxes=np.array([[0, 0, width // 2, height]], np.int64),
        areas=np.array([area or height * (width // 2)], np.int64),
        predicted_iou=np.array([score], np.float32),
        stability_score=np.array([0.96], np.float32),
        points=np.array([[0.5, 0.5]], np.float32),
        crop_boxes=np.array([[0, 0, width, height]], np.int32),
    )
    rejections = Rejections(
        reason=np.array([0, 4], np.int8),
        points=np.zeros((2, 2), np.float32),
        output=np.zeros(2, np.int8),
        predicted_iou=np.zeros(2, np.float32),
        stability_score=np.full(2, np.nan, np.float32),
        crop_boxes=np.zeros((2, 4), np.int32),
    )
    return Generation(records, rejections, StepSeconds(encode=0.25, decode=0.5))


def run_record(run_id: str = "run") -> RunRecord:
    return replace(rows.run_record(run_id), name=None, model_name="fake", model_id="fake-1")


def shard_job(
    dataset: Path | str, *, source: FakeSource | None = None, timeout: float = 60.0, memory: int | None = None
) -> ShardJob:
    half_mask((8, 6))  # compiled by now, which may take a child longer than `timeout`
    return ShardJob(str(dataset), run_record(), source or FakeSource(), MAX_PIXELS, timeout, 1, memory)


def save_flat(path: Path, first_pixel: int, *, size: tuple[int, int] = (8, 6)) -> Path:
    """A grey picture, width and height as given, whose first pixel says how it ends."""
    image = Image.new("RGB", size, (128, 128, first_pixel))
    image.putpixel((0, 0), (first_pixel, 0, 0))
    image.save(path)
    return path
