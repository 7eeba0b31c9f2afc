"""Every task from plan to table, with a tiny random model and without Ray; kills, faults and refusals."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
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
from schemas.evaluation import figures_key, images_key, rows_key
from tests.workflows.conftest import Engine
from tests.workflows.evaluate.conftest import picture
from tests.workflows.report.data_sets import DataSet, done, photos, run_record
from workflows.cli import parse
from workflows.evaluate import instances, proposals
from workflows.evaluate.commands import (
    EdgesConfig,
    FairnessConfig,
    InstancesConfig,
    Measurable,
    ProposalsConfig,
    SinglePointConfig,
)
from workflows.evaluate.instances import Drawn
from workflows.evaluate.job import Evaluated, evaluate, here
from workflows.evaluate.task import MEASURED, PAPER
from workflows.evaluate.truth import TrueMasks, open_set, read_image, read_masks
from workflows.evaluate.worker import EvaluationJob, EvaluationWorker
from workflows.sources import UriReader


@pytest.fixture
def common(tiny_checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    return {"model": str(tiny_checkpoint), "out": str(tmp_path / "out"), "threads": 1, "shard_size": 1}


def run(config: Measurable) -> Evaluated:
    return evaluate(config, pool=here)


def value(done: Evaluated, figure: str, row: str | None = None, origin: str = MEASURED) -> float:
    found = [f for f in done.figures if f.figure == figure and f.origin == origin and row in (None, f.row)]
    return found[0].value


def rows_of(config: Measurable, done: Evaluated) -> list[dict[str, Any]]:
    files = sorted(Path(config.out).glob(f"evaluation={done.evaluation}/rows/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def samples(place: Path) -> Iterator[Sample]:
    reader = UriReader()
    for row in open_set(str(place)).rows.to_pylist():
        masks = read_masks(row, reader)
        yield Sample(read_image(row, reader), masks.at(np.flatnonzero(~masks.crowd)).dense())


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


def test_a_killed_evaluation_gives_the_same_table(labelled: Path, common: dict[str, Any], tmp_path: Path) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), first_click="random", **common)
    calm = run(config)

    def killed(job: EvaluationJob, shards: list[int], _: Measurable) -> Iterator[dict[str, Any]]:
        """Dies in the third shard, after its rows are written and before its commit."""
        worker = EvaluationWorker(job)
        yield from map(worker.work, shards[:2])
        worker.work(shards[2])
        (Path(job.root) / images_key(job.evaluation, shards[2])).unlink()
        (Path(job.root) / rows_key(job.evaluation, shards[2])).write_bytes(b"half")
        raise KeyboardInterrupt

    worked: list[int] = []

    def counted(job: EvaluationJob, shards: list[int], config: Measurable) -> Iterator[dict[str, Any]]:
        worked.extend(shards)
        return here(job, shards, config)

    other = replace(config, out=str(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(other, pool=killed)
    resumed = evaluate(replace(other, shard_size=3), pool=counted)  # the plan stays as it was settled
    assert worked == [2, 3, 4]
    assert resumed == calm
    key = figures_key(calm.evaluation)
    assert (Path(config.out) / key).read_bytes() == (Path(other.out) / key).read_bytes()
    assert evaluate(other, pool=counted) == calm
    assert worked == [2, 3, 4]


def test_another_seed_or_model_is_another_evaluation(labelled: Path, common: dict[str, Any]) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), limit=2, masks_per_image=2, **common)
    one, other = run(config), run(replace(config, seed=1))
    assert one.evaluation != other.evaluation
    assert value(one, "masks") == value(other, "masks") == 4


def test_an_image_at_fault_is_left_out_and_named(labelled: Path, common: dict[str, Any]) -> None:
    (labelled / "images" / "1.png").write_bytes(b"no picture")
    done = run(SinglePointConfig(data=(str(labelled),), clicks=(1,), **common))
    assert value(done, "images") == 4
    (error,) = done.errors
    assert error.startswith("labelled/1: not an image")


def test_a_higher_limit_measures_what_was_too_large(labelled: Path, common: dict[str, Any]) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), max_pixels=10, **common)
    with pytest.raises(ValueError):
        run(config)
    done = run(replace(config, max_pixels=10**6))
    assert (value(done, "images"), done.errors) == (5, ())


def test_a_label_that_was_away_is_measured_when_it_is_back(
    labelled: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), **common)
    away = [True]

    def read(row: dict[str, Any], reader: UriReader) -> TrueMasks:
        if away and row["name"] == "1":
            raise FileNotFoundError(f"{row['truth_uri']}: no such file")
        return read_masks(row, reader)

    monkeypatch.setattr("workflows.evaluate.clicks.read_masks", read)
    first = run(config)
    assert len(first.errors) == 1
    away.clear()
    done = run(config)
    assert (done.evaluation, value(done, "images"), done.errors) == (first.evaluation, 5, ())


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


@pytest.fixture
def known(tmp_path: Path) -> DataSet:
    """A data set of two images with a mask each, photos/photo-0.png and photo-1.png."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    images = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    mask = np.zeros((24, 36), bool)
    mask[4:20, 5:25] = True
    data.add_run([done(image, [mask], rng=rng) for image in images], run_record("one"), shard=0)
    return data


def test_what_failed_is_measured_when_it_is_there_again(known: DataSet, common: dict[str, Any], tmp_path: Path) -> None:
    config = SinglePointConfig(data=(str(known.root),), clicks=(1,), **common)
    photo = tmp_path / "photos" / "photo-1.png"
    whole = value(run(config), "1 click")
    shutil.rmtree(common["out"])
    shutil.move(photo, tmp_path / "elsewhere.png")
    failed = run(config)
    assert len(failed.errors) == 1
    shutil.move(tmp_path / "elsewhere.png", photo)
    again = run(config)
    assert (again.evaluation, again.errors, value(again, "1 click")) == (failed.evaluation, (), whole)


def test_a_picture_of_a_data_set_that_changed_is_not_measured(
    known: DataSet, common: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "photos" / "photo-0.png", tmp_path / "photos" / "photo-1.png")
    (error,) = run(SinglePointConfig(data=(str(known.root),), clicks=(1,), **common)).errors
    assert "photo-1.png: the file has other bytes than when it was ingested" in error


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


def test_instances_agree_with_cocoeval(
    coco: Path, boxes: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "masks_of_boxes", worn_boxes)
    config = InstancesConfig(data=(str(coco),), boxes=str(boxes), **common)
    done = run(config)
    results = [
        {
            "image_id": row["image_id"],
            "category_id": row["category"],
            "score": row["score"],
            "segmentation": {"size": [row["height"], row["width"]], "counts": row["rle"]},
        }
        for row in rows_of(config, done)
    ]
    assert len(results) == 11
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(coco))
        evaluation = COCOeval(reference, reference.loadRes(results), "segm")
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
    assert len(rows_of(config, people)) == 6  # three people on two pictures
    # The third drew a third of what the others did: all of it is right, and only he misses something.
    assert value(people, "precision") == 1
    assert 0.6 < value(people, "recall") < 0.8
    assert value(people, "F", origin=PAPER) == 0.80


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


def test_the_command_prints_ours_above_the_papers(
    coco: Path, boxes: Path, common: dict[str, Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.evaluate.job.on_ray", here)
    done = engine(
        *("evaluate", "instances", "--data", f"tiny={coco}", "--boxes", boxes),
        *("--model", common["model"], "--out", common["out"], "--threads", "1"),
    )
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    (ours,) = [n for n, line in enumerate(lines) if "tiny" in line]
    (theirs,) = [n for n, line in enumerate(lines) if "paper: SAM, COCO" in line]
    assert ours < theirs
    assert "46.5" in lines[theirs]
    assert "evaluation=instances-" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("instances", "--data", "LABELS", "--boxes", "BOXES"), "needs a COCO JSON, whose image ids"),
        (("instances", "--data", "COCO", "LABELS", "--boxes", "BOXES"), "instances takes one set, not 2"),
        (("instances", "--data", "COCO", "--boxes", "COCO"), "a COCO results file is a list"),
        (("edges", "--data", "LABELS"), "edges are measured on BSDS500"),
        (("single-point", "--data", "LABELS", "LABELS"), "two data sets are called 'labelled'"),
        (("single-point", "--data", "nowhere"), "nowhere: no such"),
        (("single-point", "--data", "LABELS", "--model", "vit_q"), "no model is called 'vit_q'"),
    ],
)
def test_refusals_in_one_line(
    coco: Path, labelled: Path, boxes: Path, tmp_path: Path, engine: Engine, arguments: tuple[str, ...], complaint: str
) -> None:
    known = {"COCO": str(coco), "LABELS": str(labelled), "BOXES": str(boxes)}
    given = [known.get(word, word) for word in arguments]
    if arguments[0] != "text":
        given += ["--out", str(tmp_path / "out")]
    done = engine("evaluate", *given)
    assert done.status == 2
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("instances", "--data", "a.json"), "--boxes"),
        (("single-point", "--data", "a", "--clicks", "3", "1"), "--clicks must increase"),
        (("single-point", "--data", "a", "--limit", "0"), "--limit is 0; it must be positive"),
        (("single-point",), "--data"),
        ((), "single-point"),
    ],
)
def test_wrong_flags(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(["evaluate", *arguments])


def test_boxes_without_area_or_image_are_refused(coco: Path, boxes: Path, common: dict[str, Any]) -> None:
    results = json.loads(boxes.read_text())
    config = InstancesConfig(data=(str(coco),), boxes=str(boxes), **common)
    for changed, complaint in (
        ({"bbox": [1.0, 1.0, 0.0, 5.0]}, "entry 0: bbox has no area"),
        ({"image_id": 4}, "image_id 4 is not in"),
    ):
        boxes.write_text(json.dumps([results[0] | changed]))
        with pytest.raises(ValueError, match=complaint):
            run(config)
