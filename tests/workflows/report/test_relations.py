"""What the report says about wholes and parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.workflows.report.data_sets import DataSet, done, photos, run_record
from workflows.cli import main
from workflows.relate import relate_shards
from workflows.report import write_report
from workflows.report.overlays import paint
from workflows.report.relations import DEPTH_COLOURS, depth_palette, relations_figure
from workflows.report.scope import read_runs
from workflows.sql import connect


def nested(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    data = DataSet(folder / "data")
    (first,) = data.add_images(photos(folder / "photos", 1, rng=rng))
    outer, inner = np.zeros((2, 24, 36), bool)
    outer[2:20, 3:30] = True
    inner[5:9, 6:12] = True
    data.add_run([done(first, [inner, outer, outer], rng=rng)], run_record("one"))
    return data.root


def test_nothing_is_said_before_anybody_has_looked(tmp_path: Path) -> None:
    root = nested(tmp_path)
    connection = connect(str(root))
    assert relations_figure(connection, read_runs(connection)) is None
    write_report(str(root), tmp_path / "report.html")
    assert "Wholes and parts" not in (tmp_path / "report.html").read_text()


def test_counts_and_a_picture_coloured_by_depth(tmp_path: Path) -> None:
    root = nested(tmp_path)
    assert main(["relate", str(root)]) == 0
    connection = connect(str(root))
    figure = relations_figure(connection, read_runs(connection))
    assert figure is not None
    (tree,) = figure.trees
    assert (tree.masks, tree.parts, tree.with_parts, tree.copies, tree.deepest) == (3, 1, 1, 1, 1)
    (picture,) = figure.pictures
    assert (picture.masks, picture.deepest, picture.width) == (2, 1, 36)
    write_report(str(root), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Wholes and parts" in page
    assert "2 masks, 2 levels" in page
    (tmp_path / "photos" / "photo-0.png").unlink()  # counts need no photograph
    figure = relations_figure(connection, read_runs(connection))
    assert figure is not None
    assert not figure.pictures


def test_thresholds_of_which_one_was_broken_off_are_told_apart(tmp_path: Path) -> None:
    """Masks that were compared by either were counted together, under the thresholds of any."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    whole, part = np.zeros((2, 24, 36), bool)
    whole[2:20, 3:30] = True
    part[5:9, 1:7] = True  # two thirds of it lie in the whole
    run = run_record("one")
    for shard, image_id in enumerate(data.add_images(photos(tmp_path / "photos", 3, rng=rng))):
        data.add_run([done(image_id, [whole, part], rng=rng)], run, shard)
    relate_shards(str(data.root), 0.9, 0.9, pa.table({"run_id": [run.run_id] * 3, "shard": [0, 1, 2]}))
    relate_shards(str(data.root), 0.6, 0.9, pa.table({"run_id": [run.run_id], "shard": [0]}))
    connection = connect(str(data.root))
    figure = relations_figure(connection, read_runs(connection))
    assert figure is not None
    found = [(round(tree.containment, 2), tree.masks, tree.parts) for tree in figure.trees]
    assert found == [(0.6, 2, 1), (0.9, 4, 0)]


def test_the_palette_follows_the_masks_whatever_their_size(tmp_path: Path) -> None:
    from tests.workflows.report.data_sets import _records

    small, large = np.zeros((2, 24, 36), bool)
    small[2:12, 2:12] = True
    large[:, 14:] = True
    masks = _records([small, large], np.random.default_rng(0))
    layer = paint(masks, (24, 36), palette=depth_palette(np.array([1, 0], np.int32)))
    assert tuple(layer[7, 7, :3]) == DEPTH_COLOURS[1]
    assert tuple(layer[12, 25, :3]) == DEPTH_COLOURS[0]
    assert depth_palette(np.array([9], np.int32)).tolist() == [list(DEPTH_COLOURS[3])]
    assert Image.fromarray(layer).mode == "RGBA"
