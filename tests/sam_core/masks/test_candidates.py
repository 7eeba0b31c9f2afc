"""Candidates and the ledger that accounts for them."""

import numpy as np

from sam_core.masks import rle
from sam_core.masks.batch import Reason, StepSeconds
from sam_core.masks.candidates import KEPT, Ledger, Measures, concatenate, decoded, object_column, records


def two_prompts():
    points = np.array([[1.5, 2.5], [7.0, 8.0]])
    return decoded(points, np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32), (0, 0, 20, 10))


def test_each_output_of_each_prompt_is_a_candidate() -> None:
    candidates = two_prompts()
    assert candidates.points[:, 0].tolist() == [1.5] * 3 + [7.0] * 3
    assert candidates.output.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.isnan(candidates.stability_score).all()


def test_selection_orders_every_column() -> None:
    picked = two_prompts()[np.array([5, 0])]
    assert picked.output.tolist() == [2, 0]
    assert picked.predicted_iou.tolist() == np.float32([0.6, 0.1]).tolist()
    assert len(concatenate([picked, picked])) == 4


def test_ledger_balances() -> None:
    ledger = Ledger()
    verdicts = np.array([KEPT, KEPT, Reason.IOU.code, KEPT, Reason.AREA.code, KEPT], np.int8)
    kept = ledger.settle(two_prompts(), verdicts)
    kept = ledger.survivors(kept, np.array([3, 0]), Reason.NMS_IN_CROP)
    assert kept.predicted_iou.tolist() == np.float32([0.6, 0.1]).tolist()
    gone = ledger.rejections
    assert gone.reason.tolist() == [Reason.IOU.code, Reason.AREA.code, Reason.NMS_IN_CROP.code, Reason.NMS_IN_CROP.code]
    assert gone.output.tolist() == [2, 1, 1, 0]
    assert gone.points[0].tolist() == [1.5, 2.5]
    assert gone.crop_boxes[0].tolist() == [0, 0, 20, 10]


def test_accounts_add_up() -> None:
    parts = [Ledger(), Ledger()]
    for ledger in parts:
        ledger.settle(two_prompts(), np.full(6, Reason.IOU.code, np.int8))
        with ledger.timed("decode"):
            pass
    whole = Ledger()
    for part in parts:
        whole.add(part)
    assert whole.rejections.counts()[Reason.IOU] == 12
    assert whole.seconds.decode == parts[0].seconds.decode + parts[1].seconds.decode


def test_columns_of_references_keep_arrays_whole() -> None:
    column = object_column([np.array([1, 2]), np.array([3, 4])])
    assert column.shape == (2,)
    assert column[1].tolist() == [3, 4]
    assert object_column([]).shape == (0,)


def test_nothing_rejected_is_an_empty_table() -> None:
    ledger = Ledger()
    ledger.settle(two_prompts(), np.full(6, KEPT, np.int8))
    assert len(ledger.rejections) == 0
    assert set(ledger.rejections.counts().values()) == {0}


def test_time_adds_up_per_step() -> None:
    ledger = Ledger()
    with ledger.timed("encode"):
        pass
    once = ledger.seconds
    with ledger.timed("encode"):
        pass
    assert ledger.seconds.encode > once.encode > 0
    assert ledger.seconds == StepSeconds(encode=ledger.seconds.encode)


def test_records_count_pixels() -> None:
    measures = Measures(
        stability_score=np.full(6, 0.97, np.float32),
        areas=np.arange(6),
        boxes=np.tile(np.array([2, 3, 4, 3]), (6, 1)),
        runs=object_column([np.array([5, 195])] * 6),
    )
    candidates = decoded(np.zeros((2, 2)), np.zeros((2, 3), np.float32), (2, 0, 20, 10))
    result = records(candidates.measured(measures).encoded(), (10, 20))
    assert result.boxes[0].tolist() == [2, 3, 3, 1]
    assert result.crop_boxes[0].tolist() == [2, 0, 18, 10]
    assert result.areas.tolist() == [0, 1, 2, 3, 4, 5]
    assert result.rle == (rle.compress(np.array([5, 195])),) * 6
