"""What Ray Train does beside training, and what of it is left out."""

from __future__ import annotations

from ray.train.torch import TorchTrainer

from workflows.torch_trainer import RayTrainer


def test_only_the_actor_for_ray_data_is_left_out() -> None:
    """It goes by the name of a class of Ray's own: under another name it would be back without a word."""
    kinds = TorchTrainer, RayTrainer
    theirs, ours = ([type(each).__name__ for each in kind(print)._create_default_callbacks()] for kind in kinds)
    assert [name for name in theirs if name not in ours] == ["DatasetsCallback"]
    assert [name for name in ours if name not in theirs] == []
