"""A student learns its teacher's embedding, and takes over its decoder."""

from dataclasses import replace

import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.presets import preset, vit_test
from sam_core.training.distillation import adopt_decoder, distil, feature_error, teacher_features
from sam_core.training.presets import train_preset
from sam_core.training.targets import TrainBatch

CONFIG = replace(train_preset("distill")[0], model="vit_test", teacher="vit_test", image_size=64)


def batch() -> TrainBatch:
    generator = torch.Generator().manual_seed(0)
    return TrainBatch(
        images=torch.randint(0, 255, (3, 64, 64, 3), generator=generator, dtype=torch.uint8),
        sizes=torch.tensor([[64, 64], [48, 64], [64, 40]]),
        masks=torch.zeros(0, 64, 64, dtype=torch.bool),
        image_of=torch.zeros(0, dtype=torch.int64),
        numbers=torch.arange(3),
    )


def pair() -> tuple[Sam, Sam]:
    torch.manual_seed(0)
    config = vit_test()
    deeper = replace(config, image_encoder=replace(config.image_encoder, depth=3))
    return Sam(config), Sam(deeper).eval()


def test_the_error_falls_and_the_decoder_is_the_teachers() -> None:
    student, teacher = pair()
    adopt_decoder(student, teacher)
    optimizer = torch.optim.AdamW(student.image_encoder.parameters(), lr=3e-3)
    errors = []
    for _ in range(30):
        optimizer.zero_grad()
        errors.append(distil(student, teacher, batch(), CONFIG))
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]
    for ours, theirs in zip(student.mask_decoder.parameters(), teacher.mask_decoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(p.grad is None for p in teacher.parameters())


def test_the_error_is_the_mean_of_squares() -> None:
    student, teacher = pair()
    wanted = teacher_features(teacher, batch())
    found = teacher_features(student, batch())
    by_hand = ((found.embedding - wanted.embedding) ** 2).sum() / found.embedding.numel()
    torch.testing.assert_close(feature_error(found, wanted), by_hand)


def test_models_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="vit_n cannot be distilled from vit_test"), torch.device("meta"):
        adopt_decoder(Sam(preset("vit_n")), Sam(vit_test()))
