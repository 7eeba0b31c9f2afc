"""Endless, reproducible batches of procedural scenes, rendered by processes beside the training one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sam_core.scenes import SceneConfig, render_scene
from sam_core.training.sampling import MaskChoice, scene_batch
from sam_core.training.targets import TrainBatch, merge


class SceneDataset(Dataset[TrainBatch]):
    """Scene i of a seed; the same i is the same picture and the same masks wherever it is rendered."""

    def __init__(self, scenes: SceneConfig, choice: MaskChoice, *, seed: int, start: int, count: int) -> None:
        self._scenes, self._choice, self._seed = scenes, choice, seed
        self._start, self._count = start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> TrainBatch:
        rng = np.random.default_rng([self._seed, self._start + index])
        return scene_batch(render_scene(self._scenes, rng), self._choice, rng)


def _one_thread(_worker: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def scene_batches(
    scenes: SceneConfig,
    choice: MaskChoice,
    *,
    images: int,
    first_step: int,
    last_step: int,
    seed: int,
    workers: int = 1,
) -> Iterator[TrainBatch]:
    """Batches of steps first_step..last_step - 1; resuming at any step continues the same sequence."""
    dataset = SceneDataset(
        scenes, choice, seed=seed, start=first_step * images, count=(last_step - first_step) * images
    )
    return iter(
        DataLoader(
            dataset,
            batch_size=images,
            num_workers=workers,
            collate_fn=merge,
            worker_init_fn=_one_thread,
            persistent_workers=False,
        )
    )
