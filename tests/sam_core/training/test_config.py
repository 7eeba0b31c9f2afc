"""Values that no training can have are refused."""

import math
from dataclasses import replace

import pytest

from sam_core.training.losses import LossWeights
from sam_core.training.nano_presets import nano
from sam_core.training.schedule import LearningRate


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"images": 0}, "positive"),
        ({"jitter": (2, 1)}, "jitter"),
        ({"microscopy": 1.0}, "no microscopy"),
        ({"losses": LossWeights(finer=3)}, "1, 2 or 4 times"),
        ({"aim": "distill"}, "teacher"),
        ({"learning_rate": LearningRate(math.nan, 1, 9)}, "learning rate is a positive number"),
        ({"learning_rate": LearningRate(-1e-4, 1, 9)}, "learning rate is a positive number"),
        ({"teacher": "vit_h"}, "distillation, and nothing else, has a teacher"),
        ({"aim": "distill", "teacher": "vit_h", "centre_share": 0.5}, "centre_share is of masks"),
        ({"aim": "distill", "teacher": "vit_h", "window_share": 0.5}, "window_share is of masks"),
        ({"aim": "distill", "teacher": "vit_h", "losses": LossWeights(chosen=0.5)}, "chosen is of masks"),
        ({"points": -1}, "points are 0 or more"),
        ({"points": 0, "fewer_points": True}, "from 1 to points"),
    ],
)
def test_impossible_values_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(nano()[0], **change)  # type: ignore[arg-type]
