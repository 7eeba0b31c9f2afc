"""The detector's training job: the masks of a round's snapshot and the model's embeddings in, a head's weights out.

One worker of Ray Train. It takes seconds to minutes on features that are there already, so a killed job is simply done
again; the weights are written at the end, whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load, save

from sam_core.detector import Example, FitConfig, ObjectDetector, detector_for, fit
from sam_core.geometry import boxes_to_input
from sam_core.presets import SamConfig
from schemas.layout import detector_key
from workflows.failures import last_line, tell_left_out
from workflows.images import UNREADABLE
from workflows.models import Model
from workflows.rounds.pictures import Desk, require_some
from workflows.scratch import scratch_folder
from workflows.sql import connect
from workflows.storage import Store, open_store

_RESTARTS = 2
"""Of a worker that failed or went with its machine: it begins again."""
_BOXES = """
SELECT image_id, list([bbox_x, bbox_y, bbox_x + bbox_w, bbox_y + bbox_h] ORDER BY mask_id)
FROM annotations
WHERE stage <> 'audit' AND NOT list_contains(?::INTEGER[], coalesce(round, 0))
    AND NOT list_contains(?::TEXT[], image_id)
GROUP BY image_id ORDER BY image_id
"""


@dataclass(frozen=True, slots=True)
class DetectorJob:
    """What the worker is told. left_out: rounds whose masks are not trusted. held_out: images that are not learned
    from, although they have masks."""

    root: str
    number: int
    model: Model
    fit: FitConfig
    left_out: tuple[int, ...]
    held_out: tuple[str, ...]
    threads: int


def train_on_ray(job: DetectorJob) -> None:
    """Train on Ray Train. Raises ValueError when the worker failed."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from workflows.ray_session import has_gpus, start_ray
    from workflows.torch_trainer import RayTrainer

    start_ray()
    gpus = has_gpus()
    with scratch_folder() as scratch:
        trainer = RayTrainer(
            lambda settings: train_detector(settings["job"]),
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(num_workers=1, use_gpu=gpus),
            run_config=RunConfig(
                name=f"detector-{job.number}", storage_path=str(scratch), failure_config=FailureConfig(_RESTARTS)
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray Train wraps whatever a worker died of in classes of its own
            raise ValueError(f"the detector was not trained: {last_line(error)}") from error


def train_detector(job: DetectorJob) -> None:
    """What the worker does. Without a mask to learn from the head stays as it began, and nothing it says is trusted."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.fit.seed)
    store = open_store(job.root)
    connection = connect(job.root)
    desk = Desk(store, job.model, connection)
    rows = connection.execute(_BOXES, [list(job.left_out), list(job.held_out)]).fetchall()
    found, left_out = desk.readable(image_id for image_id, _ in rows)
    require_some("annotated images", len(rows), [str(error) for error in left_out if error.kind == UNREADABLE])
    tell_left_out([*map(str, left_out)])
    examples = [_example(desk, image_id, boxes) for image_id, boxes in rows if image_id in found]
    detector = detector_for(desk.sam.config, width=job.fit.width)
    if examples:
        fit(detector, examples, job.fit)
    store.put(detector_key(job.number), save({name: t.contiguous() for name, t in detector.state_dict().items()}))


def load_detector(store: Store, number: int, config: SamConfig, *, width: int) -> ObjectDetector:
    """The detector of a round, in eval mode."""
    detector = detector_for(config, width=width)
    detector.load_state_dict(load(store.get(detector_key(number))))
    return detector.eval()


def _example(desk: Desk, image_id: str, boxes: list[list[int]]) -> Example:
    embedding = desk.embedding(image_id)
    corners = torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
    return Example(embedding.features, boxes_to_input(corners, embedding.frames[0]))
