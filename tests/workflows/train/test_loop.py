"""The training loop: stopped anywhere and resumed, it ends with the same weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.scenes import SceneConfig
from sam_core.training.presets import TrainConfig, nano
from sam_core.training.sampling import MaskChoice
from sam_core.training.schedule import LearningRate
from workflows.train.loop import Progress, TrainState, train
from workflows.train.scenes import scene_batches

STEPS = 4


def config() -> TrainConfig:
    rate = LearningRate(base=1e-3, warmup=2, iterations=STEPS)
    return replace(nano()[0], model="vit_test", image_size=64, images=2, learning_rate=rate, bfloat16=False)


def run(state: TrainState, last_step: int) -> list[Progress]:
    progress: list[Progress] = []
    batches = scene_batches(
        SceneConfig(size=64), MaskChoice(4), images=2, first_step=state.step, last_step=last_step, seed=0, workers=0
    )
    train(state, batches, config(), progress.append)
    return progress


def fresh(seed: int) -> TrainState:
    torch.manual_seed(seed)
    return TrainState.fresh(Sam(vit_test()), config())


def test_a_resumed_run_ends_with_bit_identical_weights(tmp_path: Path) -> None:
    undisturbed = fresh(0)
    run(undisturbed, STEPS)
    first = fresh(0)
    run(first, 2)
    first.save(tmp_path / "state.pt")
    second = fresh(1)
    second.load(tmp_path / "state.pt")
    run(second, STEPS)
    for ours, theirs in ((second.model, undisturbed.model), (second.average, undisturbed.average)):
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_gradient_that_is_not_finite_stops_before_the_step() -> None:
    state = fresh(0)
    state.model.mask_decoder.iou_token.weight.data[:] = torch.nan
    before = {name: p.clone() for name, p in state.model.named_parameters()}
    with pytest.raises(ValueError, match=r"step 0: .*not finite"):
        run(state, 1)
    assert all(torch.equal(p, before[name]) for name, p in state.model.named_parameters() if "iou_token" not in name)
