"""Embeddings on disk: the same features come back, and no stale file is taken for a fresh one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core.geometry import frame_of
from sam_core.model.checkpoint import load_model
from sam_core.predict import encode
from schemas.layout import embedding_key
from workflows.embeddings import (
    StaleEmbeddingError,
    embed_image,
    embedded_images,
    expected_label,
    stale_embeddings,
    stored_embedding,
    unpack,
)
from workflows.models import Model
from workflows.storage import LocalStore

IMAGE = "ab" * 16


@pytest.fixture(scope="module")
def model() -> Model:
    loaded = load_model("vit_n")
    return Model(loaded.name, loaded.sha256, "vit_n")


@pytest.fixture(scope="module")
def stored(model: Model, photo: NDArray[np.uint8]) -> bytes:
    return embed_image(load_model("vit_n").sam, model, IMAGE, photo)


def test_features_come_back_up_to_half_precision(model: Model, stored: bytes, photo: NDArray[np.uint8]) -> None:
    whole = encode(load_model("vit_n").sam, [photo])
    label = expected_label(model, load_model("vit_n").sam.config.image_size, IMAGE, photo.shape[:2])
    back = unpack(stored, label)
    assert back.frames == whole.frames
    assert len(back.features.fine) == 2
    for half, full in zip(
        (back.features.embedding, *back.features.fine), (whole.features.embedding, *whole.features.fine), strict=True
    ):
        np.testing.assert_allclose(half.numpy(), full.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_sha256": "0" * 64}, "another model_sha256"),
        ({"image_id": "cd" * 16}, "another image_id"),
        ({"frame": frame_of((3, 4), image_size=384)}, "another height and width"),
        ({"frame": frame_of((300, 451), image_size=384, crop_box=(0, 0, 226, 150))}, "another window"),
    ],
)
def test_an_embedding_of_something_else_is_stale(
    model: Model, stored: bytes, photo: NDArray[np.uint8], change: dict[str, object], complaint: str
) -> None:
    label = replace(expected_label(model, load_model("vit_n").sam.config.image_size, IMAGE, photo.shape[:2]), **change)  # type: ignore[arg-type]
    with pytest.raises(StaleEmbeddingError, match=complaint):
        unpack(stored, label)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, slice(0, 3000), slice(0, -2)])
def test_a_damaged_file_is_stale(model: Model, stored: bytes, photo: NDArray[np.uint8], damage: bytes | slice) -> None:
    data = stored[damage] if isinstance(damage, slice) else damage
    with pytest.raises(StaleEmbeddingError):
        unpack(data, expected_label(model, load_model("vit_n").sam.config.image_size, IMAGE, photo.shape[:2]))


def test_what_is_embedded_and_what_is_stale(tmp_path: Path, model: Model) -> None:
    store = LocalStore(tmp_path)
    other = embedding_key("old-1", IMAGE)
    store.put(embedding_key(model.model_id, IMAGE), b"x")
    store.put(other, b"x")
    store.put(f"embeddings/model={model.model_id}/stray.txt", b"x")
    assert list(embedded_images(store, model.model_id)) == [IMAGE]
    assert stale_embeddings(store, model.model_id) == [other]


def test_an_image_is_embedded_once(tmp_path: Path, model: Model, photo: NDArray[np.uint8], stored: bytes) -> None:
    store, made = LocalStore(tmp_path), []
    label = expected_label(model, load_model("vit_n").sam.config.image_size, IMAGE, photo.shape[:2])

    def make() -> bytes:
        made.append(IMAGE)
        return stored

    for _ in range(2):
        assert stored_embedding(store, model.model_id, label, make) == stored
    for damaged in (b"stale", stored[:-2]):
        store.put(embedding_key(model.model_id, IMAGE), damaged)
        assert stored_embedding(store, model.model_id, label, make) == stored
    assert len(made) == 3


def test_a_window_says_where_it_lies(model: Model, photo: NDArray[np.uint8]) -> None:
    sam, window = load_model("vit_n").sam, (100, 50, 260, 170)
    label = expected_label(model, sam.config.image_size, IMAGE, photo.shape[:2], window)
    assert label.window == window
    found = unpack(embed_image(sam, model, IMAGE, photo, window), label)
    assert found.frames[0].original_size == photo.shape[:2]
    assert found.frames[0].crop_box == window
    expected = encode(sam, [photo], crop_boxes=[window])
    np.testing.assert_allclose(found.features.embedding, expected.features.embedding, rtol=1e-3, atol=1e-3)
