"""Stored figures of the baselines: measured once, again only when masks or parameters changed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import classical
from tests.benchmarks.baselines import BASELINES
from tests.benchmarks.ground_truth import GroundTruth, Selection, open_ground_truth


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the baselines as they are measured; results go to a temporary folder."""
    names: list[str] = []
    measure = classical.measure

    def counted(baseline: classical.Baseline, truth: GroundTruth, selection: Selection) -> classical.Figure:
        names.append(baseline.name)
        return measure(baseline, truth, selection)

    monkeypatch.setattr(classical, "measure", counted)
    monkeypatch.setattr(classical, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(classical, "BASELINES", (BASELINES[0], BASELINES[1]))
    return names


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["classical", "--data", str(folder), *arguments])
    classical.main()


def test_figures_are_stored_and_not_measured_again(
    nuclei: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(monkeypatch, nuclei)
    run(monkeypatch, nuclei)
    assert measured == ["disc", "flood_fill"]
    stored = json.loads((tmp_path / "results" / "classical_nuclei.json").read_text())["baselines"]
    assert stored["flood_fill"]["miou"] > 0.9
    assert stored["flood_fill"]["masks"] == 4
    assert {"commit", "cpu", "versions", "cpu_seconds"} <= set(stored["flood_fill"])
    assert classical.stored_figures(open_ground_truth(nuclei)) == stored


def test_another_seed_or_parameter_is_measured(
    nuclei: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, nuclei)
    wider = replace(BASELINES[1], parameters=(8, 16, 128))
    monkeypatch.setattr(classical, "BASELINES", (BASELINES[0], wider))
    run(monkeypatch, nuclei)
    assert measured[2:] == ["flood_fill"]
    run(monkeypatch, nuclei, "--seed", "1")
    assert measured[3:] == ["disc", "flood_fill"]


def test_figure_is_the_mean_over_the_masks_of_all_images(nuclei: Path) -> None:
    truth = open_ground_truth(nuclei)
    found = classical.measure(BASELINES[0], truth, Selection())
    every = np.concatenate([classical.baseline_iou(BASELINES[0], truth.read(name)) for name in truth.names])
    assert found.miou == pytest.approx(every.mean(0).max())


def test_an_unknown_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no ground truth recognised"):
        run(monkeypatch, tmp_path)
