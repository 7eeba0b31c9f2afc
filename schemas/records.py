"""The JSON documents of a data set: what a run, a model, an engine round and the data set itself are.

A record holds what was decided before the work began. How far the work got is not in it: that is what outcomes say.
Each document carries the format version it was written with; a newer one is refused rather than half understood.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa

from schemas.tables import FORMAT_VERSION, as_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """`dataset.json`."""

    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """`runs/<run_id>.json`: everything needed to tell why two runs differ, or to make one again."""

    run_id: str
    name: str | None
    """What the user called the run."""
    created_at: datetime
    """When it was first started; every mask of the run carries this time."""
    stage: str
    round: int | None
    model_name: str
    model_id: str
    model_sha256: str
    recipe_name: str
    recipe: Mapping[str, object]
    """Resolved: no value is left to a default."""
    config: Mapping[str, object]
    """The resolved command: source, limits, batch sizes and the like."""
    versions: Mapping[str, str]
    """Of this program, python, torch, ray, numpy and the rest."""
    seed: int
    dtype: str
    device: str
    kernels: str
    """Which implementation of the generator ran, such as "fast" or "exact-reference"."""
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """`models/<model_id>/model.json`."""

    model_id: str
    name: str
    sha256: str
    created_at: datetime
    parent: str | None
    """Model that training began from."""
    round: int | None
    training: Mapping[str, object]
    """Resolved training config, with data, steps and seed."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """`training/run=<run_id>/run.json`."""

    run_id: str
    name: str | None
    """What the user called the run."""
    created_at: datetime
    preset: str
    stage: int
    """Of a preset of several stages, from 1."""
    parent: str | None
    """Model that training began from."""
    parent_sha256: str | None
    config: Mapping[str, object]
    """Resolved training configuration."""
    data: Mapping[str, object]
    """Sources with their weights, numbers of images, and a hash of what they listed."""
    versions: Mapping[str, str]
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """`rounds/<n>.json`: an engine round as far as it has got; rewritten at each step."""

    number: int
    stage: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    model_before: str
    model_after: str | None
    promoted: bool | None
    reason: str | None
    """Why the new model was promoted or not."""
    metrics: Mapping[str, float]
    details: Mapping[str, object]
    """What the state machine needs to go on: data snapshot, jobs, queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergerRecord:
    """`annotations/mergers/<n>.json`: saves of annotators that lie in larger files, too, and are read from there."""

    created_at: datetime
    masks: str | None
    """Key of the file that holds their annotations."""
    events: str | None
    """Key of the file that holds their events."""
    parts: Mapping[str, object]
    """Table (masks, events) to session to the parts that were merged: the first and the last of each row of them."""


Record = TypeVar("Record", DatasetRecord, RunRecord, ModelRecord, TrainingRecord, RoundRecord, MergerRecord)


def to_json(record: DatasetRecord | RunRecord | ModelRecord | TrainingRecord | RoundRecord | MergerRecord) -> str:
    """The document of a record: readable JSON, equal text for equal records, ending in a newline.

    Raises:
        ValueError: a time has no zone, or a value is not finite or not JSON.
    """
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    document = {"format_version": FORMAT_VERSION, **values}
    try:
        return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, default=_time_text) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{type(record).__name__} cannot be written as JSON: {error}") from error


def from_json(kind: type[Record], text: str | bytes, *, where: str) -> Record:
    """The record that a document holds.

    Args:
        kind: which record is expected.
        text: the document, UTF-8.
        where: its key or path, for messages.

    Raises:
        ValueError: one line: not JSON, a newer format version, or a field missing, unknown or of the wrong kind.
    """
    document = _document(text, where)
    hints = typing.get_type_hints(kind)
    if missing := sorted(hints.keys() - document.keys()):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(document.keys() - hints.keys()):
        raise ValueError(f"{where} has unknown fields: {', '.join(unknown)}")
    values: dict[str, Any] = {name: _value(value, hints[name], f"{where}: {name}") for name, value in document.items()}
    return kind(**values)


def records_table(kind: type[Record], records: Sequence[Record]) -> pa.Table:
    """One row per record, one column per field; mappings become JSON text, times UTC without a zone."""
    columns = {
        name: pa.array([_cell(getattr(record, name)) for record in records], _arrow_type(hint))
        for name, hint in typing.get_type_hints(kind).items()
    }
    return pa.table(columns)


def _document(text: str | bytes, where: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    version = document.pop("format_version", None) if isinstance(document, dict) else None
    if type(version) is not int:
        raise ValueError(f"{where} is not a record of this program: it has no format_version")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{where} has format version {version}, this program reads up to {FORMAT_VERSION}: upgrade sam-data-engine"
        )
    return typing.cast(dict[str, object], document)


def _value(value: object, hint: object, where: str) -> object:
    """`value` as its field wants it; times are parsed, everything else must have the right type already."""
    kinds = _kinds(hint)
    if datetime in kinds and isinstance(value, str):
        return _time(value, where)
    if type(value) not in kinds:
        wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"{where} is {value!r}; it must be {wanted}")
    return value


def _kinds(hint: object) -> set[type]:
    """The plain types that a field's hint allows: `str | None` gives str and NoneType, a Mapping dict."""
    if isinstance(hint, types.UnionType):
        return set().union(*(_kinds(part) for part in typing.get_args(hint)))
    origin = typing.get_origin(hint)
    return {dict} if origin is not None and issubclass(origin, Mapping) else {typing.cast(type, hint)}


def _arrow_type(hint: object) -> pa.DataType:
    by_kind = {
        str: pa.string(),
        int: pa.int64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us"),
        dict: pa.string(),
    }
    return by_kind[next(iter(_kinds(hint) - {types.NoneType}))]


def _cell(value: object) -> object:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return as_stored(value) if isinstance(value, datetime) else value


def _time(text: str, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{where} is {text!r}; it must be a time such as 2026-01-31T12:00:00+00:00") from error
    if time.tzinfo is None:
        raise ValueError(f"{where} is {text!r}; it needs a zone such as +00:00")
    return time


def _time_text(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is not JSON")
    if value.tzinfo is None:
        raise ValueError(f"the time {value} has no zone")
    return value.astimezone(UTC).isoformat()
