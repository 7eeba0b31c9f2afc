"""The figures of every task, with a tiny random model, beside those of independent code."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_core.masks.batch import Generation, MaskRecords, StepSeconds
from sam_core.masks.rle import encode
from sam_core.metrics.single_point import Sample, evaluate_clicks
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, decode
from sam_core.predict import encode as encode_images
from sam_core.recipes import Recipe, recipe
from schemas.evaluation import CLICK_ROWS, PLAN
from tests.workflows.evaluate.conftest import borders, picture
from tests.workflows.evaluate.measuring import rows_of, run, value
from workflows.evaluate import edges, instances, proposals
from workflows.evaluate.clicks import Fairness, SinglePoint
from workflows.evaluate.commands import (
    EdgesConfig,
    FairnessConfig,
    InstancesConfig,
    ProposalsConfig,
    SinglePointConfig,
)
from workflows.evaluate.instances import Drawn
from workflows.evaluate.task import MEASURED, PAPER
from workflows.evaluate.truth import open_set, read_image, read_masks
from workflows.uris import UriReader


def samples(place: Path) -> Iterator[Sample]:
    reader = UriReader()
    for row in open_set(str(place)).rows.to_pylist():
        masks = read_masks(row, reader)
        yield Sample(read_image(row, reader), masks.at(np.flatnonzero(~masks.crowd)).packed)


def test_single_point_is_the_mean_over_masks_and_then_over_sets(
    labelled: Path, coco: Path, common: dict[str, Any], tiny_checkpoint: Path
) -> None:
    config = SinglePointConfig(data=(f"LVIS={coco}", str(labelled)), clicks=(1, 3), **common)
    done = run(config)
    sam = load_model(str(tiny_checkpoint)).sam
    by_set = {
        "LVIS": evaluate_clicks(sam, samples(coco), clicks=(1, 3)),
        "labelled": evaluate_clicks(sam, samples(labelled), clicks=(1, 3)),
    }
    for name, expected in by_set.items():
        assert value(done, "1 click", name) == pytest.approx(expected.miou[0], abs=1e-9)
        assert value(done, "3 clicks, oracle", name) == pytest.approx(expected.oracle_miou[1], abs=1e-9)
        assert value(done, "box", name) == pytest.approx(expected.box_miou, abs=1e-9)
        assert value(done, "masks", name) == expected.masks
    means = [expected.miou[0] for expected in by_set.values()]
    assert value(done, "1 click", "mean of sets") == pytest.approx(sum(means) / 2, abs=1e-9)
    assert value(done, "1 click above RITM", "LVIS", PAPER) == 18.5
    assert len(rows_of(config, done)) == 24


def test_masks_of_at_most_the_least_area_are_passed_over(labelled: Path, common: dict[str, Any]) -> None:
    """All have 24 x 18 px."""
    for area, masks in ((431, 15), (432, 0)):
        config = SinglePointConfig(data=(str(labelled),), clicks=(1,), least_area=area, **common)
        if masks:
            assert value(run(config), "masks") == masks
        else:
            with pytest.raises(ValueError, match="no image has a mask to measure"):
                run(config)


def test_a_first_click_may_fall_anywhere(labelled: Path, common: dict[str, Any]) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), **common)
    rows = [rows_of(config, run(each)) for each in (config, replace(config, first_click="random"))]
    deepest, anywhere = ([(row["iou"], row["box_iou"]) for row in some] for some in rows)
    assert [box for _, box in deepest] == [box for _, box in anywhere]
    assert sum(one != other for one, other in zip(deepest, anywhere, strict=True)) > 5


def test_a_large_set_is_cut_down(labelled: Path, common: dict[str, Any]) -> None:
    """Five images of three masks each."""
    config = SinglePointConfig(data=(str(labelled),), most_masks=14, enough_masks=4, **common)
    assert len(SinglePoint(config).plan()) == 2


def test_a_set_without_a_mask_to_click_on_is_in_the_table(labelled: Path, coco: Path, common: dict[str, Any]) -> None:
    """One of crowds alone was not mentioned, as if nobody had named it."""
    document = json.loads(coco.read_text())
    document["annotations"] = [entry for entry in document["annotations"] if entry["iscrowd"]]
    coco.write_text(json.dumps(document))
    done = run(SinglePointConfig(data=(f"crowds={coco}", str(labelled)), clicks=(1,), **common))
    assert (value(done, "masks", "labelled"), value(done, "masks", "crowds")) == (15, 0)
    assert {figure.row for figure in done.figures} == {"labelled", "crowds"}  # and no mean of the one


class ColourGenerator:
    """In the place of MaskGenerator: regions of one colour, moved down by 0, 2, 5 and 9 px, the last ranked first."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def generate(self, image: np.ndarray) -> Generation:
        colours = np.unique(image.reshape(-1, 3), axis=0)
        regions = [(image == colour).all(2) for colour in colours]
        masks = [np.roll(region, shift, 0) for shift in (0, 2, 5, 9) for region in regions]
        ranks = np.linspace(0.2, 0.9, len(masks)).astype(np.float32)
        none = np.zeros((len(masks), 4), np.int64)
        return Generation(
            MaskRecords(
                size=image.shape[:2],
                rle=tuple(encode(mask) for mask in masks),
                boxes=none,
                areas=none[:, 0],
                predicted_iou=ranks,
                stability_score=ranks,
                points=none[:, :2].astype(np.float32),
                crop_boxes=none.astype(np.int32),
            ),
            cast("Any", None),
            StepSeconds(),
        )


def coco_recall(truth: Path, proposals: int) -> list[float]:
    """AR of COCOeval for the masks of ColourGenerator, all true masks of one category: all, small, medium."""
    reference = COCO()
    reference.dataset = json.loads(truth.read_text())
    for entry in reference.dataset["annotations"]:
        entry |= {"category_id": 1, "iscrowd": 0}
    found = []
    for image in reference.dataset["images"]:
        pixels = np.asarray(Image.open(truth.parent / "images" / image["coco_url"].rpartition("/")[2]))
        masks = ColourGenerator().generate(pixels).masks
        for counts, score in zip(masks.rle, masks.predicted_iou.tolist(), strict=True):
            shape = {"size": list(masks.size), "counts": counts}
            found.append({"image_id": image["id"], "category_id": 1, "segmentation": shape, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(found), "segm")
        evaluation.params.catIds, evaluation.params.maxDets = [1], [proposals]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0, :3, 0].mean(0).tolist()


@pytest.mark.parametrize("most", [1000, 9])
def test_proposals_agree_with_cocoeval(
    lvis: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(proposals, "MaskGenerator", ColourGenerator)
    done = run(ProposalsConfig(data=(str(lvis),), image_folder=str(lvis.parent), proposals=most, **common))
    expected = coco_recall(lvis, most)
    assert value(done, "all") == pytest.approx(expected[0], abs=1e-9)
    assert 0.3 < expected[0] <= 1
    assert (expected[0] == 1) == (most == 1000)
    sizes = {figure.figure for figure in done.figures if figure.origin == MEASURED}
    assert [name in sizes for name in ("small", "medium", "large")] == [mean > -1 for mean in expected[1:]] + [False]
    assert value(done, "all", "SAM", PAPER) == 0.593


def test_recipes_are_those_that_are_asked_for(
    lvis: Path, bsds: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def generator(_: object, recipe: Recipe, **__: object) -> ColourGenerator:
        asked.append(recipe)
        return ColourGenerator()

    def drawn(_: object, image: np.ndarray, recipe: Recipe) -> np.ndarray:
        asked.append(recipe)
        return np.zeros(image.shape[:2], np.float32)

    monkeypatch.setattr(proposals, "MaskGenerator", generator)
    monkeypatch.setattr(edges, "edge_map", drawn)
    own = {"points_per_side": 5, "nms_iou": 0.55}
    run(ProposalsConfig(data=(str(lvis),), image_folder=str(lvis.parent), limit=1, **own, **common))
    run(EdgesConfig(data=(str(bsds),), split="val", limit=1, thresholds=2, **own, **common))
    assert asked == [replace(recipe(name), **own) for name in ("proposals", "edges")]


def test_proposals_of_a_model_by_frequency(lvis: Path, common: dict[str, Any]) -> None:
    config = ProposalsConfig(data=(str(lvis),), image_folder=str(lvis.parent), points_per_side=4, **common)
    done = run(config)
    found = {row["subset"]: row["true"] for row in rows_of(config, done) if row["name"] == "images/0.png"}
    assert {name: found[name] for name in ("all", "frequent", "common", "rare")} == {
        "all": 3,
        "frequent": 1,
        "common": 1,
        "rare": 1,
    }
    assert value(done, "masks") == 9


def worn_boxes(_: object, image: np.ndarray, xyxy: np.ndarray) -> Iterator[Drawn]:
    """Filled boxes without their upper rows, of the later ones more, as masks of some quality."""
    for number, (x0, y0, x1, y1) in enumerate(xyxy.astype(int)):
        mask = np.zeros(image.shape[:2], bool)
        mask[y0 + 3 * number : y1, x0:x1] = True
        yield Drawn(encode(mask), 0.5)


@pytest.mark.parametrize(("damaged", "tied"), [(False, False), (True, False), (False, True)])
def test_instances_agree_with_cocoeval(
    coco: Path, boxes: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damaged: bool, tied: bool
) -> None:
    """Over all images, or over those that can be read; also where scores do not tell which box comes first."""
    monkeypatch.setattr(instances, "masks_of_boxes", worn_boxes)
    config = InstancesConfig(data=(str(coco),), boxes=str(boxes), **common)
    if damaged:
        (coco.parent / "images" / "1.png").write_bytes(b"no picture")
    if tied:
        boxes.write_text(json.dumps([entry | {"score": 0.5} for entry in json.loads(boxes.read_text())]))
    done = run(config)
    assert len(done.errors) == damaged
    results = [
        {
            "image_id": row["image_id"],
            "category_id": row["category"],
            "score": row["score"],
            "segmentation": {"size": [row["height"], row["width"]], "counts": row["rle"]},
        }
        for row in rows_of(config, done)
    ]
    assert len(results) == (8 if damaged else 11)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(coco))
        evaluation = COCOeval(reference, reference.loadRes(results), "segm")
        evaluation.params.imgIds = [70, 68] if damaged else [70, 69, 68]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP small", "AP medium")
    expected = dict(zip(("AP", "AP50", "AP75", "AP small", "AP medium"), evaluation.stats[:5], strict=True))
    for name in names:
        if expected[name] > -1:
            assert value(done, name) == pytest.approx(expected[name], abs=1e-9)
    assert 0.3 < value(done, "AP") < 0.95


def test_a_box_is_refined_once_by_the_single_output(tiny_checkpoint: Path) -> None:
    sam = load_model(str(tiny_checkpoint)).sam.eval()
    image, box = picture(0)[0], np.array([[3, 4, 30, 40]], np.float32)
    (drawn,) = instances.masks_of_boxes(sam, image, box)
    embedding, prompts = encode_images(sam, [image]), Prompts(boxes=torch.from_numpy(box))
    first = decode(sam, embedding, prompts, multimask=True)
    best = first.logits[:, int(first.iou.argmax())][:, None]
    second = decode(sam, embedding, replace(prompts, mask_logits=best), multimask=False)
    assert drawn.counts == encode(second.masks()[0, 0].numpy())
    assert drawn.predicted_iou == pytest.approx(second.iou.item())


def test_edges_of_a_model_and_of_people(bsds: Path, common: dict[str, Any]) -> None:
    config = EdgesConfig(data=(str(bsds),), split="val", points_per_side=3, thresholds=4, **common)
    done = run(config)
    assert 0 <= value(done, "AP") <= value(done, "OIS") <= 1
    assert value(done, "ODS", "SAM", PAPER) == 0.768
    assert len(rows_of(config, done)) == 8
    people = run(replace(config, humans=True))
    others = rows_of(config, people)
    assert len(others) == 6  # three people on two pictures
    for row in others:
        labels = picture(int(row["name"]))[1]
        drawn = [borders(each).sum() for each in (labels, labels, np.where(labels == 1, 1, 0))]
        assert row["true"] == sum(drawn) - drawn[row["person"]]
    # The third drew a third of what the others did: all of it is right, and only he misses something.
    assert value(people, "precision") == 1
    assert 0.6 < value(people, "recall") < 0.8
    assert value(people, "F", origin=PAPER) == 0.80


def test_two_sets_of_one_name_are_not_mixed(bsds: Path, common: dict[str, Any], tmp_path: Path) -> None:
    other = shutil.copytree(bsds, tmp_path / "other" / bsds.name)
    with pytest.raises(ValueError, match="two data sets are called 'bsds'; name them"):
        run(EdgesConfig(data=(str(bsds), str(other)), split="val", humans=True, **common))


def test_fairness_has_a_row_per_group_with_intervals(coco: Path, common: dict[str, Any]) -> None:
    done = run(FairnessConfig(data=(str(coco),), by="colour", draws=100, **common))
    ours = {f.row: f for f in done.figures if f.origin == MEASURED and f.figure == "1 click"}
    assert list(ours) == ["cold", "warm"]
    for figure in ours.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert value(done, "masks", "cold") == 6
    assert value(done, "3 clicks", "people: young", PAPER) == 0.912


def test_intervals_count_images_and_not_masks() -> None:
    """Four masks of each of 30 images, all four as good as each other: they say no more than one of them would."""
    config = FairnessConfig(data=("a",), by="colour", clicks=(1,), draws=400)
    iou = np.random.default_rng(0).random(30).astype(np.float32)

    def width(masks: int) -> float:
        row = {"set": "a", "group": "warm", "area": 9.0, "clicks": [1], "box_iou": 0.0, "predicted_iou": 0.0}
        rows = [
            row | {"name": str(image), "annotation": mask, "iou": [float(found)], "oracle_iou": [float(found)]}
            for image, found in enumerate(iou)
            for mask in range(masks)
        ]
        figures = Fairness(config).figures(pa.Table.from_pylist(rows, CLICK_ROWS), PLAN.empty_table())
        counted = {figure.figure: figure for figure in figures if figure.row == "warm"}
        assert (counted["masks"].value, counted["images"].value) == (30 * masks, 30)
        return (counted["1 click"].high or 0) - (counted["1 click"].low or 0)

    assert width(4) == pytest.approx(width(1), rel=1e-6)
    assert width(1) == pytest.approx(2 * 1.96 * iou.std() / 30**0.5, rel=0.2)
