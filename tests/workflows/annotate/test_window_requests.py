"""Windows of an image over HTTP: the masks that Python makes of them, and one line for whatever is no tile."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from pycocotools import mask as coco

from sam_core.answers import answer
from sam_core.honour import honour_clicks
from sam_core.masks import rle
from sam_core.model.checkpoint import load_model
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, encode
from sam_core.windows import inside
from tests.fake_clip import FakeClip
from tests.workflows.annotate.conftest import client_of, ingest_photo
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import Studio, open_studio
from workflows.storage import open_store

HEIGHT, WIDTH = 150, 200
WINDOW = (50, 50, 150, 150)
CLICK = (90.0, 80.0)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]) -> Path:
    """A data set of one photograph that is large enough to zoom in."""
    return ingest_photo(tmp_path_factory.mktemp("windows"), "noise", photo)


@pytest.fixture
def image(studio: Studio) -> str:
    return next(iter(studio.images))


@pytest.fixture
def sam(tiny_checkpoint: Path) -> Sam:
    return load_model(tiny_checkpoint).sam


def ask(client: TestClient, image: str, **prompt: Any) -> dict[str, Any]:
    answered = client.post("/api/decode", json={"image_id": image, "points": [[*CLICK, 1]]} | prompt)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def clicked() -> Prompts:
    return Prompts(torch.tensor([[CLICK]]), torch.ones(1, 1, dtype=torch.int64))


def pixels(candidate: dict[str, Any]) -> NDArray[np.bool_]:
    return coco.decode({"size": [HEIGHT, WIDTH], "counts": candidate["rle"]}).astype(bool)


def as_sent(embedding: ImageEmbedding) -> ImageEmbedding:
    """In float16, as files of embeddings are."""
    features = embedding.features
    halves = ImageFeatures(features.embedding.half().float(), tuple(fine.half().float() for fine in features.fine))
    return replace(embedding, features=halves)


def test_a_click_in_a_window_gives_the_mask_of_that_window_over_the_whole_image(
    client: TestClient, image: str, sam: Sam, photo: NDArray[np.uint8]
) -> None:
    first = ask(client, image, window=WINDOW)["candidates"][0]
    wanted = honour_clicks(answer(sam, as_sent(encode(sam, [photo], crop_boxes=[WINDOW])), clicked()), clicked()).best()
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    inside(mask, WINDOW)[:] = wanted.masks()[0, 0].numpy()
    assert mask.any()
    assert np.mean(pixels(first) == mask) > 0.999
    assert first["predicted_iou"] == pytest.approx(float(wanted.iou), abs=5e-3)
    assert first["area"] == pixels(first).sum()


def test_the_whole_image_is_a_window_like_none(client: TestClient, image: str, config: AnnotateConfig) -> None:
    whole = (0, 0, WIDTH, HEIGHT)
    assert ask(client, image) == ask(client, image, window=whole)
    path = f"/api/images/{image}/embedding"
    assert client.get(path).content == client.get(path, params={"window": "0,0,200,150"}).content
    assert len(list(open_store(config.dataset).list("embeddings"))) == 1


def test_a_window_is_encoded_once_and_then_served_while_the_model_is_busy(
    studio: Studio, client: TestClient, image: str, config: AnnotateConfig
) -> None:
    def get() -> bytes:
        answered = client.get(f"/api/images/{image}/embedding", params={"window": "50,50,150,150"})
        assert answered.status_code == 200
        return answered.content

    stored = get()
    assert b'"window":"50 50 150 150"' in stored[:1000]
    with studio.assistant._lock, ThreadPoolExecutor(1) as pool:
        assert pool.submit(get).result(timeout=60) == stored
    assert list(open_store(config.dataset).list("embeddings")) == []  # only whole images are kept for good


def test_a_mask_to_start_from_is_over_the_whole_image(client: TestClient, image: str) -> None:
    """Moved by the corner of the window, it is to the window what it was to the other one."""
    masks = {}
    for window in (WINDOW, (0, 0, 100, 100)):
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[window[1] + 10 : window[1] + 60, window[0] + 20 : window[0] + 90] = True
        asked = {"window": window, "points": [[window[0] + 40, window[1] + 30, 1]], "output": "logits"}
        plain = ask(client, image, **asked)["logits"]
        started = ask(client, image, **asked, mask=rle.encode(mask).decode())["logits"]
        masks[window] = [np.frombuffer(base64.b64decode(text), "<f2").astype(float) for text in (plain, started)]
    for plain, started in masks.values():
        assert np.abs(plain - started).max() > 0.01
    elsewhere = rle.encode(np.ones((HEIGHT, WIDTH), np.bool_)).decode()
    refused = client.post(
        "/api/decode", json={"image_id": image, "points": [[*CLICK, 1]], "window": WINDOW, "mask": elsewhere}
    )
    assert refused.status_code == 400


def test_words_are_looked_for_in_the_window(
    config: AnnotateConfig, text_checkpoint: Path, fake_clip: None, photo: NDArray[np.uint8]
) -> None:
    studio = open_studio(replace(config, model=str(text_checkpoint), clip="clip"))
    image, sam = next(iter(studio.images)), load_model(text_checkpoint).sam
    said = ask(client_of(studio), image, window=WINDOW, points=[], text="a red wheel")["candidates"][0]
    prompts = Prompts(text=FakeClip().embed_texts(["a red wheel"]).vectors)
    wanted = answer(sam, encode(sam, [photo], crop_boxes=[WINDOW]), prompts).best()
    assert np.mean(inside(pixels(said), WINDOW) == wanted.masks()[0, 0].numpy()) > 0.99


@pytest.mark.parametrize(
    ("window", "status", "complaint"),
    [
        ("50,50,151,150", 400, "window 50,50,151,150 is not a tile of an image of 200x150 px"),
        ("100,100,200,200", 400, "is not a tile"),
        ("0,0,0,0", 400, "is not a tile"),
        ("0,0,1", 422, "window"),
        ("a,b,c,d", 422, "window"),
        ("-1,0,99,100", 422, "window"),
    ],
)
def test_no_other_window_is_encoded(client: TestClient, image: str, window: str, status: int, complaint: str) -> None:
    answered = client.get(f"/api/images/{image}/embedding", params={"window": window})
    assert answered.status_code == status
    assert complaint in str(answered.json()["detail"])


@pytest.mark.parametrize(
    ("prompt", "status", "complaint"),
    [
        ({"window": [50, 50, 151, 150]}, 400, "window 50,50,151,150 is not a tile"),
        ({"window": [50, 50, 150]}, 422, "window"),
        ({"window": [50.5, 50, 150, 150]}, 422, "window"),
        ({"points": [[20, 80, 1]]}, 400, "points, box and mask must lie in the window 50,50,150,150"),
        ({"box": [60, 60, 151, 90]}, 400, "must lie in the window"),
    ],
)
def test_a_prompt_that_does_not_fit_its_window_is_refused(
    client: TestClient, image: str, prompt: dict[str, Any], status: int, complaint: str
) -> None:
    asked = {"image_id": image, "points": [[*CLICK, 1]], "window": WINDOW} | prompt
    answered = client.post("/api/decode", json=asked)
    assert answered.status_code == status
    assert complaint in str(answered.json()["detail"])


def test_openapi_documents_it(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    (window,) = [
        parameter
        for parameter in described["paths"]["/api/images/{image_id}/embedding"]["get"]["parameters"]
        if parameter["in"] == "query"
    ]
    assert "tiles only" in window["description"]
    assert "tiles only" in described["components"]["schemas"]["DecodeRequest"]["properties"]["window"]["description"]
