"""A trained model becomes a registered one: weights, record and a card that people read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from sam_core.clip import clip_metadata
from sam_core.metrics.single_point import Sample, evaluate_clicks
from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from schemas import ids
from schemas.layout import model_card_key, model_text_key, model_weights_key, training_end_key
from schemas.records import ModelRecord, TrainingRecord, to_json
from workflows.failures import tell_left_out
from workflows.models import Model, stored_model
from workflows.progress import Progress
from workflows.scratch import scratch_folder
from workflows.storage import Store
from workflows.train import checkpoints
from workflows.train.metrics import StepMetrics, read_metrics
from workflows.train.samples import Photograph, Tell, photographs
from workflows.train.sources import Source, open_sources

T = TypeVar("T")

STEPS_AVERAGED = 50
CLICKS = (1, 3)
IMAGES_VALIDATED = 200
LEFT_OUT_NAMED = 1000
"""Pictures left out that a model's record names; the metrics of the run's steps name all."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a training run ended. weights: the whole path of the model's file."""

    run_id: str
    model_id: str
    name: str
    sha256: str
    steps: int
    weights: str
    metrics: dict[str, float]

    def summary(self) -> str:
        """Steps and metrics in one line."""
        return f"{self.steps:,} steps, " + ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())

    def model(self, store: Store) -> Model:
        """The model as a checkpoint on this machine, copied out of an object store."""
        return stored_model(store, self.model_id)


def register(
    store: Store, record: TrainingRecord, config: TrainConfig, *, validate: str | None, round: int | None = None
) -> Finished:
    """Write the averaged weights of the last checkpoint as a model, its record and card, and end the run.

    Where another command of the same run has done so, its model is the run's.
    """
    if found := finished(store, record.run_id):
        return found
    saved = checkpoints.load_latest(store, record.run_id)
    assert saved, "the last step is a checkpoint"
    sam = Sam(config.sam)
    sam.load_state_dict(saved["average"] or saved["model"])
    rows = read_metrics(store, record.run_id)
    metrics, left_out = training_metrics(rows), left_out_of(rows)
    if left_out:
        metrics["pictures_left_out"] = len(left_out)
    if validate:
        metrics |= validation(sam.eval(), validate)
    data = _file_of(sam, record, config)
    sha256 = ids.content_hash(data)
    model_id = ids.model_id(config.sam.name, sha256)
    model = ModelRecord(
        model_id=model_id,
        name=config.sam.name,
        sha256=sha256,
        created_at=datetime.now(UTC),
        parent=record.parent,
        round=round,
        training={"run": record.run_id, "preset": record.preset, "stage": record.stage, "data": record.data}
        | {"steps": saved["step"], "config": record.config}
        | {"left_out": dict(islice(left_out.items(), LEFT_OUT_NAMED))},
        metrics=metrics,
    )
    store.put(model_weights_key(model_id), data)
    store.put(model_text_key(model_id), card(model).encode())
    store.put(model_card_key(model_id), to_json(model).encode())
    checkpoints.remove_old(store, record.run_id)  # which a command may have been killed at that had taken the last step
    ended = Finished(record.run_id, model_id, model.name, sha256, saved["step"], _place(store, model_id), metrics)
    held = store.put_if_absent(training_end_key(record.run_id), json.dumps(asdict(ended)).encode())
    return Finished(**json.loads(held))


def finished(store: Store, run_id: str) -> Finished | None:
    """How a run ended; None while it has not."""
    try:
        ended = Finished(**json.loads(store.get(training_end_key(run_id))))
    except FileNotFoundError:
        return None
    return replace(ended, weights=_place(store, ended.model_id))  # the data set may have moved since


def _place(store: Store, model_id: str) -> str:
    """The whole path of a model's weights."""
    return f"{store.root}/{model_weights_key(model_id)}"


def training_metrics(rows: Sequence[StepMetrics]) -> dict[str, float]:
    """Means over the last steps."""
    last = rows[-STEPS_AVERAGED:]
    values = {f"train_{name}": float(np.mean([row.values[name] for row in last])) for name in last[-1].values}
    return values | {"flop_utilisation": float(np.mean([row.utilisation for row in last]))}


def left_out_of(rows: Sequence[StepMetrics]) -> dict[str, str]:
    """The pictures that could not be read in any step, by their places in order, each with the reason."""
    found = {place: reason for row in rows for place, reason in row.left_out.items()}
    return dict(sorted(found.items()))


def open_validation(source: str, tell: Tell) -> tuple[Source, Iterator[Photograph]]:
    """A source of images with masks, and those of them that can be read, of which there is one; the others are told as
    they are come to. Raises ValueError or OSError (one line) when it is no such source."""
    (opened,) = open_sources((source,), need_masks=True)
    if opened.procedural:
        raise ValueError(f"--validate {source}: procedural scenes have no end; validate on images")
    seen = photographs(opened, tell)
    if (first := next(seen, None)) is None:
        raise ValueError(
            f"--validate {source}: no image that can be read has a mask; name another place, or leave --validate out"
        )
    return opened, chain([first], seen)


def validation(sam: Sam, source: str) -> dict[str, float]:
    """Click figures on the first images of a source with masks that can be read; the others are told.

    Raises ValueError (one line) when there is none.
    """
    unread: list[str] = []
    try:
        opened, seen = open_validation(source, lambda failure: unread.append(str(failure)))
        with Progress("validating", min(len(opened), IMAGES_VALIDATED)) as progress:
            samples = (Sample(*found) for found in _counted(islice(seen, IMAGES_VALIDATED), progress))
            figures = evaluate_clicks(sam, samples, clicks=CLICKS)
    finally:
        tell_left_out(unread)
    named = {f"validation_{count}_click_miou": value for count, value in zip(CLICKS, figures.miou, strict=True)}
    return named | {"validation_oracle_miou": figures.oracle_miou[0], "validation_box_miou": figures.box_miou}


def _counted(seen: Iterable[T], progress: Progress) -> Iterator[T]:
    """The same, each counted once it is done with."""
    for one in seen:
        yield one
        progress.add(images=1)


def card(model: ModelRecord) -> str:
    """The model card as Markdown."""
    training: Any = model.training
    data = ", ".join(
        f"{name} ({about['images'] or 'endless'} images, weight {about['weight']:g})"
        for name, about in training["data"].items()
    )
    rows = {
        "began with": model.parent or "new weights",
        "data": data,
        "preset": f"{training['preset']}, stage {training['stage']}, {training['steps']:,} steps",
        "seed": training["config"]["seed"],
        "text prompts": _clip_of(training["config"]),
        "training run": training["run"],
        "made": model.created_at.isoformat(timespec="seconds"),
        "SHA-256": model.sha256,
    }
    about = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value != "")
    measured = "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in model.metrics.items())
    settings, averaged = json.dumps(training["config"], indent=2), min(STEPS_AVERAGED, training["steps"])
    return (
        f"# Model card: {model.model_id}\n\n| | |\n|---|---|\n{about}\n\n## Measured\n\n"
        f"`train` figures are means over the last {averaged} steps on training data; `validation` ones are of images "
        f"that training did not see, if the user kept them apart.\n\n| figure | value |\n|---|---|\n{measured}\n\n"
        f"## Configuration\n\n```json\n{settings}\n```\n"
    )


def _clip_of(config: dict[str, Any]) -> str:
    """Which CLIP a model needs; "" where it needs none."""
    return f"of CLIP {config['clip_name']}, SHA-256 {config['clip_sha256']}" if config.get("clip_sha256") else ""


def _file_of(sam: Sam, record: TrainingRecord, config: TrainConfig) -> bytes:
    said = {"training": record.run_id, "preset": record.preset}
    if config.text:
        said |= clip_metadata(config.clip_name, config.clip_sha256)
    with scratch_folder() as folder:
        path = folder / "model.safetensors"
        save_model(sam, path, said)
        load_model(path)
        return path.read_bytes()
