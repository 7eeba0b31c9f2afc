from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflows.metadata import add_metadata
from workflows.sources import ImageRef


def test_rows_are_found_by_uri_or_by_name(tmp_path: Path) -> None:
    references = [ImageRef("/a/1.png"), ImageRef("/a/2.png", metadata='{"id": 2}'), ImageRef("/a/3.png")]
    (tmp_path / "names.csv").write_text("file_name,country,licence\n1.png,NO,CC0\n2.png,TR,\n9.png,XX,\n")
    first, second, third = add_metadata(references, str(tmp_path / "names.csv"))
    assert (first.licence, json.loads(first.metadata)) == ("CC0", {"country": "NO"})
    assert json.loads(second.metadata) == {"id": 2, "country": "TR"}
    assert third == references[2]
    pq.write_table(pa.table({"uri": ["/a/3.png"], "caption": ["a cat"]}), tmp_path / "uris.parquet")
    *_, captioned = add_metadata(references, str(tmp_path / "uris.parquet"))
    assert json.loads(captioned.metadata) == {"caption": "a cat"}


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,country\n1.png,NO\n")
    with pytest.raises(ValueError, match=r"no column 'uri' or 'file_name'; the columns are name, country"):
        add_metadata([], str(tmp_path / "x.csv"))
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ValueError, match="neither CSV nor Parquet"):
        add_metadata([], str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match="no such file"):
        add_metadata([], str(tmp_path / "gone.csv"))
