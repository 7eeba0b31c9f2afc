"""What bars are measured in: candidates by their run's own number, seconds by those of the slowest run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.report.figures import candidate_figure, seconds_figure
from workflows.report.scope import read_runs
from workflows.sql import connect


def test_a_small_run_is_seen_beside_a_large_one(empty_set: DataSet, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = empty_set.add_images(photos(tmp_path / "photos", 8, rng=rng))
    for name, some in (("large", images), ("small", images[:1])):
        results = [done(image, boxes((24, 36), 5, rng=rng), rng=rng) for image in some]
        empty_set.add_run(results, run_record(name))
    connection = connect(str(empty_set.root))
    runs = read_runs(connection)
    for bars in candidate_figure(connection, runs).plot.rows:
        assert sum(bar.width for bar in bars) == pytest.approx(100, abs=0.1)
    widths = [sum(bar.width for bar in bars) for bars in seconds_figure(connection, runs).plot.rows]
    seconds = [run.seconds_per_image for run in runs]
    np.testing.assert_allclose(widths, 100 * np.array(seconds) / max(seconds), atol=1)
