"""Targets, their commands and their tables, from records made here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import bytes_per_mask, determinism, generator, table, targets
from tests.benchmarks.record import ROOT
from tests.benchmarks.targets import DETERMINISM, TARGETS, Options, command_line, commands

RECORD = {
    "speedup": 9.87,
    "matched": 0.99951,
    "same_count": 0.992,
    "images": 128,
    "images_per_second": 4.44,
    "ours": {"seconds": 52.1, "peak_memory_gb": 1.23},
    "released": {"seconds": 515.4, "peak_memory_gb": 6.02},
    "agreement": {"reference": 3812},
    "limit": {"images_per_second": 6.1, "encoder_share": 0.63},
    "share_of_json": 0.54,
    "parquet_bytes_per_mask": 201.0,
    "json_bytes_per_mask": 371.8,
    "masks": 3812,
    "machine": "2 cores of a CPU",
    "versions": {"torch": "2.13.0"},
    "commit": "abc",
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(targets, "RESULTS", tmp_path)
    return tmp_path


def test_commands_are_understood_by_their_modules() -> None:
    parsers = {module.__name__: module for module in (generator, determinism, bytes_per_mask)}
    for target in (*TARGETS, DETERMINISM):
        flag, module, *arguments = command_line(target, Options(Path("some where"), threads=1))
        assert flag == "-m"
        if module == generator.__name__:
            options = generator.parse(arguments)
            assert options.threads == 1
        else:
            options = targets.tyro.cli(parsers[module].Options, args=arguments)
        assert options.images == Path("some where/coco128/images")
        assert options.json == target.path


def test_gpu_rows_run_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not any("gpu" in name for name in commands(Options(Path("data"))))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert any("gpu" in name for name in commands(Options(Path("data"))))


@pytest.mark.parametrize("able", [True, False])
def test_what_amx_makes_faster_has_rows_of_its_own(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(targets, "has_tiles", lambda: able)
    chosen = commands(Options(Path("data")))
    for name in ("generator_vit_b_reference", "generator_vit_b_sa1b", "generator_vit_n"):
        assert (f"{name}_amx" in chosen, name in chosen) == (able, not able)
    assert "bytes_per_mask" in chosen


def test_chosen_rows() -> None:
    assert list(commands(Options(Path("data"), only=("bytes_per_mask",)))) == ["bytes_per_mask"]
    with pytest.raises(ValueError, match="no record is called speed; known are generator_vit_b_reference"):
        commands(Options(Path("data"), only=("speed",)))


def test_empty_table_says_so(results: Path) -> None:
    rendered = table.targets()
    assert rendered.count(table.NO_GPU) == 2
    assert rendered.count(table.NOT_MEASURED) == len(TARGETS)
    assert "Measured on" not in rendered


def test_table_of_records(results: Path) -> None:
    for target in TARGETS:
        (results / f"{target.name}.json").write_text(json.dumps(RECORD))
    rendered = table.targets()
    assert "| **9.9x**: 52.1 instead of 515 CPU s; peak 1.2 GB (released: 6.0 GB) |" in rendered
    assert "| **99.95 %** of 3,812 masks matched; same count on 99.2 % of 128 images |" in rendered
    assert (
        "| **4.4 images/s** (limit 6); encoder at 63 % of the matrix rate; 9.9x segment-anything-fast's recipe |"
        in rendered
    )
    assert "| **54 %**: 201 of 372 bytes, 3,812 masks |" in rendered
    assert rendered.endswith("\nMeasured on 2 cores of a CPU, torch 2.13.0, commit abc.\n")
    assert len({line.count("|") for line in rendered.splitlines()[: len(TARGETS) + 2]}) == 1


def test_the_readme_shows_what_is_recorded() -> None:
    assert table.targets() in (ROOT / "README.md").read_text()


def test_table_of_determinism(results: Path) -> None:
    line = {"variant": "fast path", "masks": 3812, "lost": 1, "gained": 2, "changed": 0}
    rows = [line | {"images_with_another_count": 0.0078}]
    record = RECORD | {"rows": rows, "model": {"name": "vit_n"}, "data": "coco128/images", "recipe": "draft"}
    (results / "determinism.json").write_text(json.dumps(record))
    rendered = table.determinism()
    assert "| fast path | 1 | 2 | 0 | 0.8 % |" in rendered
    assert "3,812 masks of `vit_n` on 128 images of coco128/images, recipe `draft`; 2 cores of a CPU" in rendered


def test_targets_are_told_apart() -> None:
    works = [target.work for target in TARGETS]
    assert len(set(works)) == len(works)
    assert replace(TARGETS[0], name="x").path.name == "x.json"
