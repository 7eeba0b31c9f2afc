"""A data set by SQL: every view against what was written."""

from __future__ import annotations  # evaluated ones would keep DuckDB's types alive at exit, which it reports

import json
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas import layout
from schemas.catalog import connect, query
from schemas.records import ModelRecord, RoundRecord, to_json
from schemas.tables import ANNOTATIONS, EVENTS, MASKS, OUTCOMES
from tests.schemas import rows
from tests.schemas.conftest import OTHER_RUN, answer


def test_an_empty_data_set_has_every_view(tmp_path: Path) -> None:
    with connect(rows.new_dataset(tmp_path)) as connection:
        for view in (
            "images",
            "masks",
            "outcomes",
            "annotations",
            "events",
            "models",
            "runs",
            "rounds",
            "round_summary",
            "round_queue",
            "round_data",
            "summary",
            "problems",
        ):
            assert query(connection, f"FROM {view}").num_rows == 0
        types = dict(
            zip(*query(connection, "DESCRIBE masks").select(["column_name", "column_type"]).columns, strict=True)
        )
        types = {name.as_py(): kind.as_py() for name, kind in types.items()}
    assert list(types) == MASKS.names
    assert {types[name] for name in ("mask_id", "run_id", "stage")} == {"VARCHAR"}
    assert (types["rle"], types["area"], types["bbox_x"], types["point_x"]) == ("BLOB", "BIGINT", "INTEGER", "FLOAT")
    assert types["created_at"] == "TIMESTAMP"


@pytest.mark.parametrize(("view", "schema"), [("masks", MASKS), ("events", EVENTS)])
def test_views_have_the_columns_of_their_tables(
    connection: duckdb.DuckDBPyConnection, view: str, schema: pa.Schema
) -> None:
    assert query(connection, f"FROM {view} LIMIT 0").column_names == schema.names
    assert query(connection, "FROM outcomes LIMIT 0").column_names == [*OUTCOMES.names, "seconds"]
    shown = query(connection, "FROM annotations LIMIT 0").column_names
    assert shown == [name for name in ANNOTATIONS.names if name != "deleted"]


@pytest.mark.parametrize("view", ["images", "masks", "outcomes", "annotations", "events", "models", "runs", "rounds"])
def test_no_column_needs_quotes(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    columns = query(connection, f"FROM {view} LIMIT 0").column_names
    assert query(connection, f"SELECT {', '.join(columns)} FROM {view} LIMIT 0").column_names == columns


def test_masks_of_committed_shards_only(root: Path, connection: duckdb.DuckDBPyConnection) -> None:
    files = [root / layout.masks_key(rows.RUN, 0), root / layout.masks_key(OTHER_RUN, 0)]
    plain = duckdb.sql(
        f"SELECT mask_id, rle, run_id FROM read_parquet({[str(f) for f in files]}) ORDER BY 1"
    ).fetchall()
    assert answer(connection, "SELECT mask_id, rle, run_id FROM masks ORDER BY 1") == plain
    assert answer(connection, f"SELECT count(*), min(run_id) FROM masks WHERE run_id = '{rows.RUN}'") == [(8, rows.RUN)]
    assert answer(connection, "SELECT count(*) FROM masks WHERE run_id = 'none'") == [(0,)]


def test_a_connection_is_a_snapshot(root: Path, connection: duckdb.DuckDBPyConnection) -> None:
    rows.put_shard(root, 2, {"e": 7})
    assert answer(connection, "SELECT count(*) FROM masks") == [(12,)]
    with connect(root) as later:
        assert answer(later, "SELECT count(*) FROM masks") == [(19,)]


def test_summary_has_a_line_per_run(connection: duckdb.DuckDBPyConnection) -> None:
    by_run = {row["run_id"]: row for row in query(connection, "FROM summary").to_pylist()}
    ours, other = by_run[rows.RUN], by_run[OTHER_RUN]
    assert (ours["model"], ours["model_id"], ours["recipe"]) == ("vit_test", "vit_test-0", "reference")
    assert (other["model"], other["model_id"]) == (None, None)
    assert (ours["images"], ours["errors"], ours["crashed"], ours["masks"]) == (3, 1, 0, 8)
    assert ours["masks_per_image"] == pytest.approx(8 / 3, abs=0.05)
    scores = [0.9 + index / 1000 for index in (*range(3), *range(5))]
    assert ours["mean_predicted_iou"] == pytest.approx(np.mean(scores), abs=6e-4)
    assert ours["mean_stability"] == 0.96
    assert ours["seconds_per_image"] == pytest.approx(8 * 0.5)  # of those that are done, the failed one took less
    assert (other["images"], other["masks"], other["masks_per_image"]) == (1, 4, 4.0)


def test_a_run_that_has_done_nothing_is_in_the_summary(tmp_path: Path) -> None:
    rows.put(rows.new_dataset(tmp_path), layout.run_key(rows.RUN), to_json(rows.run_record()))
    with connect(tmp_path) as connection:
        assert answer(connection, "SELECT run_id, images, masks, masks_per_image FROM summary") == [
            (rows.RUN, 0, 0, None)
        ]


def test_what_a_query_spills_lies_in_the_temporary_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "here").mkdir()
    (root / "temporary").mkdir()
    monkeypatch.chdir(root / "here")
    monkeypatch.setattr("tempfile.tempdir", str(root / "temporary"))
    with connect(root) as connection:
        connection.execute("SET memory_limit = '40MB'; SET threads = 1")
        connection.execute("SELECT hash(range), range::VARCHAR FROM range(1_500_000) ORDER BY 1").fetchone()
        assert not list((root / "here").iterdir())
        assert list((root / "temporary").iterdir())
    assert not list((root / "temporary").iterdir())


def test_metadata_that_are_no_json_cost_no_other_image(root: Path) -> None:
    rows.put(root, layout.images_key("1b"), rows.images([("a", "x/a.png")], metadata='{"link": "***">me"}'))
    rows.put(root, layout.images_key("1c"), rows.images([("b", "x/b.png")], metadata='{"link": "***"}'))
    with connect(root) as connection:
        found = dict(answer(connection, "SELECT image_id, metadata FROM images WHERE uri IN ('x/a.png', 'x/b.png')"))
        assert found == {rows.image("a"): None, rows.image("b"): '{"link": "***"}'}


def test_an_image_is_shown_once_with_all_its_places(root: Path) -> None:
    rows.put(root, layout.images_key("1b"), rows.images([("a", "x/a.png"), ("b", "w/copy of b.png")], licence="CC0"))
    rows.put(
        root, layout.images_key("1c"), rows.images([("a", "x/a.png")], licence="CC-BY", metadata='{"caption": "a cat"}')
    )
    with connect(root) as connection:
        assert answer(connection, "SELECT count(*), count(DISTINCT image_id) FROM images") == [(4, 4)]
        a, b = rows.image("a"), rows.image("b")
        assert answer(connection, f"SELECT uri, uris, licence FROM images WHERE image_id = '{b}'") == [
            ("w/copy of b.png", ["w/copy of b.png", "x/b.png"], "CC0")
        ]
        assert answer(connection, f"SELECT metadata ->> 'caption', height FROM images WHERE image_id = '{a}'") == [
            ("a cat", 40)
        ]
        assert answer(connection, "SELECT count(*) FROM masks JOIN images USING (image_id)") == [(12,)]


def test_the_newest_word_about_a_place_counts(root: Path) -> None:
    later = rows.NAIVE_START + timedelta(days=1)
    for part, licence, said in (("1b", "all rights reserved", later), ("1c", "CC0", rows.NAIVE_START)):
        rows.put(root, layout.images_key(part), rows.images([("z", "z.png")], licence=licence, ingested_at=said))
    for _ in range(20):  # DuckDB's threads meet equal rows in any order
        with connect(root) as connection:
            assert answer(connection, f"SELECT licence FROM images WHERE image_id = '{rows.image('z')}'") == [
                ("all rights reserved",)
            ]


def test_annotations_show_the_latest_revision(root: Path) -> None:
    first, second = rows.discs(2)
    rows.put(root, layout.annotations_key("s1", 1), rows.annotation("m", 1, first))
    rows.put(root, layout.annotations_key("s1", 2), rows.annotation("n", 1, first))
    rows.put(root, layout.annotations_key("s2", 1), rows.annotation("m", 2, second, annotator="bob"))
    rows.put(root, layout.annotations_key("s2", 2), rows.annotation("n", 2, first, deleted=True))
    with connect(root) as connection:
        shown = answer(connection, "SELECT mask_id, revision, annotator, area FROM annotations")
    assert shown == [("m", 2, "bob", int(second.sum()))]


def test_events_models_and_rounds(root: Path) -> None:
    event = {"session": "s", "sequence": 1, "annotator": "ada", "stage": "audit", "action": "click", "active": 1.5}
    rows.put(
        root,
        layout.events_key("s", 1),
        pa.Table.from_pylist([event | {"happened_at": rows.NAIVE_START}], schema=EVENTS),
    )
    model = ModelRecord(
        model_id="m-0",
        name="m",
        sha256="0",
        created_at=rows.START,
        parent=None,
        round=1,
        training={},
        metrics={"miou": 0.5},
    )
    rows.put(root, layout.model_card_key("m-0"), to_json(model))
    state = RoundRecord(
        number=1, stage="automatic", state="done", started_at=rows.START, finished_at=rows.START, model_before="m-0",
        model_after=None, promoted=False, reason="worse", metrics={}, details={},
    )  # fmt: skip
    rows.put(root, layout.round_key(1), to_json(state))
    with connect(root) as connection:
        assert answer(connection, "SELECT action, happened_at FROM events") == [("click", rows.NAIVE_START)]
        assert answer(connection, "SELECT (metrics ->> 'miou')::DOUBLE FROM models") == [(0.5,)]
        assert answer(connection, "SELECT number, promoted, reason, finished_at FROM rounds") == [
            (1, False, "worse", rows.NAIVE_START)
        ]
        assert answer(connection, "SELECT (recipe ->> 'points_per_side')::INT FROM runs") == [(32,)]


def test_problems_find_what_is_not_sound(root: Path, connection: duckdb.DuckDBPyConnection) -> None:
    assert answer(connection, "FROM problems") == []
    rows.put_shard(root, 3, {"a": 2})
    rows.put(root, layout.outcomes_key(rows.RUN, 4), rows.outcomes({rows.image("z"): 1}, shard=4))
    rows.put(root, layout.masks_key(rows.RUN, 4), MASKS.empty_table())
    with connect(root) as damaged:
        found = set(answer(damaged, "FROM problems"))
    assert found == {
        ("done more than once", rows.RUN, rows.image("a")),
        ("masks other than its outcome says", rows.RUN, rows.image("a")),
        ("masks other than its outcome says", rows.RUN, rows.image("z")),
        ("not in images", rows.RUN, rows.image("z")),
    }


def test_macros(connection: duckdb.DuckDBPyConnection) -> None:
    masks = query(connection, "FROM masks")
    expected = pc.sqrt(pc.divide(pc.cast(masks["area"], pa.float64()), 40.0 * 60.0)).to_pylist()
    found = query(connection, "SELECT relative_size(area, height, width) AS r FROM masks")["r"].to_pylist()
    assert sorted(found) == pytest.approx(sorted(expected))
    sizes = "SELECT size_class(area) FROM (VALUES (1023), (1024), (9215), (9216)) AS t(area)"
    assert answer(connection, sizes) == [("small",), ("medium",), ("medium",), ("large",)]
    inside = "SELECT box_holds(2, 3, 4, 5, x, y) FROM (VALUES (2, 3), (5.9, 7.9), (6, 4), (1.9, 4)) AS t(x, y)"
    assert answer(connection, inside) == [(True,), (True,), (False,), (False,)]
    image = rows.image("a")
    assert (
        len(answer(connection, f"FROM masks_of('{image}')"))
        == len(answer(connection, f"FROM masks_of('{image[:9]}')"))
        == 7
    )
    assert query(connection, f"FROM masks_of('{image}')").schema == masks.schema
    assert query(connection, f"FROM masks_of('{image}')").equals(
        query(connection, f"FROM masks WHERE image_id = '{image}' ORDER BY mask_id")
    )
    assert len(connection.execute("FROM masks_of(?)", [image]).fetchall()) == 7
    assert answer(connection, "FROM masks_of('')") == answer(connection, "FROM masks ORDER BY mask_id")
    assert (
        answer(connection, "FROM masks_of('no such image')")
        == answer(connection, "FROM masks_of(image := 'f#*')")
        == []
    )


def test_results_are_whole_tables(connection: duckdb.DuckDBPyConnection) -> None:
    table = query(connection, "SELECT recipe, config FROM runs")
    assert json.loads(table["config"][0].as_py()) == {"source": "samples", "limit": None}
