"""The experiment with text prompts in miniature: its files, CLIP's training in two pieces, its tables."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_core.clip_transformers import load_clip
from sam_core.scenes.captioned import Look, Phrase, Thing, held_out, looks
from sam_core.scenes.captioned.phrases import Description, Needs, Relation
from tests.benchmarks.text_prompts import clip_training
from tests.benchmarks.text_prompts.clip_small import SmallClipConfig
from tests.benchmarks.text_prompts.clip_training import ClipTraining, train_clip
from tests.benchmarks.text_prompts.data import (
    SEEN,
    TEST_SETS,
    TRAIN_SEED,
    UNSEEN,
    training_scene,
    write_test,
    write_training,
)
from tests.benchmarks.text_prompts.figures import curve_from_gpu, targets, ways
from tests.benchmarks.text_prompts.train_on_gpu import CURVE, CaptionedBatches, configuration
from tests.fake_clip import FakeClip

SMALL = SmallClipConfig(image_size=16, width=16, heads=2, vision_layers=1, text_layers=1, embedding=8)


def test_training_scenes_hold_nothing_that_is_kept_apart(tmp_path: Path) -> None:
    assert len(SEEN) + len(UNSEEN) == len(looks())
    for number in range(20):
        assert not any(held_out(thing.look) for thing in training_scene(1, number).things)
    write_training(tmp_path, 2)
    document = json.loads((tmp_path / "instances.json").read_text())
    assert len(list((tmp_path / "images").glob("*.png"))) == len(document["images"]) == 2
    assert not any("caption" in annotation for annotation in document["annotations"])


def test_test_scenes_have_phrases(tmp_path: Path) -> None:
    for about in TEST_SETS:
        write_test(tmp_path / about.name, about, 3)
        document = json.loads((tmp_path / about.name / "instances.json").read_text())
        captions = [annotation["caption"] for annotation in document["annotations"] if "caption" in annotation]
        assert len(captions) >= 2
        assert {annotation["split"] for annotation in document["annotations"] if "caption" in annotation}


def test_clip_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_training, "POOL", 8)
    monkeypatch.setattr(time, "monotonic", itertools.count().__next__)  # looked at twice in each step
    settings = ClipTraining(steps=3, closing=2, batch=6, clip=SMALL)
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
        if name == "pieces":
            assert not train_clip(tmp_path / name / "clip", tmp_path / name, settings, time.monotonic() + 4)
            assert (tmp_path / name / "clip.state").exists()
        assert train_clip(tmp_path / name / "clip", tmp_path / name, settings, math.inf)
    whole, pieces = (load_clip(tmp_path / name / "clip") for name in ("whole", "pieces"))
    assert whole.sha256 == pieces.sha256
    assert train_clip(tmp_path / "whole" / "clip", tmp_path / "whole", settings, -math.inf)


def test_gpu_training_sees_the_same_scenes_with_a_crop_for_each_mask(tmp_path: Path) -> None:
    config = configuration(FakeClip(), images=3)
    assert config.text_width == FakeClip().width
    batches = CaptionedBatches(config, crop_size=16)
    batch, crops = batches[2]
    assert batch.numbers.tolist() == [6, 7, 8]
    assert np.array_equal(batch.images[1], training_scene(TRAIN_SEED, 7).image)
    assert len(batch.masks) == len(crops.pixels) == len(crops.inside) <= 3 * config.masks_per_image
    assert int(batch.masks.sum((1, 2)).min()) >= config.min_source_area
    assert torch.equal(batches[2][1].pixels, crops.pixels)
    (tmp_path / CURVE).write_text("step,first_iou,last_iou\n1,0.1,0.3\n11,0.3,0.5\n")
    assert curve_from_gpu(tmp_path) == [{"step": 11, "embedding_iou": 0.2, "click_iou": 0.4}]


def test_figures_become_a_table_and_targets() -> None:
    miou = {
        "text": 0.6,
        "image embedding": 0.65,
        "CLIP ranking": 0.5,
        "point": 0.4,
        "point, rival model": 0.45,
        "text + point": 0.7,
    }
    rows = [("unseen_combinations", way, value) for way, value in miou.items()]
    rows += [
        ("unseen_combinations, ambiguous clicks", way, value - 0.1 * (way == "point")) for way, value in miou.items()
    ]
    figures = [{"row": f"{part}: {way}", "figure": "mIoU", "value": value} for part, way, value in rows]
    table = {"unseen_combinations": ways("unseen_combinations", figures)}
    assert table["unseen_combinations"]["ambiguous clicks"]["point"] == pytest.approx(30)
    found = targets(table, 20.0)
    assert all(target["met"] for target in found.values())
    assert found["text_and_point_above_point_on_ambiguous_clicks"]["value"] == pytest.approx(25)
    assert found["image_embedding_above_text"]["value"] == pytest.approx(5)


def test_phrases_are_true_of_what_they_fit() -> None:
    things = [
        Thing(Look("star", "red", "plain"), True, 0, 0, 1),
        Thing(Look("star", "blue", "plain"), True, 0, 0, 1),
        Thing(Look("star", "red", "striped"), False, 0, 0, 1),
    ]
    said = [
        Description(shape="star"),
        Description(colour="red", large=True),
        Description(colour="red", relation=Relation("on", "blue", "ring")),
    ]
    phrases = [Phrase("", each, Needs.LOOKS) for each in said]
    assert clip_training.true_of(things, phrases).tolist() == [
        [True, True, False],
        [True, False, False],
        [True, False, False],
    ]
