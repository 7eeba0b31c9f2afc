"""The record of a run: what was decided before the work began, settled once and kept by every later driver."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from schemas import ids
from schemas.layout import DATASET_KEY, run_key
from schemas.records import DatasetRecord, RunRecord, from_json, to_json
from schemas.tables import Stage
from workflows.storage import S3_SCHEME, Store

if TYPE_CHECKING:  # a record needs no torch
    from workflows.models import GeneratorSpec

_PACKAGES = ("sam-data-engine", "ray", "torch", "numpy", "opencv-python-headless", "pillow", "pyarrow", "numba")
_SAME = ("model_sha256", "recipe", "stage", "round", "dtype", "device", "kernels")


def open_dataset(store: Store) -> DatasetRecord:
    """The record of the data set at this root, written first if there is none.

    Raises ValueError on a newer format, and on an address that views of it could not be read from, or whose name other
    commands would take for a place and a table.
    """
    if "//" in store.root.removeprefix(S3_SCHEME):
        raise ValueError(f"{store.root}: the address of a data set has no empty part; leave one of the // out")
    name = PurePosixPath(store.root).name or "dataset"
    if "@" in name and not store.exists(DATASET_KEY):
        raise ValueError(f"{store.root}: what follows an @ is a table or run of a data set; give it a name without one")
    fresh = DatasetRecord(name=name, created_at=datetime.now(UTC))
    return from_json(
        DatasetRecord,
        store.put_if_absent(DATASET_KEY, to_json(fresh).encode()),
        where=f"{store.root}/{DATASET_KEY}",
    )


def require_here(store: Store) -> None:
    """Raises OSError where a worker's machine has no part of the data set that it is to write into: what it writes to a
    folder of its own disk would be missed by everybody."""
    if not store.root.startswith(S3_SCHEME) and not store.exists(DATASET_KEY):
        raise OSError(
            f"{store.root} is no data set on {socket.gethostname()}, where a worker is: for several machines it is "
            "s3://bucket/prefix or a folder that all of them mount"
        )


def run_record(
    *,
    name: str | None,
    model_name: str,
    model_sha256: str,
    recipe_name: str,
    recipe: Mapping[str, object],
    kernels: str,
    begun: datetime | None = None,
    stage: Stage = Stage.AUTOMATIC,
    round: int | None = None,
    config: Mapping[str, object] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> RunRecord:
    """The record of a run that this process begins: its identifiers follow from model, recipe and name.

    begun: now when not given.
    """
    decided = ids.canonical_json(recipe)
    return RunRecord(
        run_id=ids.run_id(model_sha256, decided, name=name),
        name=name,
        created_at=begun or datetime.now(UTC),
        stage=stage,
        round=round,
        model_name=model_name,
        model_id=ids.model_id(model_name, model_sha256),
        model_sha256=model_sha256,
        recipe_name=recipe_name,
        recipe=json.loads(decided),
        config=config or {},
        versions=package_versions(),
        seed=0,
        dtype=dtype,
        device=device,
        kernels=kernels,
        host=socket.gethostname(),
    )


def new_run(
    generator: GeneratorSpec,
    *,
    name: str | None,
    recipe_name: str,
    config: Mapping[str, object],
    round: int | None = None,
) -> RunRecord:
    """The record of a run of a generator that starts now on this machine."""
    return run_record(
        name=name,
        round=round,
        model_name=generator.model.name,
        model_sha256=generator.model.sha256,
        recipe_name=recipe_name,
        recipe=json.loads(generator.recipe.to_json()),
        config=config,
        dtype=generator.dtype,
        device=generator.device,
        kernels=generator.kernels,
    )


def settle_run(store: Store, proposed: RunRecord) -> RunRecord:
    """The record that the data set holds for this run, after writing the proposed one if there was none.

    Raises ValueError when the run was begun with something that would give other masks.
    """
    key = run_key(proposed.run_id)
    held = from_json(RunRecord, store.put_if_absent(key, to_json(proposed).encode()), where=f"{store.root}/{key}")
    for field in _SAME:
        begun, now = getattr(held, field), getattr(proposed, field)
        if begun != now:
            raise ValueError(
                f"run {held.run_id} was begun with {field} {begun!r}, this command has {now!r}: "
                "use the same, or start another run with --run NAME"
            )
    return held


def package_versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
