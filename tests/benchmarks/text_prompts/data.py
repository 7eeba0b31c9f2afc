"""Captioned scenes as files: what SAM is trained on, and sets with phrases that nothing was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_core.masks import rle
from sam_core.scenes.captioned import CaptionedScene, Wording, describe, held_out, looks, render_captioned

SIZE = 128
TRAIN_SEED, TEST_SEED, CLIP_SEED = 1, 2, 3
SEEN = tuple(look for look in looks() if not held_out(look))
UNSEEN = tuple(look for look in looks() if held_out(look))
OFTEN = 4
"""Times that an unseen combination is as frequent as another one in scenes that ask for them."""


@dataclass(frozen=True, slots=True)
class TestSet:
    """name: of the folder. unseen: every phrase means a thing whose combination was kept apart. wording: of phrases."""

    name: str
    unseen: bool
    wording: Wording


TEST_SETS = (
    TestSet("seen", False, Wording.TRAINED),
    TestSet("unseen_combinations", True, Wording.TRAINED),
    TestSet("unseen_wordings", False, Wording.HELD_OUT),
    TestSet("unseen_both", True, Wording.HELD_OUT),
)


def training_scene(seed: int, number: int) -> CaptionedScene:
    """Scene `number` without any combination that is kept apart."""
    return render_captioned(np.random.default_rng([seed, number]), SEEN, size=SIZE)


def write_training(folder: Path, count: int) -> None:
    """Scenes as PNG with a COCO JSON; their phrases are not written, as SAM is trained without any."""
    _write(folder, ((training_scene(TRAIN_SEED, number), []) for number in range(count)))


def write_test(folder: Path, about: TestSet, count: int) -> None:
    """Scenes with one phrase for each thing that has one; where combinations are unseen, only those are asked for."""
    _write(folder, (_test_scene(about, number) for number in range(count)))


def _test_scene(about: TestSet, number: int) -> tuple[CaptionedScene, list[dict[str, Any]]]:
    """A scene and, for each thing, what its annotation says beside the mask."""
    rng = np.random.default_rng([TEST_SEED, about.unseen, number])
    first = UNSEEN[int(rng.integers(len(UNSEEN)))] if about.unseen else None
    among = (*UNSEEN * OFTEN, *SEEN) if about.unseen else SEEN
    scene = render_captioned(rng, among, size=SIZE, first=first)
    words = np.random.default_rng([TEST_SEED, about.unseen, number, 1])
    said: list[dict[str, Any]] = []
    for place, thing in enumerate(scene.things):
        phrase = describe(scene.things, place, SIZE, words, about.wording)
        asked = phrase is not None and held_out(thing.look) == about.unseen
        said.append({"caption": phrase.text, "split": phrase.needs.value} if phrase and asked else {})
    return scene, said


def _write(folder: Path, scenes: Iterator[tuple[CaptionedScene, list[dict[str, Any]]]]) -> None:
    """images/ and instances.json, which comes last."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (scene, said) in enumerate(scenes, start=1):
        name = f"{number:05d}.png"
        cv2.imwrite(str(folder / "images" / name), scene.image[..., ::-1])
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        for place, mask in enumerate(scene.masks):
            if mask.any():
                words = said[place] if said else {}
                annotations.append(_annotation(len(annotations) + 1, number, mask) | words)
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    partial = folder / "instances.partial"
    partial.write_text(json.dumps(document))
    partial.replace(folder / "instances.json")


def _annotation(number: int, image: int, mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": {"size": list(mask.shape), "counts": rle.encode(mask).decode()},
    }
