"""The exported decoder run by ONNX Runtime: what a browser runs, for clients that cannot."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from sam_core.export_onnx import OnnxDecoder
from sam_core.geometry import Frame, boxes_to_input, points_to_input
from sam_core.honour import moved_by_clicks
from sam_core.masks.candidates import Measures
from sam_core.masks.kernels import measure
from sam_core.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NOT_A_POINT
from sam_core.predict import ImageEmbedding
from sam_core.windows import box_of, inside
from workflows.annotate.contract import Prompt

Tensors = dict[str, NDArray[np.generic]]
_MASK_LOGIT = 8.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one prompt: logits float32 [4, s, s] of the frame's window, iou float32 [4]; `single`
    chooses among them.

    note: what was not taken as given.
    """

    logits: NDArray[np.float32]
    iou: NDArray[np.float32]
    single: bool
    frame: Frame
    note: str | None = None

    @property
    def order(self) -> list[int]:
        """Three outputs, best first: 1 to 3 by predicted IoU for a single prompt, else output 0 and the best others."""
        ranked = sorted((1, 2, 3), key=lambda output: -float(self.iou[output]))
        return ranked if self.single else [0, *ranked[:2]]

    def measures(self) -> Measures:
        """The masks of `order` in the image's own pixels, empty outside of the window."""
        return measure(torch.from_numpy(self.logits[self.order]), self.frame, offset=0.0)


class Decoder:
    """Answers prompts on embedded images. Safe to use from several threads."""

    def __init__(self, graphs: OnnxDecoder, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch's threads: `workflows`
        options.log_severity_level = 3
        self._sessions = [
            onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            for graph in (graphs.prepare, graphs.prepare_with_mask, graphs.decode)
        ]
        self._lock = threading.Lock()

    def answer(self, embedding: ImageEmbedding, prompt: Prompt, mask: NDArray[np.bool_] | None = None) -> Answer:
        """Masks for a prompt in the original frame; `mask`, bool [H, W], is one to start from."""
        frame, features = embedding.frames[0], embedding.features
        inputs: Tensors = {"embedding": features.embedding.numpy()}
        inputs |= {f"fine_{level}": fine.numpy() for level, fine in enumerate(features.fine)}
        prepare, prepare_with_mask, decode = self._sessions
        points, labels = _tokens(prompt, frame)
        with self._lock:
            if mask is None:
                shared = _run(prepare, inputs)
            else:
                shared = _run(prepare_with_mask, inputs | {"mask_logits": as_logits(mask, frame)})
            asked: Tensors = {"points": points, "labels": labels}
            said = _run(decode, asked | shared)
        logits, iou = (np.asarray(said[name], np.float32) for name in ("logits", "iou"))
        places, kinds = torch.from_numpy(points), torch.from_numpy(labels)
        moved = moved_by_clicks(torch.from_numpy(logits)[None], places, kinds, frame.image_size)[0].numpy()
        return Answer(moved, iou, prompt.single, frame)


def require_inside(prompt: Prompt, mask: NDArray[np.bool_] | None, frame: Frame) -> None:
    """Raises ValueError when a window shows only a part of a prompt, whose answer would be cut off at its border."""
    if frame.whole_image:
        return
    places = [point[:2] for point in prompt.points]
    for box in (prompt.box, box_of(mask) if mask is not None and mask.any() else None):
        places += [box[:2], box[2:]] if box else []
    x0, y0, x1, y1 = frame.crop_box
    if not all(x0 <= x <= x1 and y0 <= y <= y1 for x, y in places):
        raise ValueError(f"points, box and mask must lie in the window {x0},{y0},{x1},{y1}")


def _run(session: onnxruntime.InferenceSession, inputs: Tensors) -> Tensors:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def _tokens(prompt: Prompt, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points [1, P, 2] in px of the model input and labels [1, P], in the order of the prompt encoder."""
    clicks = torch.tensor([point[:2] for point in prompt.points], dtype=torch.float32).view(-1, 2)
    points = [points_to_input(clicks, frame)]
    labels: list[int] = [point[2] for point in prompt.points]
    if prompt.box is not None:
        points.append(boxes_to_input(torch.tensor([prompt.box]), frame).view(2, 2))
        labels += [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    else:
        points.append(torch.zeros(1, 2))
        labels.append(NOT_A_POINT)
    return torch.cat(points)[None].numpy(), np.array([labels], np.int64)


def as_logits(mask: NDArray[np.bool_], frame: Frame) -> NDArray[np.float32]:
    """A mask of the original image as logits [1, 1, s, s] of the frame's window: how much of each cell it covers, from
    -8 to 8."""
    side = frame.image_size // 4
    height, width = (max(1, round(length * side / frame.image_size)) for length in frame.input_size)
    seen = torch.from_numpy(inside(mask, frame.crop_box))[None, None]
    pixels = seen.shape[-1]
    strips = (seen[..., x * pixels // width : -(-(x + 1) * pixels // width)] for x in range(width))
    # as numbers a strip for each column of cells, and not all of a picture at once
    columns = [torch.nn.functional.interpolate(strip.float(), (height, 1), mode="area") for strip in strips]
    covered = torch.cat(columns, -1)
    logits = torch.full((1, 1, side, side), -_MASK_LOGIT)
    logits[..., :height, :width] = (2 * covered - 1) * _MASK_LOGIT
    return logits.numpy()
