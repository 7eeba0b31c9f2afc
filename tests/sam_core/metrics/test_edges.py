"""Boundary matching against a search over all matchings, and the figures against small sums done by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_core.metrics.edges import EdgeCounts, count_edges, edge_figures, match_boundaries

Mask = np.ndarray


def matchings(pairs: list[tuple[int, int, float]]) -> Iterator[tuple[int, float]]:
    """Size and total distance of every one-to-one choice among the pairs."""
    yield 0, 0.0
    for place, (row, column, distance) in enumerate(pairs):
        rest = [pair for pair in pairs[place + 1 :] if pair[0] != row and pair[1] != column]
        for size, total in matchings(rest):
            yield size + 1, total + distance


def slow_best(predicted: Mask, true: Mask, radius: float) -> tuple[int, float]:
    """The largest size, and the least distance of that size."""
    ours, theirs = np.argwhere(predicted), np.argwhere(true)
    distances = (
        np.hypot(*(ours[:, None] - theirs).transpose(2, 0, 1)) if len(ours) and len(theirs) else np.empty((0, 0))
    )
    near = [(i, j, float(distances[i, j])) for i, j in np.argwhere(distances <= radius)]
    best = max(matchings(near), key=lambda found: (found[0], -found[1]))
    return best


@st.composite
def boundaries(draw: st.DrawFn) -> tuple[Mask, Mask]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    masks = np.zeros((2, 30), bool)
    for mask in masks:
        mask[rng.choice(30, rng.integers(0, 6), replace=False)] = True
    return masks[0].reshape(5, 6), masks[1].reshape(5, 6)


@given(boundaries(), st.sampled_from([1.0, 1.5, 2.3]))
@settings(max_examples=60, deadline=None)
def test_as_many_pairs_as_the_best_matching(both: tuple[Mask, Mask], radius: float) -> None:
    predicted, true = both
    pairs = match_boundaries(predicted, true, tolerance=(radius + 1e-9) / np.hypot(5, 6))
    size, _ = slow_best(predicted, true, radius)
    assert pairs.predicted.sum() == pairs.true.sum() == size
    assert not (pairs.predicted & ~predicted).any()
    assert not (pairs.true & ~true).any()


def test_of_equally_many_pairs_the_closest() -> None:
    predicted, true = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    predicted[0, [2, 5]], true[0, 3] = True, True  # the true pixel may go with either
    assert match_boundaries(predicted, true, tolerance=0.3).predicted[0, 2]


def test_a_pixel_serves_one_other_only() -> None:
    predicted, true = np.zeros((3, 5), bool), np.zeros((3, 5), bool)
    predicted[1], true[1, 2] = True, True
    assert match_boundaries(predicted, true, tolerance=0.5).predicted.sum() == 1


@pytest.mark.parametrize(("size", "most"), [((300, 400), 3), ((120, 160), 1)])
def test_lines_belong_together_within_075_percent_of_the_diagonal(size: tuple[int, int], most: int) -> None:
    for apart, pairs in ((most, size[0]), (most + 1, 0)):
        line, other = np.zeros((2, *size), bool)
        line[:, 50] = other[:, 50 + apart] = True
        assert match_boundaries(line, other).predicted.sum() == pairs


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) px \(h, w\) against truth of \(3, 2\)"):
        match_boundaries(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_counts_of_a_line_beside_two_people() -> None:
    edges = np.zeros((200, 100), np.float32)
    edges[50, 10:30], edges[100, 10:30] = 0.9, 0.3  # 20 px right, 20 px that nobody drew
    one, other = np.zeros((200, 100), bool), np.zeros((200, 100), bool)
    one[51, 10:30], other[150, 10:20] = True, True
    counts = count_edges(edges, [one, other], np.array([0.2, 0.5, 0.95]))
    assert counts.predicted.tolist() == [40, 20, 0]
    assert counts.matched_predicted.tolist() == [20, 20, 0]
    assert counts.matched_true.tolist() == [20, 20, 0]
    assert counts.true.tolist() == [30, 30, 30]
    with pytest.raises(ValueError, match="nobody drew"):
        count_edges(edges, [])


def counts(*columns: list[int]) -> EdgeCounts:
    return EdgeCounts(*(np.array(column, np.int64) for column in columns))


def test_figures_by_hand() -> None:
    first = counts([50, 40], [100, 40], [50, 40], [100, 100])  # P .5, 1; R .5, .4; F .5, .571
    other = counts([90, 10], [100, 10], [90, 10], [100, 100])  # P .9, 1; R .9, .1; F .9, .18
    found = edge_figures([first, other], np.array([0.3, 0.6]))
    assert found.ods == pytest.approx(0.7, abs=0.01)  # at the first threshold P = R = 140 / 200
    assert found.threshold == pytest.approx(0.3, abs=0.01)
    precision, recall = 130 / 140, 130 / 200  # each at its own best
    assert found.ois == pytest.approx(2 * precision * recall / (precision + recall))
    # R .25 (P 1) to .7 (P .7), one line; nothing beyond
    places = np.linspace(0, 1, 101)
    inside = places[(places >= 0.25) & (places <= 0.7)]
    assert found.ap == pytest.approx((1 - (inside - 0.25) / 0.45 * 0.3).sum() * 0.01)
    assert found.r50 == pytest.approx(0.7)
    with pytest.raises(ValueError, match="no images"):
        edge_figures([])


def test_recall_at_half_precision_lies_between_thresholds() -> None:
    one = counts([40, 60], [200, 60], [80, 60], [100, 100])  # P .2, 1; R .8, .6
    assert edge_figures([one], np.array([0.3, 0.6])).r50 == pytest.approx(0.6 + 0.2 * 0.5 / 0.8)


def test_nothing_found_scores_nothing() -> None:
    found = edge_figures([counts([0], [0], [0], [10])], np.array([0.5]))
    assert (found.ods, found.ois, found.ap, found.r50) == (0, 0, 0, 0)


def test_a_person_agrees_with_himself(sample_data: Callable[[str], Path]) -> None:
    path = min((sample_data("bsds500") / "ground_truth" / "val").glob("*.mat"))
    drawn = scipy.io.loadmat(path)["groundTruth"][0, 0]["Boundaries"][0, 0].astype(bool)
    pairs = match_boundaries(drawn, drawn)
    np.testing.assert_array_equal(pairs.predicted, drawn)
    shifted = match_boundaries(np.roll(drawn, 2, 1), drawn)
    assert 0.97 < shifted.true.sum() / drawn.sum() <= 1
