"""The quality harness from end to end, with a tiny random model on a small data set made here."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.benchmarks import quality
from tests.benchmarks.baselines import BASELINES
from tests.benchmarks.quality import unmeasured

TOP_LEVEL = {
    *("one_click_miou", "oracle_miou", "best_classical_miou", "three_click_miou", "five_click_miou", "nine_click_miou"),
    *("nine_click_oracle_miou", "box_miou", "closer_one_click_miou", "closer_box_miou", "ar_1000", "iou_correlation"),
    *("disc_miou", "disc_oracle_miou", "masks"),
    *("commit", "cpu", "cores", "versions", "config", "cpu_seconds"),
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", *arguments])
    quality.main()


def test_record_holds_every_figure(
    nuclei: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "record.json"
    common = ["--model", str(tiny_checkpoint), "--data", str(nuclei), "--json", str(out)]
    run(monkeypatch, *common, "--closer", "--recall", "--points-per-side", "3", "--every-size")
    record = json.loads(out.read_text())
    assert set(record) >= TOP_LEVEL
    assert record["masks"] == 4
    assert record["disc_miou"] > 0.6
    assert record["disc_oracle_miou"] >= record["disc_miou"]
    assert record["best_classical_miou"] is None
    assert record["every_size"]["masks"] == 4
    assert record["recall"]["small"] is not None
    assert record["recall"]["large"] is None
    shown = capsys.readouterr().out
    assert "vit_test on nuclei: 4 masks" in shown
    assert "box, looked at closely" in shown
    assert "python -m tests.benchmarks.classical" in shown


def test_stored_baselines_stand_beside_the_disc(
    nuclei: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {baseline.name: {"miou": 0.01, "masks": 4} for baseline in BASELINES}
    stored["watershed"]["miou"] = 0.97
    monkeypatch.setattr(quality, "stored_figures", lambda truth: stored)
    out = tmp_path / "record.json"
    run(monkeypatch, "--model", str(tiny_checkpoint), "--data", str(nuclei), "--json", str(out), "--limit", "1")
    record = json.loads(out.read_text())
    assert record["best_classical_miou"] == 0.97
    assert record["classical_miou"]["disc"] == record["disc_miou"] != 0.01
    assert (record["masks"], record["ar_1000"], record["every_size"]) == (2, None, None)
    assert record["closer_one_click_miou"] is None


def test_the_best_of_some_baselines_is_not_the_best() -> None:
    names = [baseline.name for baseline in BASELINES]
    assert unmeasured(names) == []
    assert unmeasured(["disc", "flood_fill"]) == names[2:]


@pytest.mark.parametrize(("model", "data"), [("no_such_model", "nuclei"), ("tiny", "no_such_folder")])
def test_bad_input_is_one_line(
    nuclei: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, model: str, data: str
) -> None:
    name = str(tiny_checkpoint) if model == "tiny" else model
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--model", name, "--data", str(nuclei.parent / data))
    assert model in str(stopped.value) or data in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_images_without_masks_are_refused(nuclei: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        cv2.imwrite(str(nuclei / "labels" / f"{name}.png"), np.zeros((60, 80), np.uint16))
    with pytest.raises(SystemExit, match="the chosen images have no masks above 0 px"):
        run(monkeypatch, "--model", str(tiny_checkpoint), "--data", str(nuclei))
