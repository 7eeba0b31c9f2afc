from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.metadata import MetadataTable
from workflows.uris import ImageRef


def test_rows_are_found_by_uri_or_by_name(tmp_path: Path) -> None:
    references = [ImageRef("/a/1.png"), ImageRef("/a/2.png", "", "CC BY", '{"id": 2}'), ImageRef("/a/3.png")]
    (tmp_path / "names.csv").write_text("file_name,country,licence\n1.png,NO,CC0\n2.png,TR,\n9.png,XX,\n")
    table = MetadataTable(str(tmp_path / "names.csv"))
    first, second, third = table.add_to(references)
    assert (first.licence, json.loads(first.metadata)) == ("CC0", {"country": "NO"})
    assert (second.licence, json.loads(second.metadata)) == ("CC BY", {"id": 2, "country": "TR"})
    assert third == references[2]
    assert table.usage() == f"{tmp_path}/names.csv: 2 of 3 rows are about images of the source"
    pq.write_table(pa.table({"uri": ["/a/3.png"], "caption": ["a cat"]}), tmp_path / "uris.parquet")
    *_, captioned = MetadataTable(str(tmp_path / "uris.parquet")).add_to(references)
    assert json.loads(captioned.metadata) == {"caption": "a cat"}


def test_a_name_may_hold_a_part_of_the_path_and_the_longest_counts(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("file_name,set,day\ntrain/1.png,train,\n1.png,none,007\nval/2.png,val,\n")
    table = MetadataTable(str(tmp_path / "names.csv"))
    first, second = table.add_to([ImageRef("/a/train/1.png"), ImageRef("/a/train/2.png")])
    assert json.loads(first.metadata) == {"set": "train", "day": "007"}
    assert second == ImageRef("/a/train/2.png")
