"""The ranking of proposals."""

import numpy as np
import pyarrow as pa

from sam_core.masks.batch import MaskRecords
from schemas.evaluation import PLAN, RECALL_ROWS
from workflows.evaluate.commands import ProposalsConfig
from workflows.evaluate.proposals import Proposals, rank_scores


def test_proposals_rank_by_the_mean_of_both_scores() -> None:
    nothing = np.zeros((3, 4), np.int64)
    found = MaskRecords(
        size=(1, 1),
        rle=(b"", b"", b""),
        boxes=nothing,
        areas=nothing[:, 0],
        predicted_iou=np.array([0.9, 0.5, 0.4], np.float32),
        stability_score=np.array([0.1, 0.9, np.nan], np.float32),
        points=np.zeros((3, 2), np.float32),
        crop_boxes=nothing.astype(np.int32),
    )
    np.testing.assert_allclose(rank_scores(found), [0.5, 0.7, 0.2], atol=1e-6)


def test_an_image_that_is_listed_twice_is_one_image() -> None:
    """As in a data set in which both a run and people have masks of it."""
    row = {"set": "a", "name": "1", "subset": "all", "proposals": 3, "true": 2, "found": [1] * 10}
    rows = pa.Table.from_pylist([row, row], RECALL_ROWS)
    figures = Proposals(ProposalsConfig(data=("a",))).figures(rows, PLAN.empty_table())
    assert {figure.figure: figure.value for figure in figures if figure.row == "a"} == {
        "all": 0.5,
        "masks": 4,
        "images": 1,
        "proposals/image": 3,
    }
