"""Draws of images: seeded, in order, and as many as hold enough masks."""

from __future__ import annotations

from pathlib import Path

from workflows.evaluate.sampling import Cut, draw_images
from workflows.evaluate.truth import open_set


def test_a_draw_depends_on_the_seed(labelled: Path) -> None:
    truth = open_set(str(labelled))
    draws = [draw_images(truth, seed=seed, limit=2)["name"].to_pylist() for seed in range(10)]
    assert draws[3] == draw_images(truth, seed=3, limit=2)["name"].to_pylist() == sorted(draws[3])
    assert len(set(map(tuple, draws))) > 3
    assert draw_images(truth, seed=0).equals(truth.rows)


def test_only_large_sets_are_cut_down(labelled: Path) -> None:
    truth = open_set(str(labelled))  # five images of three masks
    assert len(draw_images(truth, seed=0, cut=Cut(most=15, enough=4))) == 5
    assert len(draw_images(truth, seed=0, cut=Cut(most=14, enough=4))) == 2
    assert len(draw_images(truth, seed=0, cut=Cut(most=5, enough=3))) == 1
