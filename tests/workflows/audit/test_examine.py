"""Shapes, coverage and duplicates of a data set against plain pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core.masks import rle
from schemas.ids import content_hash, image_id
from tests.workflows.audit.conftest import IMAGES, SIZE, Audited
from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.audit import examine as module
from workflows.audit.examine import SIZE_EDGES, Examined, comparable_strata, examine, stratified_concavity
from workflows.audit.subject import Subject, open_data_set


@pytest.fixture(scope="module")
def subject(audited: Audited) -> Subject:
    return open_data_set(f"{audited.root}@second")


@pytest.fixture(scope="module")
def bitmaps(subject: Subject) -> dict[str, list[NDArray[np.bool_]]]:
    """All masks of each image, in order."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for row in subject.rows("SELECT image_id, rle FROM audit_masks ORDER BY mask_id"):
        counts = row["rle"]
        assert isinstance(counts, bytes)
        found.setdefault(str(row["image_id"]), []).append(rle.decode(counts, SIZE))
    return found


def same(one: Examined, other: Examined) -> None:
    for name in Examined.__dataclass_fields__:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))


def test_coverage_is_the_share_of_pixels_in_any_mask(
    subject: Subject, bitmaps: dict[str, list[NDArray[np.bool_]]]
) -> None:
    found = examine(subject, images=100, seed=0, duplicate_iou=0.9)
    shares = [np.any(masks, axis=0).mean() for masks in bitmaps.values()]
    assert found.images == IMAGES - 1
    assert found.covered == pytest.approx(sum(shares))
    np.testing.assert_array_equal(found.coverage, np.histogram(shares, 20, (0, 1))[0])


def test_masks_count_in_the_stratum_of_their_size(subject: Subject) -> None:
    found = examine(subject, images=100, seed=0, duplicate_iou=0.9)
    areas = [int(str(row["area"])) for row in subject.rows("SELECT area FROM audit_masks")]
    expected = np.histogram(np.sqrt(np.array(areas) / (SIZE[0] * SIZE[1])), SIZE_EDGES)[0]
    assert (expected > 0).sum() >= 3
    np.testing.assert_array_equal(found.concavity.sum(axis=1), expected)


def test_duplicates_are_masks_with_a_twin_before_them(
    subject: Subject, bitmaps: dict[str, list[NDArray[np.bool_]]]
) -> None:
    def has_twin(masks: list[NDArray[np.bool_]], number: int) -> bool:
        ious = [(masks[number] & other).sum() / (masks[number] | other).sum() for other in masks[:number]]
        return max(ious, default=0) >= 0.9

    expected = sum(has_twin(masks, number) for masks in bitmaps.values() for number in range(len(masks)))
    assert expected > 10
    assert examine(subject, images=100, seed=0, duplicate_iou=0.9).duplicates == expected


def test_pieces_add_up_to_the_whole(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examine(subject, images=100, seed=0, duplicate_iou=0.9)
    monkeypatch.setattr(module, "_MASKS_AT_ONCE", 20)
    same(examine(subject, images=100, seed=3, duplicate_iou=0.9), whole)


def test_a_sample_is_drawn_by_its_seed(subject: Subject) -> None:
    assert subject.sample(4, 1) == subject.sample(4, 1)
    assert len({tuple(subject.sample(4, seed)) for seed in range(8)}) > 1
    assert examine(subject, images=4, seed=0, duplicate_iou=0.9).images == 4


def test_concavity_is_compared_where_all_have_enough() -> None:
    def examined(counts: list[int], concave: float) -> Examined:
        histogram = np.zeros((6, 25))
        histogram[:, int(concave * 25)] = counts
        return Examined(1, sum(counts), histogram, histogram.sum(axis=1) * concave, np.zeros(20), 0.0, 0)

    one, other = examined([500, 30, 0, 5, 0, 0], 0.1), examined([30, 500, 0, 50, 0, 0], 0.5)
    strata = comparable_strata([one, other])
    assert strata.tolist() == [True, True, False, False, False, False]
    assert stratified_concavity(one, strata)[1] == pytest.approx(0.1)
    assert stratified_concavity(other, strata)[0].sum() == pytest.approx(1)


def test_masks_of_an_image_without_a_size_are_not_its_neighbour_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As while a run on a manifest with hashes is going on."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    files = photos(tmp_path / "photos", 5, rng=rng)
    files.sort(key=lambda path: image_id(path.read_bytes()))
    unread = [{"height": None, "width": None, "stamp": content_hash(path.read_bytes())} for path in files]
    known = data.add_images(files, facts=[unread[n] if n in (1, 3) else {} for n in range(5)])
    data.add_run([done(each, boxes((24, 36), 4, rng=rng), rng=rng) for each in known], run_record())
    found = examine(open_data_set(str(data.root)), images=100, seed=0, duplicate_iou=0.9)
    assert (found.images, found.masks) == (3, 12)
    assert "left out: 2 images that were noted by hash" in capsys.readouterr().err
