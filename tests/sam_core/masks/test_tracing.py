"""Both tracers, in plain torch and in Triton, against the plain path: every number and every run equal."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_core.geometry import Frame, frame_of
from sam_core.masks import plain
from sam_core.masks.tracing import CHANGED, Notes, TorchTracer, Tracer, measures, run_lengths
from tests.sam_core.masks.test_kernels import blobs

SIDE = 32
FRAMES = (
    frame_of((70, 61), image_size=128),
    frame_of((90, 50), image_size=128, crop_box=(7, 0, 50, 90)),  # of full height, up to the last column
    frame_of((90, 150), image_size=128, crop_box=(20, 30, 120, 90)),  # at the foot of the image
    frame_of((90, 150), image_size=128, crop_box=(0, 0, 100, 60)),
    frame_of((90, 50), image_size=128, crop_box=(3, 0, 43, 90)),  # of full height, inside
    frame_of((3, 200), image_size=128),
)
Make = Callable[[Sequence[Frame], float], Tracer]


class OnDevice:
    """A tracer that is handed tensors on the CPU, and answers with such."""

    def __init__(self, tracer: Tracer, device: torch.device) -> None:
        self._tracer, self._device = tracer, device

    def notes(self, logits: Tensor, crops: Tensor) -> Notes:
        found = self._tracer.notes(logits.to(self._device), crops.to(self._device))
        return Notes(*(each.cpu() for each in found))

    def changes(self, logits: Tensor, crops: Tensor, notes: Notes, total: int) -> Tensor:
        there = Notes(*(each.to(self._device) for each in notes))
        found = self._tracer.changes(logits.to(self._device), crops.to(self._device), there, total)
        return found.cpu()


@pytest.fixture(params=["torch", "triton"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a tracer."""
    if request.param == "torch":
        return lambda frames, offset: TorchTracer(frames, offset=offset)
    device = request.getfixturevalue("kernel_device")
    from sam_core.masks.triton_tracing import TritonTracer

    return lambda frames, offset: OnDevice(TritonTracer(frames, offset=offset, low_res=SIDE, device=device), device)


def compare(make: Make, logits: Tensor, crops: Sequence[int], *, offset: float = 1.0) -> None:
    """Masks in several frames, looked at together, against each by itself."""
    tracer, of = make(FRAMES, offset), torch.tensor(crops)
    notes = tracer.notes(logits, of)
    changes = tracer.changes(logits, of, notes, int(notes.of_mask[:, CHANGED].sum()))
    pixels = np.array([np.prod(FRAMES[crop].original_size) for crop in crops])
    runs = run_lengths(changes.numpy(), notes.of_mask[:, CHANGED].numpy(), pixels)
    assert notes.of_mask.dtype == torch.int64
    for k, crop in enumerate(crops):
        frame = FRAMES[crop]
        ours = measures(notes.of_mask[k : k + 1].numpy(), frame)
        theirs = plain.measure(logits[k : k + 1], frame, offset=offset)
        assert ours.stability_score.tolist() == theirs.stability_score.tolist()
        assert ours.stability_score.dtype == theirs.stability_score.dtype
        assert ours.areas.tolist() == theirs.areas.tolist()
        assert ours.boxes.tolist() == theirs.boxes.tolist()
        assert runs[k].tolist() == theirs.runs[0].tolist()
        assert runs[k].dtype == theirs.runs[0].dtype


@pytest.mark.parametrize("mean", [-6.0, 0.0, 6.0], ids=["sparse", "half", "dense"])
def test_smooth_masks(make: Make, mean: float) -> None:
    compare(make, blobs(6, grid=5, seed=0, mean=mean, side=SIDE), [0, 1, 2, 3, 4, 5])


def test_noise(make: Make) -> None:
    compare(make, torch.randn(4, SIDE, SIDE), [0, 1, 2, 4], offset=0.3)


@pytest.mark.parametrize("value", [-9.0, -0.5, 0.0, 0.5])
def test_constant_logits(make: Make, value: float) -> None:
    """Empty, between thresholds, at a threshold, and everything."""
    compare(make, torch.full((4, SIDE, SIDE), value), [0, 1, 2, 4])


def test_bars_that_touch_borders_join_into_one_run(make: Make) -> None:
    """Full-height bars run on from column to column; a bar at the foot and one at the top meet in the next column."""
    logits = torch.full((4, SIDE, SIDE), -9.0)
    logits[0, :, 6:12] = 9.0
    logits[1, 16:, 3:6] = 9.0
    logits[1, :10, 6:9] = 9.0
    logits[2, :, 10:] = 9.0
    logits[3, 20:, 4:8] = 9.0
    compare(make, logits, [1, 1, 1, 4])


def test_several_masks_in_one_frame(make: Make) -> None:
    compare(make, blobs(5, grid=4, seed=2, mean=0.0, side=SIDE), [1, 1, 1, 3, 3])


def test_no_masks(make: Make) -> None:
    tracer, none = make(FRAMES, 1.0), torch.empty(0, dtype=torch.int64)
    notes = tracer.notes(torch.empty(0, SIDE, SIDE), none)
    assert notes.of_mask.shape == (0, 8)
    assert tracer.changes(torch.empty(0, SIDE, SIDE), none, notes, 0).tolist() == []
