"""`sam-engine evaluate` on real Ray: the same table as in one process, and nothing done twice."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.workflows.conftest import Engine
from workflows.evaluate.commands import SinglePointConfig
from workflows.evaluate.job import evaluate, here


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_same_figures_as_in_one_process(
    labelled: Path, tiny_checkpoint: Path, tmp_path: Path, engine: Engine
) -> None:
    (labelled / "images" / "1.png").write_bytes(b"no picture")
    command = ("evaluate", "single-point", "--data", labelled, "--clicks", "1", "2", "--model", tiny_checkpoint)
    ran = engine(*command, "--out", tmp_path / "ray", "--threads", "1")
    assert (ran.status, "not measured: labelled/1: not an image" in ran.out) == (1, True), ran.err
    (figures,) = (tmp_path / "ray").glob("evaluation=single-point-*/figures.parquet")
    config = SinglePointConfig(
        data=(str(labelled),), clicks=(1, 2), model=str(tiny_checkpoint), out=str(tmp_path / "x")
    )
    expected = evaluate(config, pool=here).figures
    found = [(row["row"], row["figure"], row["value"]) for row in pq.read_table(figures).to_pylist()]
    assert found == [(figure.row, figure.figure, figure.value) for figure in expected]
    again = engine(*command, "--out", tmp_path / "ray", "--threads", "1")
    assert (again.out, again.err) == (ran.out, "")
