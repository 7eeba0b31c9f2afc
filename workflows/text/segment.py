"""`sam-engine segment`: one image, one prompt of text, clicks and a box, masks out as picture and JSON."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from sam_core.answers import answer
from sam_core.clip import Clip
from sam_core.closer import look_closer
from sam_core.honour import honour_clicks
from sam_core.masks import rle
from sam_core.masks.batch import MaskBatch, MaskRecords
from sam_core.masks.candidates import Candidates, decoded, records
from sam_core.masks.kernels import measure
from sam_core.model.checkpoint import LoadedModel, load_model
from sam_core.model.prompt_encoder import BACKGROUND, FOREGROUND
from sam_core.model.sam import Sam
from sam_core.phrases import embed_phrases
from sam_core.predict import ImageEmbedding, Look, Prompts, encode
from sam_core.windows import Box
from schemas.ids import model_id
from workflows.devices import device_here
from workflows.image_limits import byte_limit
from workflows.images import ImageError
from workflows.images import decode as decode_image
from workflows.models import checkpoint_here
from workflows.report.overlays import overlay
from workflows.storage import S3_SCHEME, TooLargeError, write_file
from workflows.text.clips import clip_id, cut_off, open_clip
from workflows.text.commands import SegmentConfig
from workflows.uris import UriReader

STABILITY_OFFSET = 1.0


@dataclass(frozen=True, slots=True)
class Spots:
    """Where the object is: points float32 [P, 2] xy px with labels int64 [P], and a box xyxy px, if any."""

    points: Tensor
    labels: Tensor
    box: tuple[float, ...] | None

    def prompts(self, text: Tensor | None) -> Prompts:
        """One prompt of these and a text embedding [1, C]."""
        return Prompts(
            points=self.points[None] if len(self.points) else None,
            labels=self.labels[None] if len(self.points) else None,
            boxes=None if self.box is None else torch.tensor([self.box]),
            text=text,
        )


class Clock:
    """Milliseconds of each step; what a step inside another takes is counted once."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure what happens inside."""
        start, before = time.perf_counter(), sum(self.spent.values())
        yield
        inside = sum(self.spent.values()) - before
        self.spent[step] = self.spent.get(step, 0.0) + 1000 * (time.perf_counter() - start) - inside


def segment(config: SegmentConfig) -> int:
    """The subcommand: exit status 0. Raises ValueError or OSError (one line) when it cannot be done."""
    _require_apart(config)
    image = _read(config)
    spots, clock = read_spots(config, (image.shape[0], image.shape[1])), Clock()
    model = load_model(checkpoint_here(config.model), device=device_here(config.device))
    clip = _clip(config, model)
    with torch.inference_mode():
        with clock.timed("text"):
            prompts = spots.prompts(_vector(config, clip))
        with clock.timed("masks"):
            batch = honour_clicks(_answer(model.sam, image, prompts, clock, closer=config.closer), prompts)
            masks = ranked(batch, spots)
    found, best = (as_records(some, batch.frame.original_size) for some in (masks, masks[np.arange(1)]))
    _write(config, image, best, _document(config, model, clip, spots, found))
    _tell(config, found, clock)
    return 0


def _answer(sam: Sam, image: NDArray[np.uint8], prompts: Prompts, clock: Clock, *, closer: bool) -> MaskBatch:
    """The masks of one prompt, in the whole image or in the window that shows its object best."""
    height, width = image.shape[:2]
    look = _timed_look(sam, image, clock)
    if closer:
        return look_closer(sam, look, _timed_look(sam, image[:, ::-1], clock), (height, width), prompts)
    return answer(sam, look((0, 0, width, height)), prompts)


def _timed_look(sam: Sam, image: NDArray[np.uint8], clock: Clock) -> Look:
    """`predict.look_at`, its time told apart."""

    def look(window: Box) -> ImageEmbedding:
        with clock.timed("image"):
            return encode(sam, [image], crop_boxes=[window])

    return look


def _require_apart(config: SegmentConfig) -> None:
    """Raises ValueError where a result would take the place of the picture, or of what is known of it, as SA-1B keeps
    that in a JSON beside it, or has no folder to go to."""
    for path in outputs(config.out):
        if not config.image.startswith(S3_SCHEME) and os.path.realpath(path) == os.path.realpath(config.image):
            raise ValueError(f"--out {config.out} would write {path} over the picture; choose another name")
        if not path.parent.is_dir():
            raise ValueError(f"--out {config.out}: there is no folder {path.parent}")
        if path.suffix == ".json" and path.is_file() and not _is_document(path.read_bytes()):
            raise ValueError(
                f"--out {config.out} would write over {path}, which is of another program; choose another name"
            )


def _is_document(data: bytes) -> bool:
    """Whether this is a JSON of this command."""
    try:
        return bool({"image", "masks"} <= json.loads(data).keys())
    except (ValueError, AttributeError, RecursionError):
        return False


def read_spots(config: SegmentConfig, size: tuple[int, int]) -> Spots:
    """The clicks and the box of a command, which must lie in an image of (height, width) px. Raises ValueError."""
    clicks = [(*_numbers("--point", text, 2), FOREGROUND) for text in config.point]
    clicks += [(*_numbers("--background", text, 2), BACKGROUND) for text in config.background]
    box = None if config.box is None else _numbers("--box", config.box, 4)
    corners = [] if box is None else [box[:2], box[2:]]
    height, width = size
    for x, y, *_ in [*clicks, *corners]:
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"{config.image} has {width}x{height} px; {x:g},{y:g} lies outside")
    if box and not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"--box is {config.box}; it must be X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1")
    places = torch.tensor([click[:2] for click in clicks], dtype=torch.float32).view(-1, 2)
    return Spots(places, torch.tensor([click[2] for click in clicks], dtype=torch.int64), box)


def ranked(batch: MaskBatch, spots: Spots) -> Candidates:
    """The masks of a single prompt with what is said of them, the most confident first."""
    iou, logits = batch.iou.float().cpu().numpy(), batch.logits[0].float().cpu()
    point = spots.points[:1].double().numpy() if len(spots.points) else np.full((1, 2), np.nan)
    order = np.argsort(-iou[0], kind="stable")
    measured = measure(logits[order], batch.frame, offset=STABILITY_OFFSET)
    return decoded(point, iou, batch.frame.crop_box)[order].measured(measured).encoded()


def as_records(masks: Candidates, size: tuple[int, int]) -> MaskRecords:
    """Masks of an image of (height, width) px as the tables have them; the box of one without pixels is all zeros."""
    found = records(masks, size)
    return replace(found, boxes=found.boxes * (found.areas > 0)[:, None])


def _read(config: SegmentConfig) -> NDArray[np.uint8]:
    path = config.image if config.image.startswith(S3_SCHEME) else str(Path(config.image).absolute())
    try:
        data = UriReader(max_bytes=byte_limit(config.max_pixels)).read(path)
        return decode_image(data, max_pixels=config.max_pixels)
    except TooLargeError as error:
        raise ImageError("TooManyBytes", f"{config.image}: {error}") from error
    except ImageError as error:
        raise ImageError(error.kind, f"{config.image}: {error}") from error


def _clip(config: SegmentConfig, model: LoadedModel) -> Clip | None:
    """The CLIP of a text. Raises ValueError when the model takes no text, or that of another CLIP."""
    if config.text is None:
        return None
    assert config.clip is not None, "checked by the configuration"
    return open_clip(config.clip, model)


def _vector(config: SegmentConfig, clip: Clip | None) -> Tensor | None:
    if clip is None or config.text is None:
        return None
    embedded = embed_phrases(clip, [config.text], config.templates)
    if any(embedded.truncated):
        print(f"sam-engine: {cut_off(config.text, clip.context)}", file=sys.stderr)
    return embedded.vectors


def _document(
    config: SegmentConfig, model: LoadedModel, clip: Clip | None, spots: Spots, found: MaskRecords
) -> dict[str, object]:
    """What was asked, by what, seen through which window (xywh), and the masks as COCO RLE, best first."""
    height, width = found.size
    masks = [
        {
            "predicted_iou": round(float(found.predicted_iou[index]), 6),
            "stability_score": round(float(found.stability_score[index]), 6),
            "area": int(found.areas[index]),
            "bbox": found.boxes[index].tolist(),
            "segmentation": {"size": [height, width], "counts": found.rle[index].decode()},
        }
        for index in range(len(found))
    ]
    return {
        "image": config.image,
        "height": height,
        "width": width,
        "model": model_id(model.name, model.sha256),
        "clip": clip_id(clip.name, clip.sha256) if clip else None,
        "text": config.text,
        "templates": list(config.templates) if config.text is not None else None,
        "points": [[*xy, label] for xy, label in zip(spots.points.tolist(), spots.labels.tolist(), strict=True)],
        "box": list(spots.box) if spots.box else None,
        "window": found.crop_boxes[0].tolist(),
        "masks": masks,
    }


def _write(config: SegmentConfig, image: NDArray[np.uint8], best: MaskRecords, document: dict[str, object]) -> None:
    mask, picture, text = map(str, outputs(config.out))
    write_file(mask, _png(rle.decode(best.rle[0], best.size).astype(np.uint8) * 255))
    write_file(picture, _png(overlay(image, best)))
    write_file(text, (json.dumps(document, indent=1) + "\n").encode())


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def outputs(out: str) -> tuple[Path, Path, Path]:
    """Mask, overlay and JSON."""
    path = Path(out)
    return path, path.with_name(f"{path.stem}-overlay.png"), path.with_suffix(".json")


def _tell(config: SegmentConfig, found: MaskRecords, clock: Clock) -> None:
    score = "trust" if config.closer else "predicted IoU"
    for index in range(len(found)):
        x, y, w, h = found.boxes[index].tolist()
        print(
            f"{index + 1}  {score} {found.predicted_iou[index]:.3f}  stability "
            f"{found.stability_score[index]:.3f}  area {found.areas[index]:,} px  box {x},{y} {w}x{h}"
        )
    if not found.areas[0]:
        print("sam-engine: the most confident mask has no pixels", file=sys.stderr)
    steps = [step for step in clock.spent if step != "text" or config.text is not None]
    print(", ".join(f"{step} {clock.spent[step]:.0f} ms" for step in steps))
    print(", ".join(str(path) for path in outputs(config.out)))


def _numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    """Numbers between commas. Raises ValueError."""
    wanted = {2: "X,Y", 4: "X0,Y0,X1,Y1"}[count]
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(np.isfinite(values)):
        raise ValueError(f"{flag} is {text!r}; it must be {wanted} in px")
    return values
