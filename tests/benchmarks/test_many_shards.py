"""The data sets of many small shards are sound."""

from pathlib import Path

from tests.benchmarks.many_shards import IMAGES_PER_SHARD, MASKS_PER_IMAGE, make
from workflows.plans import planned_shards
from workflows.sql import connect
from workflows.storage import LocalStore


def test_two_shards_with_their_pictures(tmp_path: Path) -> None:
    root = make(tmp_path, 2)
    connection = connect(root)
    assert connection.sql("FROM problems").fetchall() == []
    ((masks,),) = connection.sql("SELECT count(*) FROM masks").fetchall()
    assert masks == 2 * IMAGES_PER_SHARD * MASKS_PER_IMAGE
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2 * IMAGES_PER_SHARD
    ((run_id,),) = connection.sql("SELECT run_id FROM runs").fetchall()
    assert planned_shards(LocalStore(root), run_id) == {0: IMAGES_PER_SHARD, 1: IMAGES_PER_SHARD}
