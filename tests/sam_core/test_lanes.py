"""Lanes: order, errors, and masks that depend neither on the number of cores nor on what ran before."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.data import chelsea

from sam_core.generator import MaskGenerator
from sam_core.lanes import open_lanes
from sam_core.masks.batch import Generation
from sam_core.model.checkpoint import load_model
from sam_core.recipes import draft


@pytest.fixture(params=[2, 3])
def threads_of_torch(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected() -> Generation:
    return masks(threads=1, exact_reference=False)


@pytest.fixture(scope="module")
def expected_plain() -> Generation:
    return masks(threads=1, exact_reference=True)


def masks(*, threads: int | None, exact_reference: bool) -> Generation:
    recipe = replace(draft(), points_per_side=5, crop_layers=1, min_predicted_iou=0.1, min_stability_score=0.3)
    generator = MaskGenerator(load_model("vit_n").sam, recipe, threads=threads, exact_reference=exact_reference)
    return generator.generate(chelsea())


def same(one: Generation, other: Generation) -> bool:
    """To the last bit, the scores too."""
    scores = [np.array_equal(one.masks.predicted_iou, other.masks.predicted_iou)]
    return one.masks.rle == other.masks.rle and all(scores)


def test_masks_do_not_depend_on_threads(threads_of_torch: int, expected: Generation) -> None:
    assert len(expected.masks) > 10
    assert same(masks(threads=None, exact_reference=False), expected)
    assert same(masks(threads=2, exact_reference=False), expected)
    assert torch.get_num_threads() == threads_of_torch


def test_masks_of_the_plain_path_do_not_either(threads_of_torch: int, expected_plain: Generation) -> None:
    assert same(masks(threads=None, exact_reference=True), expected_plain)


def test_a_device_that_is_no_cpu_has_one_lane_the_caller() -> None:
    with open_lanes(torch.device("meta"), 4) as lanes:
        assert list(lanes.map(lambda _: threading.get_ident(), range(3))) == [threading.get_ident()] * 3
        failed = lanes.submit(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        failed.result()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_freed_memory_is_kept_by_the_process() -> None:
    """Counted by the pages that the system must clear when the same blocks are asked for again, in a new process."""
    code = """
import resource
import numpy as np
from sam_core.lanes import keep_freed_memory

def cleared(numbers):
    def work():
        return [np.ones(numbers, np.float32) for _ in range(3)]
    work(), work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [cleared(7 << 20)]
keep_freed_memory()
found += [cleared(7 << 20), cleared(16 << 20)]
keep_freed_memory(any_size=True)
print(*found, cleared(16 << 20))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    by_default, kept, large, large_for_training = map(int, done.stdout.split())
    assert kept < 100 < by_default
    assert large_for_training < 100 < large
