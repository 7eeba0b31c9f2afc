"""The same views over an object store, through a file system that the caller brings."""

from pathlib import Path

import boto3
import pyarrow.fs as pafs
import pytest

from schemas import layout
from schemas.catalog import QueryError, connect, query
from schemas.records import to_json
from tests.schemas import rows


def test_a_data_set_in_a_bucket(s3_server: str, bucket: str, tmp_path: Path) -> None:
    rows.new_dataset(tmp_path)
    rows.put(tmp_path, layout.images_key("1"), rows.images([("a", "s3://b/a.png"), ("b", "s3://b/b.png")]))
    rows.put(tmp_path, layout.run_key(rows.RUN), to_json(rows.run_record()))
    rows.put_shard(tmp_path, 0, {"a": 3, "b": 2})
    rows.put_shard(tmp_path, 1, {"c": 9})[1].unlink()
    client = boto3.client("s3")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            key = f"some/prefix/{path.relative_to(tmp_path).as_posix()}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    store = pafs.S3FileSystem(endpoint_override=s3_server)
    with connect(f"s3://{bucket}/some/prefix", filesystem=store) as remote, connect(tmp_path) as local:
        for sql in (
            "FROM masks ORDER BY mask_id",
            "FROM outcomes ORDER BY image_id",
            "FROM images ORDER BY 1",
            "FROM summary",
        ):
            assert query(remote, sql).equals(query(local, sql))
        with pytest.raises(QueryError, match="it does not write"):
            query(remote, "COPY (SELECT 1) TO 'dataset://x.csv' (USE_TMP_FILE false)")
        client.delete_object(Bucket=bucket, Key=f"some/prefix/{layout.outcomes_key(rows.RUN, 0)}")
        assert query(remote, "SELECT image_id, seconds FROM outcomes").num_rows == 2  # small files are kept once read
    with pytest.raises(ValueError, match=f"s3://{bucket}/other is not a data set"):
        connect(f"s3://{bucket}/other", filesystem=store)
