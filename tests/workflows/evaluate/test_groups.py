"""Grouping columns: of the JSON, of a table, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.evaluate.groups import grouped


def groups(place: Path, by: str, table: Path | None = None) -> list[str | None]:
    rows = grouped(str(place), by, str(table) if table else None).rows.to_pylist()
    return [annotation["group"] for row in rows for annotation in row["annotations"] if not annotation["crowd"]]


def test_columns_of_the_json(coco: Path) -> None:
    assert groups(coco, "category") == ["cat", "dog", "hen"] * 3
    assert groups(coco, "colour") == ["warm", "cold", "cold"] * 3
    assert groups(coco.parent, "place") == ["here"] * 9


def test_columns_of_a_table(coco: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("annotation_id,age\n1,young\n12,old\n")
    assert groups(coco, "age", table) == ["young", None, None, None, "old", None]
    table.write_text("file_name,country\n2.png,Kenya\n")
    assert groups(coco, "country", table) == ["Kenya"] * 3


def test_a_picture_of_several_groups_is_refused(coco: Path, tmp_path: Path) -> None:
    """As in a table with a line per person where only pictures are named: the last line would count for all."""
    table = tmp_path / "people.csv"
    table.write_text("file_name,age\n0.png,young\n0.png,old\n1.png,old\n1.png,old\n")
    with pytest.raises(ValueError, match=r"people.csv: file_name 0.png has several values of 'age'"):
        grouped(str(coco), "age", str(table))
    table.write_text("file_name,age\n0.png,old\n0.png,old\n")
    assert len(grouped(str(coco), "age", str(table)).rows) == 1


def test_an_empty_cell_is_no_group(coco: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("file_name,age\n0.png,young\n1.png,\n2.png, \n")
    assert groups(coco, "age", table) == ["young"] * 3
    parquet = tmp_path / "people.parquet"
    pq.write_table(pa.table({"file_name": ["0.png", "1.png"], "age": [3.0, float("nan")]}), parquet)
    assert groups(coco, "age", parquet) == ["3.0"] * 3


def test_what_gives_no_groups_is_refused(coco: Path, labelled: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("name,age\na,1\n")
    with pytest.raises(ValueError, match=r"needs the columns 'age' and 'annotation_id' or 'file_name'; .* name, age"):
        grouped(str(coco), "age", str(table))
    with pytest.raises(ValueError, match="no mask has a value of 'height of the sun'"):
        grouped(str(coco), "height of the sun", None)
    with pytest.raises(ValueError, match="masks are grouped where a COCO JSON"):
        grouped(str(labelled), "age", None)


def test_a_table_knows_images_of_a_data_set_by_file_name(tmp_path: Path) -> None:
    """Their annotations are counted in each image: by annotation_id, every image's first mask would be one person."""
    rng = np.random.default_rng(0)
    data, pictures = DataSet(tmp_path / "data"), photos(tmp_path / "photos", 2, rng=rng)
    ids = data.add_images(pictures)
    data.add_run([done(image, boxes((48, 64), 2, rng=rng), rng=rng) for image in ids], run_record())
    table = tmp_path / "people.csv"
    table.write_text(f"file_name,age\n{pictures[0].name},young\n{pictures[1].stem},old\n")
    assert groups(tmp_path / "data", "age", table) == ["young", "young", "old", "old"]
    table.write_text("annotation_id,age\n0,young\n")
    with pytest.raises(
        ValueError, match=r"people.csv: a data set knows no annotation_id; say by file_name whose 'age'"
    ):
        grouped(str(tmp_path / "data"), "age", str(table))
    with pytest.raises(ValueError, match="a data set knows no 'category' of its masks; name a table with --table"):
        grouped(str(tmp_path / "data"), "category", None)
