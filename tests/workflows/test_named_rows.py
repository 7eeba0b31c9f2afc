"""Tables beside images: read as they stand, found by what they name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflows.named_rows import NamedRows, read_table
from workflows.storage import write_file


def test_rows_are_found_by_as_much_of_the_path_as_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "names.csv").write_text("file_name\na.png\nx/a.png\n/x/a.png\nnx/a.png\n\n/data/x/a.png\n")
    assert NamedRows(str(tmp_path / "names.csv")).find("/data/x/a.png") == [0, 1, 4]
    assert NamedRows(str(tmp_path / "names.csv")).find("s3://b/x/a.png") == [0, 1]
    (tmp_path / "found.csv").write_text("file_name\n./a.png\n./x/a.png\n")
    assert NamedRows(str(tmp_path / "found.csv")).find("/data/x/a.png") == [0, 1]
    pq.write_table(pa.table({"uri": ["y/../x/a.png", "s3://b/a.png", None]}), tmp_path / "uris.parquet")
    monkeypatch.chdir(tmp_path)
    rows = NamedRows("uris.parquet")
    assert (rows.find(str(tmp_path / "x" / "a.png")), rows.find("s3://b/a.png")) == ([0], [1])


def test_rows_are_found_at_once_although_all_files_have_one_name(tmp_path: Path) -> None:
    """As where each patient's folder holds an `image.png`: a look at every row for every image would take minutes."""
    names = [f"{number:05d}/image.png" for number in range(20_000)]
    pq.write_table(pa.table({"file_name": names}), tmp_path / "names.parquet")
    rows = NamedRows(str(tmp_path / "names.parquet"))
    assert [rows.find(f"/data/{name}") for name in names] == [[number] for number in range(len(names))]


def test_a_csv_is_text_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\ufefffile_name,code,country,empty,café\n1.png,007,NA,,ü\n")
    assert read_table(str(tmp_path / "x.csv")).to_pylist() == [
        {"file_name": "1.png", "code": "007", "country": "NA", "empty": None, "café": "ü"}
    ]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,country\n1.png,NO\n")
    with pytest.raises(ValueError, match=r"no column 'uri' or 'file_name'; the columns are name, country"):
        NamedRows(str(tmp_path / "x.csv"))
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ValueError, match="neither CSV nor Parquet"):
        read_table(str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match="no such file"):
        read_table(str(tmp_path / "gone.csv"))
    pq.write_table(pa.table({"uri": ["a"], "thumbnail": [b"\xff"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="column 'thumbnail' holds bytes"):
        read_table(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("text", ["file_name,town\n1.png,Café\n", "file_name,café\n1.png,x\n"])
def test_a_csv_that_is_no_utf8_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x.csv: the text is no UTF-8"):
        read_table(str(tmp_path / "x.csv"))


def test_a_table_may_lie_in_a_bucket(tmp_path: Path, bucket: str) -> None:
    """It was `no such file`, also where pictures and results were all in a bucket."""
    pq.write_table(pa.table({"file_name": ["a.png"], "age": [3]}), tmp_path / "x.parquet")
    write_file(f"s3://{bucket}/tables/x.parquet", (tmp_path / "x.parquet").read_bytes())
    write_file(f"s3://{bucket}/x.csv", b"file_name,age\na.png,3\n")
    assert read_table(f"s3://{bucket}/tables/x.parquet").to_pylist() == [{"file_name": "a.png", "age": 3}]
    assert NamedRows(f"s3://{bucket}/x.csv").find(f"s3://{bucket}/photos/a.png") == [0]
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist"):
        read_table(f"s3://{bucket}/none.csv")
