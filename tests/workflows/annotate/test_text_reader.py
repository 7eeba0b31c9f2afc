"""Text at `/api/decode`: the same masks as Python makes, and one line where there is none to make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sam_core.answers import answer
from sam_core.honour import honour_clicks
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, encode
from tests.fake_clip import FakeClip
from tests.workflows.annotate.conftest import client_of
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import Studio, open_studio
from workflows.image_limits import MAX_PIXELS
from workflows.originals import read_pixels
from workflows.uris import UriReader


@pytest.fixture
def studio(config: AnnotateConfig, text_checkpoint: Path, fake_clip: None) -> Studio:
    return open_studio(replace(config, model=str(text_checkpoint), clip="clip"))


def test_text_alone_and_beside_a_click(studio: Studio, text_checkpoint: Path) -> None:
    client, image = client_of(studio), next(iter(studio.images))
    assert client.get("/api/project").json()["model"]["text_prompts"] is True
    pixels = read_pixels(UriReader(), studio.images[image].stored, max_pixels=MAX_PIXELS)
    sam = load_model(text_checkpoint).sam
    embedding, text = encode(sam, [pixels]), FakeClip().embed_texts(["a red wheel"]).vectors
    click, label = torch.tensor([[[20.0, 10.0]]]), torch.ones(1, 1, dtype=torch.int64)
    for request, prompts in (
        ({}, Prompts(text=text)),
        ({"points": [[20, 10, 1]]}, Prompts(click, label, text=text)),
        ({"box": [2, 3, 60, 40]}, Prompts(boxes=torch.tensor([[2.0, 3.0, 60.0, 40.0]]), text=text)),
    ):
        said = client.post("/api/decode", json={"image_id": image, "text": "a red wheel"} | request).json()
        assert said["note"] is None
        best = honour_clicks(answer(sam, embedding, prompts), prompts).best()
        first = said["candidates"][0]
        assert first["predicted_iou"] == pytest.approx(float(best.iou), abs=0.01)  # stored embeddings are float16
        found = coco.decode({"size": list(pixels.shape[:2]), "counts": first["rle"]}).astype(bool)
        assert np.mean(found == best.masks()[0, 0].numpy()) > 0.99


def test_a_long_text_is_cut_and_it_is_said(studio: Studio) -> None:
    request = {"image_id": next(iter(studio.images)), "text": "one two three four five six seven", "output": "logits"}
    said = client_of(studio).post("/api/decode", json=request).json()
    assert "is longer than the 8 tokens" in said["note"]
    assert len(said["iou"]) == 4


def test_an_empty_text_and_a_server_without_clip_answer_in_one_line(studio: Studio, config: AnnotateConfig) -> None:
    for server, text, complaint in (
        (client_of(studio), " ", "the text is empty"),
        (
            client_of(open_studio(config)),
            "red",
            "this server has no text prompts: start `sam-engine annotate` with --clip",
        ),
    ):
        answered = server.post("/api/decode", json={"image_id": next(iter(studio.images)), "text": text})
        assert (answered.status_code, complaint in answered.json()["detail"]) == (400, True)


def test_openapi_documents_it(studio: Studio) -> None:
    schemas = client_of(studio).get("/api/openapi.json").json()["components"]["schemas"]
    assert "text" in schemas["DecodeRequest"]["properties"]
    assert "note" in schemas["Decoded"]["properties"]


def test_a_model_without_text_prompts_is_refused_at_the_start(config: AnnotateConfig, fake_clip: None) -> None:
    with pytest.raises(ValueError, match="vit_test takes no text prompts"):
        open_studio(replace(config, clip="clip"))
