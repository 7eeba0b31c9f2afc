"""What SQL on a data set may not do, and what it says where it fails."""

from __future__ import annotations  # evaluated ones would keep DuckDB's types alive at exit, which it reports

from contextlib import nullcontext
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from schemas import layout
from schemas.catalog import QueryError, connect, query, told_by_files
from schemas.tables import RELATIONS
from tests.schemas import rows
from tests.schemas.conftest import answer

FORBIDDEN = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "COPY (SELECT 1) TO '{root}/stolen.csv'",
    "COPY (SELECT 1) TO '{root}/stolen.csv' (FORMAT csv, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{masks}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO 'dataset://{key}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO 'dataset://new.csv' (FORMAT csv, USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1) TO 'dataset://{key}' (FORMAT csv, USE_TMP_FILE false)) FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'dataset://{key}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPORT DATABASE '{root}/export'",
    "ATTACH '{root}/other.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM parquet_schema('s3://bucket/x.parquet')",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "CREATE TABLE stolen AS FROM read_text('/etc/passwd')",
    "COPY masks TO '/dev/stdout' (FORMAT csv)",
    "CREATE TABLE t (a VARCHAR); COPY t FROM '/etc/passwd'",
    "IMPORT DATABASE '/etc'",
    "ATTACH '/etc/passwd' AS x (TYPE sqlite)",
    "LOAD '{root}/evil.duckdb_extension'",
    "INSTALL '{root}/evil.duckdb_extension'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "SET temp_directory = '{root}'",
    "SET home_directory = '/tmp'",
    "SET secret_directory = '/tmp'",
    "SET extension_directory = '/tmp'",
    "SET autoload_known_extensions = true",
    "SET custom_extension_repository = 'http://169.254.169.254/'",
    "SET http_proxy = 'http://127.0.0.1:1'",
    "SET log_query_path = '{root}/log'",
    "SET python_enable_replacements = true",
    "PRAGMA enable_profiling; PRAGMA profiling_output = '{root}/profile'",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret_table",
    "SELECT * FROM duckdb_secrets()",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_sql_reaches_nothing_but_the_data_set(root: Path, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    secret_table = pa.table({"password": ["hunter2"]})
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    key = layout.masks_key(rows.RUN, 0)
    place = str(root).replace("'", "''")
    with pytest.raises(QueryError) as caught:
        query(connection, sql.format(root=place, masks=f"{place}/{key}", key=key))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert secret_table.num_rows == 1


def test_other_files_of_the_data_set_do_not_exist(connection: duckdb.DuckDBPyConnection) -> None:
    assert answer(connection, "SELECT * FROM read_text('dataset://dataset.json')") == []
    refuses_dots = [int(part) for part in duckdb.__version__.split(".")[:3]] > [2, 0, 0]
    for path in ("/etc/passwd", "../secret", "masks/../../secret"):
        refused = pytest.raises(QueryError, match="Cannot access file")
        with refused if refuses_dots and ".." in path[1:] else nullcontext():
            assert answer(connection, f"SELECT * FROM read_text('dataset://{path}')") == []
    unfinished = layout.masks_key(rows.RUN, 2)
    assert answer(connection, f"SELECT * FROM glob('dataset://{unfinished}')") == []


def test_what_is_written_anew_while_it_is_asked_for_is_said_in_words(root: Path) -> None:
    """`relate` and `tag` replace files under their names; such bytes mean nothing with the footer of before."""
    key, row = layout.relations_key(rows.RUN, 0), {"run_id": rows.RUN, "image_id": rows.image("a"), "mask_id": "m"}
    row |= {"depth": 0, "parts": 0, "containment": 0.9, "duplicate_threshold": 0.9}
    table = pa.Table.from_pylist([row], schema=RELATIONS)
    rows.put(root, key, table)
    connection = connect(root)
    rows.put(root, key, pa.Table.from_pylist([row, row | {"mask_id": "another mask"}], schema=RELATIONS))
    with pytest.raises(QueryError, match=f"^{key}: another command has written it anew just now; ask again$"):
        query(connection, "SELECT * FROM relations")


def test_what_files_complain_of_is_told_apart_from_bugs(root: Path) -> None:
    """By those who ask a connection itself, to whom DuckDB shows a traceback."""
    connection = connect(root)
    key = next(path for path in root.glob("images/*.parquet")).relative_to(root).as_posix()
    whole = (root / key).read_bytes()
    (root / key).unlink()
    with pytest.raises(duckdb.Error) as caught:
        connection.execute("SELECT count(height) FROM images")
    assert key in (told_by_files(caught.value) or "")
    (root / key).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(duckdb.Error) as caught:
        connect(root).execute("SELECT count(height) FROM images")
    assert "No magic bytes found at end of file" in (told_by_files(caught.value) or "")
    asked = duckdb.Error("Traceback (most recent call last):\n  File 1\nworkflows.storage.StoreError: busy: wait")
    assert told_by_files(asked) == "busy: wait"
    wrong = duckdb.BinderException("no column\n\nLINE 1: FROM read_parquet('dataset://images/*')")
    bug = "Traceback (most recent call last):\nKeyError: 1"
    quoted = duckdb.Error(f"{bug}\n\nLINE 1: FROM masks_of('a')\n    ^^^^")
    for other in (duckdb.Error(bug), quoted, wrong, KeyError("dataset://")):
        assert told_by_files(other) is None


def test_a_file_that_is_gone_while_files_are_chosen_is_named(root: Path) -> None:
    """DuckDB then quotes the statement behind the traceback."""
    connection = connect(root)
    (shard, *_) = sorted(root.glob("masks/run=*/*.parquet"))
    shard.unlink()
    with pytest.raises(duckdb.Error) as caught:
        connection.execute("SELECT mask_id FROM masks_of('a')")
    assert shard.name in (told_by_files(caught.value) or "")


def test_complaints_are_one_line(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match=r'Table with name mask does not exist! Did you mean "masks"\?$'):
        query(connection, "SELECT *\nFROM mask")
    with pytest.raises(QueryError, match='syntax error at or near "SELEC"'):
        query(connection, "SELEC 1")
    assert query(connection, "SET threads = 1").num_rows == 0


def test_a_connection_can_go_on_after_a_complaint(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError):
        query(connection, "SELECT nonsense")
    assert answer(connection, "SELECT count(*) FROM outcomes") == [(5,)]


def test_one_image_of_a_torn_file(root: Path) -> None:
    with connect(root) as connection:
        (shard, *_) = sorted(root.glob("masks/run=*/*.parquet"))
        shard.write_bytes(shard.read_bytes()[:-9])
        with pytest.raises(QueryError, match=shard.name):
            query(connection, f"FROM masks_of('{rows.image('a')}')")
