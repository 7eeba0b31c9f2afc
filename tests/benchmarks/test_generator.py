"""The harness of the generator from end to end, with a tiny random model on images made here."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.masks.batch import Reason
from sam_core.recipes import SmallMaskRule, reference
from tests.benchmarks import generator
from tests.benchmarks.generator import parse, undrawn
from tests.benchmarks.sides import Kind, SideConfig, make_generator, measure
from tests.benchmarks.test_agreement import SMALL, generation

TOP_LEVEL = {
    *("speedup", "matched", "peak_memory_ratio", "images_per_second", "share_of_limit", "same_count"),
    *("ours", "released", "agreement", "limit", "commit", "machine", "versions", "config"),
}
EVERYTHING = ("--points-per-side", "4", "--min-predicted-iou", "0", "--min-stability-score", "0", "--threads", "1")


@pytest.fixture
def images(photo: np.ndarray, tmp_path: Path) -> Path:
    """A folder with two small photographs and a text."""
    folder = tmp_path / "photos" / "images"
    folder.mkdir(parents=True)
    for name, part in (("a.png", photo[:90, :120]), ("b.jpg", photo[100:200, 50:130])):
        Image.fromarray(part).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(autouse=True)
def _known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring how fast the machine multiplies takes longer than the rest."""
    monkeypatch.setattr(generator, "matrix_rate", lambda device, dtype: 1e11)


def run(images: Path, checkpoint: Path, out: Path, *more: str) -> dict:
    options = parse(["--model", str(checkpoint), "--images", str(images), "--json", str(out), *EVERYTHING, *more])
    generator.run(options)
    return json.loads(out.read_text())


def test_ours_beside_the_released_one(
    images: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(images, tiny_checkpoint, tmp_path / "record.json", "--released")
    assert set(record) >= TOP_LEVEL
    assert record["images"] == 2
    assert record["skipped"] == []
    assert record["speedup"] == pytest.approx(record["released"]["seconds"] / record["ours"]["seconds"], rel=1e-3)
    assert record["matched"] > 0.9
    assert record["agreement"]["reference"] == 2 * record["released"]["masks"] > 0
    assert record["ours"]["candidates"] == record["released"]["candidates"] == 4 * 4 * 3
    assert record["limit"]["prompts"] == record["limit"]["drawn_prompts"] == 16
    assert record["limit"]["gmac_per_image"] < record["limit"]["released_gmac_per_image"]
    assert record["data"] == "photos/images"
    assert str(tmp_path) not in json.dumps(record)
    assert "speedup" in capsys.readouterr().out


def test_every_kind_of_side_measures_what_it_makes(images: Path, tiny_checkpoint: Path) -> None:
    """In this process; what runs on a GPU runs here on the CPU, but for compiling, which takes a minute."""
    pictures = [np.asarray(Image.open(path)) for path in sorted(images.glob("*.*g"))]
    thresholds = parse(["--model", "x", "--images", "y", *EVERYTHING]).thresholds
    found = {}
    for kind in (Kind.FAST, Kind.DEVICE, Kind.RELEASED):
        generator_of_kind = make_generator(SideConfig(kind, tiny_checkpoint, thresholds, threads=1), thresholds)
        found[kind] = measure(generator_of_kind, pictures, "cpu")
    assert all([each.generation.candidates for each in side] == [48, 48] for side in found.values())
    assert len({each.seconds for each in found[Kind.DEVICE]}) == 1
    with pytest.raises(ValueError, match="expected a uint8 RGB image"):
        measure(
            make_generator(SideConfig(Kind.DEVICE, tiny_checkpoint, thresholds), thresholds), [pictures[0][0]], "cpu"
        )


def test_the_device_decides_which_of_our_generators_runs() -> None:
    common = ["--model", "vit_n", "--images", "folder"]
    assert generator.kinds(parse(common)) == [Kind.FAST]
    assert generator.kinds(parse([*common, "--device", "cuda", "--released"])) == [Kind.DEVICE, Kind.RELEASED]
    assert generator.kinds(parse([*common, "--device", "cuda", "--released-fast"])) == [Kind.DEVICE, Kind.RELEASED_FAST]
    assert generator.kinds(parse([*common, "--exact-reference"])) == [Kind.PLAIN]


def test_steps_add_up(images: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The plain path alone, in CPU seconds: the steps are almost all of it."""
    record = run(images, tiny_checkpoint, tmp_path / "record.json", "--exact-reference", "--limit", "1")
    assert record["speedup"] is record["matched"] is record["released"] is None
    assert record["images"] == 1
    assert 0.5 < sum(record["ours"]["steps"].values()) / record["ours"]["seconds"] <= 1.0
    assert record["config"]["exact_reference"]


def test_thresholds_are_those_of_the_recipe_unless_given() -> None:
    common = ["--model", "vit_n", "--images", "folder", "--recipe", "sa1b"]
    alone = parse([*common, "--crop-layers", "1"]).thresholds
    assert (alone.crop_layers, alone.min_region_area, alone.full_image_fraction) == (1, 100, 0.95)
    beside = parse([*common, "--released"]).thresholds
    assert (beside.crop_layers, beside.full_image_fraction, beside.small_masks) == (2, 0, SmallMaskRule.KEEP_LARGEST)
    assert parse(common[:4]).thresholds == reference()


def test_images_that_fail_are_named(images: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (images / "a.png").write_bytes(b"no image either")
    record = run(images, tiny_checkpoint, tmp_path / "record.json")
    assert record["images"] == 1
    assert record["skipped"][0].startswith("a.png: the fast generator failed: ValueError")


@pytest.mark.parametrize(
    ("model", "folder", "complaint"),
    [
        ("no_such_model", "images", "no_such_model"),
        ("tiny", "..", "has no JPEG or PNG images"),
        ("vit_nn", "images", "did you mean 'vit_n'"),
    ],
)
def test_bad_input_is_one_line(images: Path, tiny_checkpoint: Path, model: str, folder: str, complaint: str) -> None:
    name = str(tiny_checkpoint) if model == "tiny" else model
    seed = ["--random-seed", "0"] if model == "vit_nn" else []
    with pytest.raises(ValueError, match=complaint) as stopped:
        generator.run(parse(["--model", name, "--images", str(images.parent / folder), *seed]))
    assert "\n" not in str(stopped.value)


def test_prompts_without_a_passing_output_need_no_drawing() -> None:
    """Three prompts: one fails with all outputs, one with two, one with none."""
    low = [(Reason.IOU, 1, 0.1), (Reason.IOU, 1, 0.2), (Reason.IOU, 1, 0.3), (Reason.IOU, 2, 0.1), (Reason.IOU, 2, 0.2)]
    others = [(Reason.STABILITY, 3, 0.9)] * 3
    assert undrawn(generation([(SMALL, 2, 0.9)], [*low, *others])) == 1
