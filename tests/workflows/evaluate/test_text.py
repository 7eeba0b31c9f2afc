"""`evaluate text` on coloured boxes with a CLIP that knows colours: plan, rows, figures, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_core.answers import answer
from sam_core.masks.batch import Generation, MaskRecords, StepSeconds
from sam_core.masks.rle import encode
from sam_core.metrics.text_prompts import Way
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts
from sam_core.predict import encode as encode_image
from tests.fake_clip import COLOURS, FakeClip
from tests.workflows.conftest import Engine
from tests.workflows.evaluate.measuring import rows_of
from workflows.evaluate import text as module
from workflows.evaluate.captions import captioned
from workflows.evaluate.commands import TextConfig
from workflows.evaluate.job import Evaluated, evaluate, here

HEIGHT, WIDTH = 48, 64
PLACES = {"red": (4, 4, 24, 20), "green": (6, 30, 36, 30), "blue": (18, 38, 12, 12)}
"""Top, left, height and width; the blue box lies in the green one, on its centre."""


def scene(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A picture and its masks by colour; the green mask is the whole box, the blue part included."""
    pixels, masks = np.full((HEIGHT, WIDTH, 3), 128 + number, np.uint8), {}
    for name, (top, left, height, width) in PLACES.items():
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + height, left : left + width] = True
        pixels[mask], masks[name] = COLOURS[name], mask
    return pixels, masks


@pytest.fixture
def phrases(tmp_path: Path) -> Path:
    """Three images with three boxes; red ones have two captions, a seen split and an unseen one."""
    (tmp_path / "boxes" / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        pixels, masks = scene(number)
        Image.fromarray(pixels).save(tmp_path / "boxes" / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH})
        for label, (name, mask) in enumerate(masks.items(), start=1):
            top, left, height, width = PLACES[name]
            annotations.append(
                {
                    "id": 10 * number + label,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": encode(mask).decode()},
                    "area": int(mask.sum()),
                    "bbox": [left, top, width, height],
                    "caption": ["red", "red red"] if name == "red" else name,
                    "split": "unseen_phrasing" if name == "blue" else "seen",
                }
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (tmp_path / "boxes" / "instances.json").write_text(json.dumps(content))
    return tmp_path / "boxes"


class ColourGenerator:
    """In the place of MaskGenerator: the regions of one colour, the background with them."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def generate(self, image: np.ndarray) -> Generation:
        masks = [(image == colour).all(2) for colour in np.unique(image.reshape(-1, 3), axis=0)]
        count = len(masks)
        records = MaskRecords(
            size=image.shape[:2],
            rle=tuple(map(encode, masks)),
            boxes=np.zeros((count, 4), np.int64),
            areas=np.array([mask.sum() for mask in masks]),
            predicted_iou=np.ones(count, np.float32),
            stability_score=np.ones(count, np.float32),
            points=np.zeros((count, 2), np.float32),
            crop_boxes=np.zeros((count, 4), np.int32),
        )
        return Generation(records, _NOTHING, StepSeconds())


_NOTHING: Any = ()


@pytest.fixture
def config(
    phrases: Path, text_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TextConfig:
    monkeypatch.setattr(module, "MaskGenerator", ColourGenerator)
    monkeypatch.setattr("workflows.text.clips.load_clip", lambda folder, device="cpu": FakeClip())
    return TextConfig(
        data=(str(phrases),),
        model=str(text_checkpoint),
        clip="clip",
        rival=str(tiny_checkpoint),
        out=str(tmp_path / "out"),
        threads=1,
        shard_size=2,
        draws=50,
    )


def value(done: Evaluated, row: str, figure: str) -> float:
    (found,) = [f.value for f in done.figures if (f.row, f.figure) == (row, figure)]
    return found


def test_rows_are_what_the_model_says_and_figures_their_means(config: TextConfig, text_checkpoint: Path) -> None:
    done = evaluate(config, pool=here)
    rows = rows_of(config, done)
    assert len(rows) == 3 * 4 * len(Way)  # images, phrases
    sam, clip = load_model(text_checkpoint).sam, FakeClip()
    pixels, masks = scene(0)
    embedding = encode_image(sam, [pixels])
    for name in ("red", "green", "blue"):
        mask = answer(sam, embedding, Prompts(text=clip.embed_texts([name]).vectors)).best().masks()[0, 0].numpy()
        iou = (mask & masks[name]).sum() / (mask | masks[name]).sum()
        (row,) = [r for r in rows if (r["name"], r["text"], r["way"]) == ("0.png", name, Way.TEXT)]
        assert row["iou"] == pytest.approx(iou, abs=0.02)
        assert (row["split"], row["area"]) == ("unseen_phrasing" if name == "blue" else "seen", masks[name].sum())
    for part, kept in (("boxes", {"seen", "unseen_phrasing"}), ("boxes, unseen_phrasing", {"unseen_phrasing"})):
        for way in Way:
            each = np.array([row["iou"] for row in rows if row["way"] == way and row["split"] in kept])
            assert value(done, f"{part}: {way}", "mIoU") == pytest.approx(each.mean())
            assert value(done, f"{part}: {way}", "P@0.5") == pytest.approx((each > 0.5).mean())
            assert value(done, f"{part}: {way}", "phrases") == len(each)
    gain = value(done, "boxes: text", "mIoU") - value(done, "boxes: CLIP ranking", "mIoU")
    assert value(done, "boxes: text", "above CLIP ranking") == pytest.approx(100 * gain)


def test_rivals_choose_among_automatic_masks(config: TextConfig) -> None:
    done = evaluate(config, pool=here)
    frame = 1 - (12 * 12) / (36 * 30)  # the green box without the blue one
    assert value(done, "boxes: CLIP ranking", "mIoU") == pytest.approx((1 + 1 + frame + 1) / 4)
    assert value(done, "boxes: best automatic mask", "mIoU") == pytest.approx((1 + 1 + frame + 1) / 4)
    # The click on the green box lies on the blue part, where the only automatic mask is the blue one.
    assert value(done, "boxes: CLIP ranking at the point", "mIoU") == pytest.approx(
        (1 + 1 + 12 * 12 / (36 * 30) + 1) / 4
    )
    assert value(done, "boxes: largest automatic mask", "mIoU") == 0  # the background


def test_a_click_on_several_masks_is_ambiguous(config: TextConfig) -> None:
    done = evaluate(config, pool=here)
    unclear = {row["text"] for row in rows_of(config, done) if row["ambiguous"]}
    assert unclear == {"green", "blue"}
    assert value(done, "boxes, ambiguous clicks: text + point", "phrases") == 6
    row = "boxes, ambiguous clicks: "
    clicks = [value(done, f"{row}{way}", "mIoU") for way in (Way.POINT, Way.RIVAL_POINT)]
    gain = 100 * (value(done, f"{row}text + point", "mIoU") - max(clicks))
    assert value(done, f"{row}text + point", "above the point") == pytest.approx(gain)


def test_killed_it_ends_with_the_same_table_and_other_values_are_other_evaluations(config: TextConfig) -> None:
    calm = evaluate(config, pool=here)

    def killed(*arguments: Any) -> Iterator[dict[str, Any]]:
        yield next(iter(here(*arguments)))
        raise KeyboardInterrupt

    other = replace(config, out=f"{config.out}-other")
    with pytest.raises(KeyboardInterrupt):
        evaluate(other, pool=killed)
    assert evaluate(other, pool=here) == calm
    changes = {"templates": ("a {}",), "automatic": False, "first_click": "random", "rival": None}
    changed = evaluate(replace(config, **changes), pool=here)
    assert len({done.evaluation for done in (calm, changed, evaluate(replace(config, rival=None), pool=here))}) == 3
    assert {row["way"] for row in rows_of(config, changed)} == set(Way) - {
        Way.LARGEST,
        Way.RANKED,
        Way.RANKED_POINT,
        Way.AUTOMATIC_BEST,
        Way.RIVAL_POINT,
    }
    with pytest.MonkeyPatch.context() as patch:  # the same weights of SAM beside another CLIP of the same name
        patch.setattr("workflows.text.clips.load_clip", lambda folder, device="cpu": FakeClip(context=3))
        cut = evaluate(replace(config, seed=1), pool=here)
    assert {row["text"] for row in rows_of(config, cut) if row["truncated"]} == {"red red"}


def test_the_plan_names_another_phrase_beside_each(phrases: Path) -> None:
    rows = captioned(str(phrases), image_folder=None, seed=0).rows.to_pylist()
    pairs = pairs_of(phrases)
    assert len(pairs) == 12
    assert all(text != other for text, other in pairs)
    assert len({other for _, other in pairs}) > 2
    again = captioned(str(phrases), image_folder=None, seed=0).rows.to_pylist()
    assert again == rows
    assert captioned(str(phrases), image_folder=None, seed=1).rows.to_pylist() != rows


def test_another_phrase_is_none_of_the_masks_own(phrases: Path) -> None:
    """Or "another text" would find the mask as well as the text does."""
    path = phrases / "instances.json"
    content = json.loads(path.read_text())
    names = ["red", "the red one", "what is red"]
    for annotation in content["annotations"]:
        annotation["caption"] = names if annotation["caption"] == ["red", "red red"] else None
    path.write_text(json.dumps(content))
    assert {other for _, other in pairs_of(phrases)} == {None}
    content["annotations"][-1]["caption"] = "blue"
    path.write_text(json.dumps(content))
    *pairs, (text, other) = pairs_of(phrases)
    assert set(pairs) == {(name, "blue") for name in names}
    assert text == "blue"
    assert other in names


def pairs_of(phrases: Path) -> list[tuple[str, str | None]]:
    rows = captioned(str(phrases), image_folder=None, seed=0).rows.to_pylist()
    return [(phrase["text"], phrase["other"]) for row in rows for phrase in row["phrases"]]


def test_with_one_phrase_there_is_no_other(config: TextConfig, phrases: Path) -> None:
    content = json.loads((phrases / "instances.json").read_text())
    for annotation in content["annotations"]:
        annotation["phrase"] = "red" if annotation.pop("caption") == "green" else None
        del annotation["split"]
    (phrases / "instances.json").write_text(json.dumps(content))
    done = evaluate(replace(config, automatic=False), pool=here)
    rows = rows_of(config, done)
    assert {row["way"] for row in rows} >= {Way.TEXT, Way.POINT, Way.TEXT_POINT}
    assert not {row["way"] for row in rows} & {Way.OTHER_TEXT, Way.OTHER_TEXT_POINT}
    assert {row["split"] for row in rows} == {None}
    assert {row["ambiguous"] for row in rows} == {True}  # the blue box has no phrase, and is a mask


def test_refusals(
    engine: Engine, config: TextConfig, phrases: Path, tiny_checkpoint: Path, coco: Path, labelled: Path
) -> None:
    def refused(complaint: str, data: Path, model: str | Path = config.model) -> None:
        ran = engine("evaluate", "text", "--data", data, "--clip", "clip", "--model", model, "--out", config.out)
        assert (ran.status, complaint in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err

    refused("no annotation has a `caption` or `phrase`", coco)
    refused("evaluate text wants a COCO JSON whose annotations have", labelled)
    refused("vit_test takes no text prompts; train one", phrases, tiny_checkpoint)
    with pytest.raises(ValueError, match="--draws is 0; it must be positive"):
        replace(config, draws=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflows.text.clips.load_clip", lambda folder: FakeClip(width=8))
        refused("takes embeddings of width 16, those of fake have 8", phrases)
