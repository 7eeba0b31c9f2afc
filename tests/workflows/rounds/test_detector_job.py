"""What a round's detector learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ray.train import RunConfig

from sam_core.detector import Example, FitConfig
from schemas.layout import annotations_key
from tests.schemas import rows
from tests.workflows.report.data_sets import DataSet, photos
from workflows.models import find_model
from workflows.rounds import detector_job as module
from workflows.rounds.detector_job import DetectorJob, train_detector, train_on_ray


def test_boxes_of_people_on_images_that_are_not_held_out(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 24 x 36 px, which an input of 64 px makes 64/36 times as large."""
    data = DataSet(tmp_path / "data")
    first, second, held_out = data.add_images(photos(tmp_path / "photos", 3, rng=np.random.default_rng(0)))

    def drawn(name: str, image: str, box: tuple[int, int, int, int], **said: object) -> None:
        bitmap = np.zeros((24, 36), bool)
        bitmap[box[1] : box[3], box[0] : box[2]] = True
        rows.put(data.root, annotations_key(name, 1), rows.annotation(name, 1, bitmap, image_id=image, **said))

    drawn("a", first, (3, 6, 12, 18))
    drawn("b", first, (0, 0, 36, 6), round=1)
    drawn("of-a-round-that-is-not-trusted", first, (1, 1, 9, 9), round=2)
    drawn("audited", second, (1, 1, 9, 9), stage="audit")
    drawn("c", second, (30, 3, 36, 24))
    drawn("d", held_out, (1, 1, 9, 9))
    seen: list[Example] = []
    monkeypatch.setattr(module, "fit", lambda _, examples, __: seen.extend(examples))
    model = find_model(str(tiny_checkpoint))
    train_detector(DetectorJob(str(data.root), 3, model, FitConfig(), (2,), (held_out,), threads=1))
    expected = {first: [[3, 6, 12, 18], [0, 0, 36, 6]], second: [[30, 3, 36, 24]]}
    for example, image in zip(seen, sorted(expected), strict=True):
        torch.testing.assert_close(example.boxes, torch.tensor(expected[image]) * (64 / 36), rtol=0.02, atol=0.3)


def test_a_worker_that_is_lost_begins_again_and_then_is_given_up(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = []

    class Lost:
        """Ray Train where every worker dies."""

        def __init__(self, *_: object, run_config: RunConfig, **__: object) -> None:
            configs.append(run_config)

        def fit(self) -> None:
            raise RuntimeError("worker 0 died\nof a signal")

    monkeypatch.setattr("workflows.torch_trainer.RayTrainer", Lost)
    monkeypatch.setattr("workflows.ray_session.start_ray", lambda: None)
    monkeypatch.setattr("workflows.ray_session.has_gpus", lambda: False)
    job = DetectorJob("nowhere", 3, find_model(str(tiny_checkpoint)), FitConfig(), (), (), threads=1)
    with pytest.raises(ValueError, match=r"^the detector was not trained: of a signal$"):
        train_on_ray(job)
    (config,) = configs
    assert config.failure_config.max_failures == 2
