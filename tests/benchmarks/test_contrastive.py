"""The contrastive loss against that of transformers, and with answers that are not wrong."""

import pytest
import torch
import torch.nn.functional as F

from tests.benchmarks.text_prompts.contrastive import contrastive_loss, mean_gap, retrieval


def vectors(seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_it_is_the_loss_of_clip() -> None:
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    images, texts = vectors(0), vectors(1)
    reference = image_text_contrastive_loss(10.0 * texts @ images.T)
    torch.testing.assert_close(contrastive_loss(images, texts, 10.0), reference)


def test_other_true_texts_are_no_wrong_answers() -> None:
    images, texts = vectors(0), vectors(1)
    also = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(contrastive_loss(images, texts, 5.0, also), contrastive_loss(images, texts, 5.0))
    texts[1] = texts[0]
    also[0, 1] = also[1, 0] = True
    left_out = contrastive_loss(images, texts, 5.0, also)
    assert left_out < contrastive_loss(images, texts, 5.0)
    assert left_out.isfinite()


def test_gradients_are_finite_when_everything_is_true() -> None:
    images = vectors(0).requires_grad_()
    contrastive_loss(images, vectors(1), 5.0, torch.ones(5, 5, dtype=torch.bool)).backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_retrieval_counts_own_crops_and_others_that_fit() -> None:
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 2, 2]]
    assert retrieval(images, texts) == pytest.approx(2 / 3)
    also = torch.zeros(3, 3, dtype=torch.bool)
    also[2, 1] = True
    assert retrieval(images, texts, also) == 1


def test_the_gap_is_that_of_the_means() -> None:
    images, texts = vectors(0), vectors(1)
    assert mean_gap(images, images[[2, 0, 1, 4, 3]]) == pytest.approx(0, abs=1e-12)
    assert mean_gap(images, texts) == pytest.approx(float((images.mean(0) - texts.mean(0)).norm() ** 2), rel=1e-5)
