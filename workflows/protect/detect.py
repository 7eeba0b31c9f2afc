"""Where faces are: a detector like YuNet, given as an ONNX file and run by OpenCV."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_core.model.checkpoint import CHECKPOINTS_VARIABLE
from workflows.failures import first_line
from workflows.fetch import file_name
from workflows.protect.blur import Region

NAME = "yunet"
SIDES = (640, 1920)
"""Longest sides at which a picture is looked at, px: the small one for large faces, the other for small ones."""
_MOST_FACES = 5000
_NMS_IOU = 0.3


class FaceDetector:
    """Finds faces in pictures. Safe to use from several threads, each of which loads the model.

    Raises ValueError or OSError (one line) when the file is no such detector.
    """

    def __init__(self, model: str, *, min_score: float) -> None:
        self._path, self._min_score = find_detector(model), min_score
        self.sha256 = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self._here = threading.local()
        self.regions(np.zeros((32, 32, 3), np.uint8))

    def regions(self, image: NDArray[np.uint8]) -> list[Region]:
        """Faces in uint8 RGB [H, W, 3], each once, in px of the picture."""
        found = [region for side in _sides(image) for region in self._at(image, side)]
        if not found:
            return []
        boxes = [[region.x, region.y, region.w, region.h] for region in found]
        kept = cv2.dnn.NMSBoxes(boxes, [region.score or 0.0 for region in found], self._min_score, _NMS_IOU)
        return [found[int(index)] for index in np.ravel(kept)]

    def _at(self, image: NDArray[np.uint8], side: int) -> list[Region]:
        """Faces found at one size of the picture."""
        scale = side / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        detector = self._detector()
        try:
            detector.setInputSize((small.shape[1], small.shape[0]))
            _, faces = detector.detect(np.ascontiguousarray(small[:, :, ::-1]))
        except cv2.error as error:
            raise ValueError(f"{self._path}: no face detector like YuNet ({first_line(error)})") from error
        scale = small.shape[1] / image.shape[1]
        rows = [] if faces is None else faces.tolist()
        return [
            Region(x / scale, y / scale, w / scale, h / scale, "face", row[-1])
            for row in rows
            for x, y, w, h in [row[:4]]
        ]

    def _detector(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._here, "detector"):
            try:
                self._here.detector = cv2.FaceDetectorYN.create(
                    str(self._path), "", (32, 32), self._min_score, _NMS_IOU, _MOST_FACES
                )
            except cv2.error as error:
                raise ValueError(f"{self._path}: not an ONNX model that OpenCV reads ({first_line(error)})") from error
        detector: cv2.FaceDetectorYN = self._here.detector
        return detector


def find_detector(model: str) -> Path:
    """The file of a detector by name or path. Raises ValueError (one line) when it is not there."""
    if model != NAME:
        path = Path(model)
        if not path.is_file():
            raise ValueError(f"{model}: no such file; --detector is an ONNX file, or {NAME}")
        return path
    folder = os.environ.get(CHECKPOINTS_VARIABLE)
    path = Path(folder or ".") / file_name(NAME)
    if not folder or not path.is_file():
        raise ValueError(f"{NAME} is not here: `sam-engine models fetch {NAME}` gets it into {CHECKPOINTS_VARIABLE}")
    return path


def _sides(image: NDArray[np.uint8]) -> list[int]:
    """The sizes to look at: those that are smaller than the picture, else the picture itself."""
    longest = max(image.shape[:2])
    return sorted({min(side, longest) for side in SIDES})
