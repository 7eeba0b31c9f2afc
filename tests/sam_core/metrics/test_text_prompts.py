"""Scores of phrases are those of the prompts asked one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_core.answers import answer
from sam_core.masks.packed import PackedMasks
from sam_core.metrics import text_prompts
from sam_core.metrics.text_prompts import Phrases, Way, score_clicks, score_phrases
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, encode
from tests.fake_clip import FakeClip


def test_each_way_equals_its_prompt(
    text_checkpoint: Path, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_prompts, "PROMPTS_AT_ONCE", 2)
    sam, clip = load_model(text_checkpoint).sam, FakeClip()
    embedding = encode(sam, [photo])
    truth = torch.zeros(3, *photo.shape[:2], dtype=torch.bool)
    truth[0, :200, :200] = truth[1, 100:, 300:] = truth[2, 50:250, 100:400] = True
    text, other, crop = (
        clip.embed_texts(words).vectors for words in (("a", "b", "c"), ("b", "c", "a"), ("d", "e", "f"))
    )
    click = torch.tensor([[100.0, 100.0], [350.0, 200.0], [250.0, 150.0]])
    phrases = Phrases(PackedMasks.of(truth.numpy()), text, other, crop, click, click.flip(0))
    found = {score.way: score.iou for score in score_phrases(sam, embedding, phrases)}
    automatic = {Way.LARGEST, Way.RANKED, Way.RANKED_POINT, Way.AUTOMATIC_BEST}
    assert set(found) == set(Way) - automatic - {Way.RIVAL_POINT}
    np.testing.assert_allclose(score_clicks(sam, embedding, phrases).iou, found[Way.POINT])
    label = torch.ones(1, 1, dtype=torch.int64)
    for n in range(3):
        one = slice(n, n + 1)
        prompts = {
            Way.TEXT: Prompts(text=text[one]),
            Way.OTHER_TEXT: Prompts(text=other[one]),
            Way.IMAGE: Prompts(text=crop[one]),
            Way.POINT: Prompts(click[one, None], label),
            Way.TEXT_POINT: Prompts(click[one, None], label, text=text[one]),
            Way.OTHER_TEXT_POINT: Prompts(click[one, None], label, text=other[one]),
            Way.RANDOM_POINT: Prompts(click.flip(0)[one, None], label),
        }
        for way, prompt in prompts.items():
            mask = answer(sam, embedding, prompt).best().masks()[0, 0]
            iou = float((mask & truth[n]).sum() / (mask | truth[n]).sum())
            assert found[way][n] == pytest.approx(iou, abs=0.02), way  # batches round differently near 0
        three = answer(sam, embedding, prompts[Way.TEXT]).masks()[0]
        best = max(float((mask & truth[n]).sum() / (mask | truth[n]).sum()) for mask in three)
        assert found[Way.TEXT_BEST][n] == pytest.approx(best, abs=0.02)
