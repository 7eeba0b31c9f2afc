"""Means of weights, and a head of predicted IoU that is fitted to them."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sam_core.model.checkpoint import load_model
from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.predict import decode, encode
from sam_core.presets import at_image_size, vit_test
from tests.benchmarks.finish_vit_n import Examples, Options, agreement, calibration_config, examples, fit, mean_model
from tests.benchmarks.train_vit_n import Scenes


def test_a_mean_lies_between_two_models() -> None:
    torch.manual_seed(0)
    old, *new = (Sam(vit_test()) for _ in range(3))
    of_two = [0.25 * a + 0.75 * b for a, b in zip(old.parameters(), new[0].parameters(), strict=True)]
    of_three = [(a + b + c) / 3 for a, b, c in zip(*(each.parameters() for each in (old, *new)), strict=True)]
    # The first of the new ones is written over.
    for mine, mean in zip(mean_model(old, [deepcopy(new[0])], 0.75).parameters(), of_two, strict=True):
        torch.testing.assert_close(mine, mean)
    for mine, mean in zip(mean_model(old, new, 2 / 3).parameters(), of_three, strict=True):
        torch.testing.assert_close(mine, mean)


def test_an_older_model_may_have_a_smaller_input() -> None:
    torch.manual_seed(0)
    old, new = Sam(vit_test()), Sam(at_image_size(vit_test(), 96))
    mean = mean_model(old, [deepcopy(new)], 0.5).image_encoder.pos_embed
    assert mean is not None
    assert mean.shape[1:3] == (6, 6)
    head = "mask_decoder.iou_prediction_head.layers.0.weight"
    both = [model.state_dict()[head].clone() for model in (old, new)]
    torch.testing.assert_close(mean_model(old, [new], 0.5).state_dict()[head], (both[0] + both[1]) / 2)


def test_examples_are_what_the_predictor_finds_with_the_same_clicks() -> None:
    sam = load_model("vit_n").sam
    config = replace(calibration_config(Options("", "", Path(), Path())), images=1, centre_share=1.0)
    batch = Scenes(config, 1)[3]
    found = examples(sam, [batch], config)
    assert batch.centres is not None
    height, width = batch.sizes[0].tolist()
    embedding = encode(sam, [batch.images[0, :height, :width].numpy()])
    clicks = Prompts(batch.centres[:, None], torch.ones(len(batch.masks), 1, dtype=torch.int64))
    decoded = decode(sam, embedding, clicks)
    torch.testing.assert_close(
        sam.mask_decoder.iou_prediction_head(found.tokens)[:, 1:], decoded.iou, atol=2e-3, rtol=0
    )
    masks, truth = decoded.masks().numpy(), batch.masks[:, None, :height, :width].numpy()
    real = (masks & truth).sum((2, 3)) / np.maximum((masks | truth).sum((2, 3)), 1)
    np.testing.assert_allclose(found.real, real, atol=0.02)


def test_a_fitted_head_chooses_better() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2000, 8)
    found = Examples(tokens, torch.sigmoid(tokens[:, :3]))
    head = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    before, best = agreement(head, found)
    fit(head, found, seed=0, epochs=20, rate=1e-2)
    after, _ = agreement(head, found)
    assert best - after < 0.1 * (best - before)
