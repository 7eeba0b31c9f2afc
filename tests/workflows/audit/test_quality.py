"""The quality protocol against what the corrections are known to be, and intervals against a bootstrap."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas.layout import annotations_key, events_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import ANNOTATIONS
from tests.workflows.audit.conftest import AUDITED, SIZE, Audited
from tests.workflows.audit.corrections import correct
from workflows.audit import quality
from workflows.audit.intervals import share
from workflows.audit.subject import open_data_set
from workflows.sql import connect
from workflows.storage import LocalStore


@pytest.fixture(scope="module")
def found(audited: Audited) -> quality.Quality:
    measured = quality.quality(open_data_set(f"{audited.root}@first"), target=0.9, target_iou=0.9)
    assert measured is not None
    return measured


def test_pairs_are_every_mask_of_finished_images(found: quality.Quality, audited: Audited) -> None:
    assert (found.images, found.masks) == (AUDITED, audited.masks)
    assert (found.deleted, found.added) == (audited.deleted, audited.added)
    np.testing.assert_allclose(np.sort(found.ious), np.sort(audited.ious), atol=1e-12)
    assert found.changed == (audited.ious < 1).sum()
    assert found.mean_iou == pytest.approx(audited.ious.mean())


def test_shares_count_deleted_masks_as_nothing(found: quality.Quality, audited: Audited) -> None:
    kept = audited.ious[audited.ious > 0]
    for (least, _), all_masks, without in zip(quality.PAPER, found.shares, found.kept_shares, strict=True):
        assert all_masks.value == pytest.approx((audited.ious > least).mean())
        assert without.value == pytest.approx((kept > least).mean())
        assert all_masks.low < (all_masks.value or 0) < all_masks.high


def test_parts_add_up_to_all(found: quality.Quality) -> None:
    for parts in (found.by_size, found.by_score, found.by_stability):
        assert sum(part.shares[0].masks for part in parts) == found.masks
        assert sum(part.shares[0].good for part in parts) == found.shares[0].good


def test_masks_are_in_the_part_of_their_size_and_of_their_score(audited: Audited) -> None:
    pairs = quality.pairs_of(open_data_set(f"{audited.root}@first")).slice(0, 5)
    areas = pa.array([32**2 - 1, 32**2, 96**2 - 1, 96**2, 96**2 + 1])
    pairs = pairs.set_column(pairs.column_names.index("area"), "area", areas)
    sized = quality.measure(pairs, added=0, target=0.9, target_iou=0.9).by_size
    assert [part.shares[0].masks for part in sized] == [1, 2, 2]
    score = np.arange(10) / 10
    groups = quality._score_groups(score)
    assert [score[chosen].tolist() for _, chosen in groups] == [[n / 10, (n + 1) / 10] for n in range(0, 10, 2)]
    assert [name for name, _ in groups] == ["0.00–0.18", "0.18–0.36", "0.36–0.54", "0.54–0.72", "0.72–0.90"]
    assert [(name, chosen.sum()) for name, chosen in quality._score_groups(np.full(3, 0.5))] == [("0.50–0.50", 3)]


def test_threshold_reaches_the_target_where_the_score_tells(audited: Audited) -> None:
    """A score that is the IoU itself: from 0.9 on all masks are good, and no lower threshold would do."""
    pairs = quality.pairs_of(open_data_set(f"{audited.root}@first"))
    known = np.where(pairs["deleted"].to_numpy(), 0, quality._ious(pairs)).astype(np.float32)
    pairs = pairs.set_column(pairs.column_names.index("predicted_iou"), "predicted_iou", [known])
    curve = quality.measure(pairs, added=0, target=1.0, target_iou=0.9).curves[0]
    assert curve.reaching is not None
    assert curve.reaching.share.value == 1
    assert curve.reaching.at == pytest.approx(known[known > 0.9].min())
    assert curve.surely is None  # eight images cannot say so


@pytest.mark.parametrize("masks", ["second", "annotations"])
def test_corrections_of_another_run_say_nothing(audited: Audited, masks: str) -> None:
    assert quality.quality(open_data_set(f"{audited.root}@{masks}"), target=0.9, target_iou=0.9) is None


def test_outlines_of_images_that_nobody_audited_are_not_read(audited: Audited) -> None:
    """Of 30 million masks they were 10 GB of memory, for the few hundred images that people correct."""
    subject = open_data_set(f"{audited.root}@first")
    seen = "SELECT image_id FROM annotation_revisions WHERE stage = 'audit'"
    masks = subject.masks_sql.replace("masks WHERE", f"masks WHERE image_id NOT IN ({seen}) AND")
    assert subject.rows(f"SELECT count(*) AS masks FROM {masks}")[0]["masks"]
    outlines = f"SELECT * REPLACE (if(image_id IN ({seen}), rle, error('an outline is read')::BLOB) AS rle)"
    subject.connection.execute(f"CREATE OR REPLACE TEMP VIEW audit_masks AS {outlines} FROM {subject.masks_sql}")
    assert len(quality.pairs_of(subject))


def test_an_image_of_which_some_masks_were_looked_at_does_not_count(audited: Audited, tmp_path: Path) -> None:
    """Such as one that another run was audited on, with a single mask of this one saved before it was left."""
    root = tmp_path / "data"
    shutil.copytree(audited.root, root)
    second = open_data_set(f"{root}@second")
    rows = second.shapes(audited.images[0], audited.images[0])
    one = connect(str(root)).sql(f"FROM masks WHERE mask_id = '{rows['mask_id'][0].as_py()}'").to_arrow_table()
    correct(LocalStore(root), one, {}, session="audit-2")
    assert len(rows) > 1
    assert quality.quality(open_data_set(f"{root}@second"), target=0.9, target_iou=0.9) is None
    before, after = (
        quality.quality(open_data_set(f"{place}@first"), target=0.9, target_iou=0.9) for place in (audited.root, root)
    )
    assert before is not None
    assert after is not None
    assert (before.images, before.masks, before.added) == (after.images, after.masks, after.added)


def test_the_last_correction_of_a_finished_image_counts(audited: Audited, tmp_path: Path) -> None:
    """One mask is corrected again, to nothing, and an image is looked at by somebody who never finishes it."""
    root = tmp_path / "data"
    shutil.copytree(audited.root, root)
    (first,) = (
        connect(str(root))
        .sql("FROM annotation_revisions WHERE stage = 'audit' AND source_mask_id IS NOT NULL ORDER BY mask_id LIMIT 1")
        .to_arrow_table()
        .to_pylist()
    )
    again = first | {"revision": 2, "deleted": True, "session": "later"}
    LocalStore(root).put(
        annotations_key("later", 1), to_parquet_bytes(pa.Table.from_pylist([again], schema=ANNOTATIONS))
    )
    image = audited.images[AUDITED]
    left = connect(str(root)).sql(f"FROM masks WHERE image_id = '{image}' AND run_id = '{audited.first}'")
    correct(LocalStore(root), left.to_arrow_table(), {}, session="left")
    LocalStore(root).delete(events_key("left", 1))
    before, after = (
        quality.quality(open_data_set(f"{place}@first"), target=0.9, target_iou=0.9) for place in (audited.root, root)
    )
    assert before is not None
    assert after is not None
    assert (after.images, after.masks, after.deleted) == (before.images, before.masks, before.deleted + 1)


def test_interval_is_that_of_a_bootstrap_over_images() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 120, 60)
    image = np.repeat(np.arange(60), sizes)
    good = rng.random(len(image)) < np.repeat(rng.beta(9, 2, 60), sizes)  # images differ in quality
    found = share(good, image)
    hits = np.bincount(image, weights=good)
    draws = rng.multinomial(60, np.full(60, 1 / 60), 4000)
    low, high = np.quantile((draws @ hits) / (draws @ sizes), [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.012), pytest.approx(high, abs=0.012))
    naive = share(good, np.arange(len(image)))
    assert naive.high - naive.low < 0.6 * (found.high - found.low)


def test_a_mask_that_was_added_before_the_page_was_loaded_again_counts(audited: Audited, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(audited.root, root)
    none = connect(str(root)).sql("FROM masks LIMIT 0").to_arrow_table()
    extra = np.zeros(SIZE, bool)
    extra[5:9, 5:9] = True
    correct(LocalStore(root), none, {}, added=[(audited.images[1], extra)], session="audit-0")
    found = quality.quality(open_data_set(f"{root}@first"), target=0.9, target_iou=0.9)
    assert found is not None
    assert found.added == audited.added + 1


def test_interval_of_a_perfect_score_counts_images() -> None:
    found = share(np.ones(900, bool), np.repeat(np.arange(30), 30))
    assert found.value == 1
    assert found.low == pytest.approx(30 / (30 + 1.959964**2))  # Wilson's bound for 30 of 30
