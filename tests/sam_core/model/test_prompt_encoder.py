"""Prompt embeddings against the released prompt encoder, mixed batches, and refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from sam_core.model.prompt_encoder import PromptEncoder, Prompts
from sam_core.presets import vit_test
from tests.released import import_released, randomise
from tests.sam_core.model.reference import assert_close, prompts_of_every_kind

KINDS = tuple(prompts_of_every_kind(vit_test(), n=1))


def same_encoders(dim: int) -> tuple[Any, PromptEncoder]:
    import_released()
    from segment_anything.modeling import PromptEncoder as Released

    released = Released(embed_dim=dim, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=16)
    randomise(released, seed=0)
    ours = PromptEncoder(dim, grid=4, image_size=64)
    ours.load_state_dict(released.state_dict())
    return released, ours


@pytest.mark.parametrize("dim", [128, 256])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_embeddings_are_the_released_ones(kind, dim):
    released, ours = same_encoders(dim)
    prompts = prompts_of_every_kind(vit_test(), n=3)[kind]
    points = None if prompts.points is None else (prompts.points, prompts.labels)
    sparse, dense = released(points=points, boxes=prompts.boxes, masks=prompts.mask_logits)
    embeddings = ours(prompts)
    assert_close(embeddings.sparse, sparse, tolerance=1e-5)
    assert_close(embeddings.dense.expand_as(dense), dense, tolerance=1e-5)
    assert_close(ours.dense_positions(), released.get_dense_pe(), tolerance=1e-5)


@torch.no_grad()
def test_clicks_and_boxes_share_a_batch():
    _, encoder = same_encoders(32)
    click, box = torch.tensor([[[10.0, 20.0], [0.0, 0.0]]]), torch.tensor([[[5.0, 6.0], [30.0, 40.0]]])
    mixed = encoder.embed(torch.cat([click, box]), torch.tensor([[1, -1], [2, 3]]), None).sparse
    assert torch.equal(mixed[:1], encoder(Prompts(click[:, :1], torch.tensor([[1]]))).sparse)
    assert torch.equal(mixed[1:], encoder(Prompts(boxes=box.view(1, 4))).sparse)


@torch.no_grad()
def test_positions_keep_single_precision_under_autocast():
    _, encoder = same_encoders(32)
    points = torch.rand(4, 2) * 64 / 64
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.pe_layer(points)
    assert torch.equal(half, encoder.pe_layer(points))


@torch.no_grad()
def test_a_padding_point_has_no_position():
    _, encoder = same_encoders(32)
    labels = torch.tensor([[1, -1]])
    first = encoder(Prompts(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), labels)).sparse
    second = encoder(Prompts(torch.tensor([[[1.0, 2.0], [50.0, 60.0]]]), labels)).sparse
    assert torch.equal(first, second)


POINTS, LABELS = torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({}, "it has none"),
        ({"points": POINTS}, "come together"),
        ({"labels": LABELS}, "come together"),
        ({"points": POINTS.tolist(), "labels": LABELS}, "points of a prompt are a tensor, not list; torch.as_tensor"),
        ({"boxes": np.zeros((1, 4))}, "boxes of a prompt are a tensor, not ndarray"),
        ({"points": POINTS[0], "labels": LABELS}, r"points of a prompt must have shape \[\*, \*, 2\], not \[3, 2\]"),
        ({"points": POINTS, "labels": LABELS[:, :2]}, "need labels of shape"),
        ({"points": POINTS.long(), "labels": LABELS}, "floating-point"),
        ({"boxes": torch.zeros(4)}, r"boxes of a prompt must have shape \[\*, 4\]"),
        ({"boxes": torch.zeros(2, 4, dtype=torch.int32)}, "floating-point"),
        ({"mask_logits": torch.zeros(2, 1, 16, 16) > 0}, "floating-point"),
        ({"mask_logits": torch.zeros(2, 16, 16)}, "mask_logits of a prompt"),
        ({"points": POINTS, "labels": LABELS, "boxes": torch.zeros(3, 4)}, "differ in number"),
        ({"boxes": torch.zeros(0, 4)}, "there are no prompts"),
    ],
)
def test_prompts_that_do_not_fit_together_are_refused(parts, complaint):
    with pytest.raises(ValueError, match=complaint):
        Prompts(**parts)


def test_length_is_the_number_of_prompts():
    assert len(Prompts(POINTS, LABELS)) == 2
    assert len(Prompts(boxes=torch.zeros(5, 4))) == 5
