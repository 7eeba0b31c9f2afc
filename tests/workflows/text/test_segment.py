"""`sam-engine segment`: text, clicks and boxes to mask, overlay and JSON; what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from sam_core.answers import answer
from sam_core.clip import clip_metadata
from sam_core.clip_transformers import load_clip
from sam_core.closer import look_closer
from sam_core.geometry import uncrop
from sam_core.honour import honour_clicks
from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.sam import Sam
from sam_core.predict import Prompts, encode, look_at
from sam_core.presets import vit_test, with_text
from tests.fake_clip import FakeClip
from tests.small_clip import write_small_clip
from tests.workflows.conftest import Engine, save_photos
from workflows.text.clips import find_clip, open_clip
from workflows.text.commands import SegmentConfig


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 64 x 48 px."""
    return save_photos(tmp_path / "photos", 1)[0]


def written(out: Path) -> dict[str, Any]:
    """The JSON, after a look at the pictures: the mask is its first one, the overlay as large as the image."""
    document: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    best = np.asarray(Image.open(out))
    np.testing.assert_array_equal(best, 255 * coco.decode(document["masks"][0]["segmentation"]))
    assert np.asarray(Image.open(out.with_name(f"{out.stem}-overlay.png"))).shape == (48, 64, 3)
    return document


def expected(checkpoint: Path, picture: Path, prompts: Prompts) -> tuple[np.ndarray, list[float]]:
    """Masks and predicted IoU of a prompt, most confident first."""
    sam = load_model(checkpoint).sam
    batch = honour_clicks(answer(sam, encode(sam, [np.asarray(Image.open(picture).convert("RGB"))]), prompts), prompts)
    order = batch.iou[0].argsort(descending=True)
    return batch.masks()[0][order].numpy(), batch.iou[0][order].tolist()


def same(document: dict[str, Any], masks: np.ndarray, iou: list[float]) -> None:
    assert [mask["predicted_iou"] for mask in document["masks"]] == pytest.approx(iou, abs=1e-5)
    for entry, mask in zip(document["masks"], masks, strict=True):
        np.testing.assert_array_equal(coco.decode(entry["segmentation"]).astype(bool), mask)
        assert entry["area"] == mask.sum()
        assert entry["bbox"] == coco.toBbox(entry["segmentation"]).tolist()


def test_clicks_and_a_box_need_no_text(engine: Engine, picture: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.png"
    ran = engine("segment", picture, "--point", "20,10", "--model", tiny_checkpoint, "--out", out)
    assert ran.status == 0, ran.err
    assert "1  predicted IoU" in ran.out
    assert "found.png, " in ran.out
    prompts = Prompts(torch.tensor([[[20.0, 10.0]]]), torch.ones(1, 1, dtype=torch.int64))
    document = written(out)
    same(document, *expected(tiny_checkpoint, picture, prompts))
    assert (document["text"], document["clip"], document["points"], document["box"]) == (
        None,
        None,
        [[20, 10, 1]],
        None,
    )
    spots = ("--point", "20,10", "30,12", "--background", "5,5", "--box", "2,3,60,40")
    assert engine("segment", picture, *spots, "--model", tiny_checkpoint, "--out", out).status == 0
    points, labels = torch.tensor([[[20.0, 10.0], [30.0, 12.0], [5.0, 5.0]]]), torch.tensor([[1, 1, 0]])
    boxed = Prompts(points, labels, torch.tensor([[2.0, 3.0, 60.0, 40.0]]))
    same(written(out), *expected(tiny_checkpoint, picture, boxed))


def test_a_closer_look_says_through_which_window(engine: Engine, tiny_checkpoint: Path, tmp_path: Path) -> None:
    picture = tmp_path / "wide.png"
    image = np.random.default_rng(3).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    Image.fromarray(image).save(picture)
    sam, out = load_model(tiny_checkpoint).sam, tmp_path / "found.png"
    click = Prompts(torch.tensor([[[120.0, 100.0]]]), torch.ones(1, 1, dtype=torch.int64))
    box = Prompts(boxes=torch.tensor([[100.0, 90.0, 120.0, 105.0]]))
    for words, prompts in ((("--point", "120,100"), click), (("--box", "100,90,120,105"), box)):
        ran = engine("segment", picture, *words, "--closer", "--model", tiny_checkpoint, "--out", out)
        assert (ran.status, ran.err) == (0, "")
        assert re.search(r"image \d+ ms, masks \d+ ms", ran.out)
        assert "1  trust " in ran.out
        looks = look_at(sam, image), look_at(sam, image[:, ::-1])
        found = honour_clicks(look_closer(sam, *looks, (300, 400), prompts), prompts)
        document = json.loads(out.with_suffix(".json").read_text())
        x, y, w, h = document["window"]
        assert (x, y, x + w, y + h) == found.frame.crop_box
        order = found.iou[0].argsort(descending=True)
        for entry, mask in zip(document["masks"], uncrop(found.masks()[0][order].numpy(), found.frame), strict=True):
            np.testing.assert_array_equal(coco.decode(entry["segmentation"]).astype(bool), mask)
    assert (w, h) == (100, 100)


@pytest.mark.usefixtures("fake_clip")
def test_text_alone_with_a_click_and_with_a_box(
    engine: Engine, picture: Path, text_checkpoint: Path, tmp_path: Path
) -> None:
    command = ("segment", picture, "--text", "a red wheel", "--model", text_checkpoint, "--clip", tmp_path)
    text = FakeClip().embed_texts(["a red wheel"]).vectors
    click, label = torch.tensor([[[20.0, 10.0]]]), torch.ones(1, 1, dtype=torch.int64)
    for spots, prompts in (
        ((), Prompts(text=text)),
        (("--point", "20,10"), Prompts(click, label, text=text)),
        (("--box", "2,3,60,40"), Prompts(boxes=torch.tensor([[2.0, 3.0, 60.0, 40.0]]), text=text)),
    ):
        ran = engine(*command, *spots, "--out", tmp_path / "m.png")
        assert (ran.status, ran.err) == (0, "")
        document = written(tmp_path / "m.png")
        same(document, *expected(text_checkpoint, picture, prompts))
        assert (document["text"], document["clip"]) == ("a red wheel", "fake-fafafafafafa")


@pytest.mark.usefixtures("fake_clip")
def test_templates_count_and_a_long_text_is_said_to_be_cut(
    engine: Engine, picture: Path, text_checkpoint: Path, tmp_path: Path
) -> None:
    command = ("segment", picture, "--model", text_checkpoint, "--clip", tmp_path, "--out", tmp_path / "m.png")
    assert engine(*command, "--text", "red", "--templates", "{}", "the sky {}").status == 0
    vectors = FakeClip().embed_texts(["red", "the sky red"]).vectors
    mean = torch.nn.functional.normalize(vectors.mean(0), dim=0)[None]
    same(written(tmp_path / "m.png"), *expected(text_checkpoint, picture, Prompts(text=mean)))
    ran = engine(*command, "--text", "one two three four five six seven")
    assert ran.status == 0
    assert "is longer than the 8 tokens that this CLIP reads; its end was left out" in ran.err


def test_a_clip_in_a_folder_of_any_name(engine: Engine, picture: Path, tmp_path: Path) -> None:
    """It is no model of a data set, whose name is part of a path."""
    folder = write_small_clip(tmp_path / "my clip (v2)")
    clip = load_clip(folder)
    sam = Sam(with_text(vit_test(), clip.width))
    save_model(sam, tmp_path / "text.safetensors", clip_metadata(clip.name, clip.sha256))
    words = ("--text", "red", "--clip", folder, "--model", tmp_path / "text.safetensors")
    ran = engine("segment", picture, *words, "--out", tmp_path / "m.png")
    assert ran.status == 0, ran.err
    assert written(tmp_path / "m.png")["clip"] == find_clip(str(folder)).clip_id == f"{folder.name}-{clip.sha256[:12]}"


def test_refusals(
    engine: Engine,
    picture: Path,
    tiny_checkpoint: Path,
    text_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(complaint: str, *arguments: str | Path, model: Path = text_checkpoint) -> None:
        ran = engine("segment", picture, *arguments, "--model", model, "--out", tmp_path / "m.png")
        assert (ran.status, len(ran.err.splitlines())) == (2, 1), ran.err
        assert complaint in ran.err

    words = ("--text", "red", "--clip", tmp_path / "nowhere")
    refused("there is no folder", *words)
    refused("hf download openai/clip", *words)  # how to get one
    refused("'1;2'; it must be X,Y in px", "--point", "1;2")
    refused("it must be X0,Y0,X1,Y1 in px", "--box", "1,2,3")
    refused("X0 < X1", "--box", "9,2,3,8")
    refused("has 64x48 px; 70,2 lies outside", "--point", "70,2")
    monkeypatch.setattr("workflows.text.clips.load_clip", lambda folder: FakeClip())
    refused("the text is empty", "--text", " ", "--clip", tmp_path)
    refused("vit_test takes no text prompts; train one", *words, model=tiny_checkpoint)
    monkeypatch.setattr("workflows.text.clips.load_clip", lambda folder: FakeClip(width=8))
    refused("takes embeddings of width 16, those of fake have 8", *words)
    monkeypatch.setattr("workflows.text.clips.load_clip", lambda folder: FakeClip(sha256="00" * 32))
    refused("belongs to the CLIP fake with the hash fafafafafafa, not to fake with 000000000000", *words)
    assert not list(tmp_path.glob("m*"))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "nothing is asked for: give --text, --point X,Y or --box"),
        ({"background": ("1,1",)}, "nothing is asked for"),
        ({"text": "red"}, "--text needs --clip FOLDER"),
        ({"text": "red", "clip": "c", "closer": True}, "--closer needs to know where: give --point X,Y or --box"),
        ({"text": "red", "clip": "c", "templates": ("a photo",)}, "a template is a sentence with {} once"),
        ({"point": ("1,1",), "clip": "c"}, "--clip goes only with --text, which it reads"),
        ({"point": ("1,1",), "templates": ("a {}.",)}, "--templates goes only with --text, which it reads"),
        ({"point": ("1,1",), "out": "m.jpg"}, "--out is m.jpg; it must end in .png"),
    ],
)
def test_contradictory_flags(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        SegmentConfig("a.png", **values)


def test_what_cannot_be_segmented(engine: Engine, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for image, complaint in (
        ("no.png", "no.png: not an image"),
        ("gone.png", "gone.png: no such file"),
        ("loop.png", "loop.png: no such file"),
    ):
        ran = engine("segment", tmp_path / image, "--point", "1,1", "--model", tiny_checkpoint)
        assert (ran.status, complaint in ran.err) == (2, True), ran.err


def test_a_limit_on_pixels_is_one_on_bytes(engine: Engine, picture: Path, tiny_checkpoint: Path) -> None:
    os.truncate(picture, 65 << 20)
    asked = ("segment", picture, "--point", "1,1", "--model", tiny_checkpoint, "--max-pixels", "1000000")
    ran = engine(*asked, "--out", picture.with_name("m.png"))
    assert (ran.status, "more than the limit" in ran.err) == (0, False), ran.err
    ran = engine(*asked[:-1], "100", "--out", picture.with_name("m.png"))
    limit = "68,157,440 bytes are more than the limit of 67,109,664 bytes"
    assert (ran.status, f"{picture}: {limit}" in ran.err) == (2, True), ran.err


def test_the_picture_is_not_written_over(engine: Engine, picture: Path, tiny_checkpoint: Path) -> None:
    before = picture.read_bytes()
    picture.with_name("a-overlay.png").write_bytes(before)
    for image, out in ((picture, picture), (picture.with_name("a-overlay.png"), picture.with_name("a.png"))):
        ran = engine("segment", image, "--point", "1,1", "--model", tiny_checkpoint, "--out", out)
        assert (ran.status, "over the picture; choose another name" in ran.err) == (2, True), ran.err
        assert image.read_bytes() == before
    ran = engine(
        "segment", picture, "--point", "1,1", "--model", tiny_checkpoint, "--out", picture.parent / "no" / "m.png"
    )
    assert (ran.status, "there is no folder" in ran.err) == (2, True)


def test_what_lies_beside_the_picture_is_not_written_over(
    engine: Engine, picture: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """SA-1B keeps the masks of `sa_1.jpg` in `sa_1.json`."""
    beside, out = tmp_path / "sa_1.json", tmp_path / "sa_1.png"
    asked = ("segment", picture, "--point", "20,10", "--model", tiny_checkpoint, "--out", out)
    for others in (b'{"image": {}, "annotations": []}', b"[1]", b"no JSON"):
        beside.write_bytes(others)
        ran = engine(*asked)
        assert (ran.status, "which is of another program" in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
        assert beside.read_bytes() == others
        assert not out.exists()
    beside.unlink()
    assert [engine(*asked).status for _ in range(2)] == [0, 0]  # its own it writes anew


def test_a_full_disk_is_named_and_what_was_there_stays(
    engine: Engine, picture: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out" / "mask.png"
    out.parent.mkdir()
    out.write_bytes(b"an earlier mask")
    monkeypatch.setattr(os, "fsync", full)
    ran = engine("segment", picture, "--point", "20,10", "--model", tiny_checkpoint, "--out", out)
    assert (ran.status, ran.err) == (2, f"sam-engine: {out}: No space left on device\n")
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == {"mask.png": b"an earlier mask"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(engine: Engine, picture: Path, tiny_checkpoint: Path, monkeypatch) -> None:
    """Whatever a cluster may have: the work is here."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where nobody answers
    out = picture.parent / "m.png"
    assert engine("segment", picture, "--point", "1,1", "--model", tiny_checkpoint, "--out", out).status == 0
    ran = engine("segment", picture, "--point", "1,1", "--model", tiny_checkpoint, "--device", "cuda")
    assert (ran.status, ran.err) == (
        2,
        "sam-engine: --device cuda: torch finds no GPU on this machine; leave --device out\n",
    )


def test_a_model_without_a_named_clip_takes_any_of_its_width(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(Sam(with_text(vit_test(), 16)), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflows.text.clips.load_clip", lambda folder: FakeClip())
        assert open_clip("x", load_model(path)) == FakeClip()
