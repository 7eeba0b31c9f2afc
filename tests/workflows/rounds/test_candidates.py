"""What policies are told of images that a model looks at."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest
import torch

from sam_core.geometry import frame_of
from sam_core.masks.batch import MaskBatch
from sam_core.model.image_encoder import ImageFeatures
from sam_core.predict import ImageEmbedding, Prompts
from workflows.rounds import candidates
from workflows.rounds.candidates import _pooled, _uncertainty


class OneImage:
    """In the place of a Desk: an image of 30 x 90 px."""

    sizes: Mapping[str, tuple[int, int]] = MappingProxyType({"a": (30, 90)})
    sam = None

    def embedding(self, _: str) -> None: ...


def test_uncertainty_is_what_the_best_masks_of_clicks_all_over_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Prompts] = []

    def decode(_: object, __: object, prompts: Prompts, **___: object) -> MaskBatch:
        asked.append(prompts)
        iou = torch.tensor([[0.1, 0.9, 0.4], [0.5, 0.2, 0.3]]).repeat(len(prompts.points) // 2, 1)  # type: ignore[arg-type]
        return MaskBatch(torch.zeros(len(iou), 3, 4, 4), iou, frame_of((30, 90), image_size=64))

    monkeypatch.setattr(candidates, "decode", decode)
    assert _uncertainty(cast("Any", OneImage()), "a") == pytest.approx(1 - (0.9 + 0.5) / 2)
    ((prompts,),) = (asked,)
    assert prompts.points is not None
    places = prompts.points[:, 0].numpy()
    assert sorted(set(places[:, 0].tolist())) == pytest.approx([7.5, 22.5, 37.5, 52.5, 67.5, 82.5])
    assert sorted(set(places[:, 1].tolist())) == pytest.approx([2.5, 7.5, 12.5, 17.5, 22.5, 27.5])


def test_padding_is_no_part_of_a_picture() -> None:
    """16 x 48 px of an input of 48, in cells of 8 px."""
    cells = torch.full((1, 2, 6, 6), 100.0)
    cells[0, 0, :2], cells[0, 1, :2] = torch.arange(12.0).view(2, 6), 3.0
    embedding = ImageEmbedding(ImageFeatures(cells, ()), (frame_of((30, 90), image_size=48),))
    np.testing.assert_allclose(_pooled(embedding, 48), [5.5, 3.0])
