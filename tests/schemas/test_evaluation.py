"""Names of an evaluation's files."""

import pytest

from schemas.evaluation import finished_shards, images_key, plan_key, rows_key


def test_only_committed_shards_count() -> None:
    keys = [images_key("edges-1", 12), rows_key("edges-1", 7), plan_key("edges-1"), "evaluation=edges-1/images/x"]
    assert keys[0] == "evaluation=edges-1/images/shard-00000012.parquet"
    assert finished_shards(keys) == {12}


def test_names_stay_below_the_root() -> None:
    with pytest.raises(ValueError, match="evaluation"):
        plan_key("../elsewhere")
