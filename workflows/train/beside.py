"""What a training run begins beside: whoever meant to go on with one that has not ended learns why this is another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schemas.layout import TRAINING_PREFIX, training_end_key, training_key
from schemas.records import TrainingRecord, from_json
from workflows.storage import Store


def unfinished_beside(store: Store, record: TrainingRecord) -> list[str]:
    """A line for each run of the same preset, sources and name that has not ended: what sets it apart from this one."""
    return [
        f"this run begins beside {other.run_id}, which has not ended: {', '.join(_differences(other, record))}"
        for other in _others(store, record)
        if not store.exists(training_end_key(other.run_id))
    ]


def _others(store: Store, record: TrainingRecord) -> Iterator[TrainingRecord]:
    folders = {entry.key.split("/")[1] for entry in store.list(TRAINING_PREFIX.rstrip("/"))}
    for key in sorted(training_key(folder.removeprefix("run=")) for folder in folders):
        try:
            other = from_json(TrainingRecord, store.get(key), where=f"{store.root}/{key}")
        except (FileNotFoundError, ValueError):
            continue  # what became of another run keeps none from beginning
        if other.run_id != record.run_id and _kin(other) == _kin(record):
            yield other


def _kin(record: TrainingRecord) -> tuple[object, ...]:
    return record.name, record.preset, record.stage, sorted(record.data)


def _differences(before: TrainingRecord, now: TrainingRecord) -> list[str]:
    """What decides about a run and is not the same in both."""
    old, new = dict(_flat(before.config)), dict(_flat(now.config))
    told = [
        f"{name} is {new.get(name)}, there {old.get(name)}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
    told += [f"{name} has changed or counts otherwise" for name in now.data if before.data[name] != now.data[name]]
    if before.parent_sha256 != now.parent_sha256:
        told.append(f"it begins with {now.parent}, there with {before.parent}")
    return told or ["its sources stand in another order, its teacher is another, or another version began it"]


def _flat(values: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
