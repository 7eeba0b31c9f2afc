"""The determinism budget from end to end, with a tiny random model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.model.checkpoint import load_model
from sam_core.recipes import Recipe
from tests.benchmarks import determinism
from tests.benchmarks.determinism import ON_CPU, REFERENCE, Options, Variant, generator_of, measure, row

THRESHOLDS = Recipe(points_per_side=4, min_predicted_iou=0.0, min_stability_score=0.0)


@pytest.fixture
def image(photo: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(photo[:90, :120]).save(path)
    return path


def test_batches_and_threads_change_nothing(tiny_checkpoint: Path, image: Path) -> None:
    exact = [variant for variant in ON_CPU if not variant.half]
    lines = [row(*pair) for pair in measure(load_model(tiny_checkpoint), THRESHOLDS, [image], exact)]
    assert [line["variant"] for line in lines] == [variant.name for variant in exact]
    for line in lines:
        assert line["masks"] > 0
        assert (line["lost"], line["gained"], line["changed"]) == (0, 0, 0), line["variant"]
        assert line["images_with_another_count"] == 0


def test_half_precision_is_seen(tiny_checkpoint: Path, photo: np.ndarray) -> None:
    sam = load_model(tiny_checkpoint).sam
    half = Variant("half", exact_reference=True, half=True)
    one, other = (generator_of(sam, THRESHOLDS, variant)(photo[:90, :120]) for variant in (REFERENCE, half))
    assert one.candidates == other.candidates
    assert not np.array_equal(np.sort(one.masks.predicted_iou), np.sort(other.masks.predicted_iou))


def test_threads_are_as_before(tiny_checkpoint: Path, photo: np.ndarray) -> None:
    before = torch.get_num_threads()
    generator_of(load_model(tiny_checkpoint).sam, THRESHOLDS, Variant("two", threads=2))(photo[:40, :40])
    assert torch.get_num_threads() == before


def test_record(
    tiny_checkpoint: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(determinism, "ON_CPU", ON_CPU[:1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "record.json"
    determinism.run(Options(image.parent, str(tiny_checkpoint), points_per_side=3, json=out))
    record = json.loads(out.read_text())
    assert record["images"] == len(record["rows"]) == 1
    assert record["config"]["thresholds"]["points_per_side"] == 3
    assert set(record) >= {"commit", "machine", "versions"}
    assert ON_CPU[0].name in capsys.readouterr().out


def test_records_of_two_machines_become_one(tmp_path: Path) -> None:
    path, rows = tmp_path / "record.json", [{"variant": variant.name} for variant in ON_CPU[:2]]
    found = {"model": "a", "data": "b", "images": 0, "recipe": "c", "machine": "here"}
    path.write_text(json.dumps({**found, "machine": "there", "rows": rows}))
    both = determinism.beside(path, {**found, "rows": [rows[1]]})
    assert [(line["variant"], line["machine"]) for line in both["rows"]] == [
        (ON_CPU[0].name, "there"),
        (ON_CPU[1].name, "here"),
    ]
    with pytest.raises(ValueError, match="a record of another model"):
        determinism.beside(path, {**found, "images": 1, "rows": []})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_variants_of_a_gpu_need_one() -> None:
    with pytest.raises(ValueError, match="no GPU here"):
        determinism.variants("gpu")
    assert determinism.variants("cpu") == ON_CPU
