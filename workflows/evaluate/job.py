"""`sam-engine evaluate`: images with truth in, rows per image and a table of figures out, exactly once.

    plan the images -> settle the evaluation by what it measures -> work on the shards not committed -> figures

An evaluation's identity is its task with every value, the model, the device and the planned truth; anything else is
another one beside it. Its plan is settled once, shards have fixed names, and resuming is listing what is committed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import evaluation as layout
from schemas.ids import canonical_json, content_hash
from schemas.parquet import from_plain_parquet, to_plain_parquet
from workflows.devices import choose_device
from workflows.evaluate.clicks import Fairness, SinglePoint
from workflows.evaluate.commands import (
    EdgesConfig,
    EvaluateCommand,
    FairnessConfig,
    InstancesConfig,
    Measurable,
    ProposalsConfig,
    SinglePointConfig,
    TextConfig,
)
from workflows.evaluate.edges import HUMANS, Edges
from workflows.evaluate.instances import Instances
from workflows.evaluate.proposals import Proposals
from workflows.evaluate.show import show
from workflows.evaluate.task import Figure, Task
from workflows.evaluate.text import Text
from workflows.evaluate.worker import EvaluationJob, EvaluationWorker, Helpers
from workflows.models import Model, find_model
from workflows.plans import default_shard_size
from workflows.progress import Progress
from workflows.runs import package_versions
from workflows.storage import Store, open_store
from workflows.text.clips import find_clip
from workflows.uris import absolute

Pool = Callable[[EvaluationJob, list[int], Measurable], Iterator[dict[str, Any]]]
"""Works on shards of a job; what each of them tells, as they end."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation: where it lies, its figures, and the images that ended as errors."""

    evaluation: str
    figures: tuple[Figure, ...]
    errors: tuple[str, ...]


def evaluate_command(command: EvaluateCommand) -> int:
    """The subcommand: print the table; exit status 0, or 1 when some images ended as errors."""
    config = command.task
    done = evaluate(config)
    show(task_name(config), config.model if task_of(config).needs_model else HUMANS, done.figures)
    print(f"{config.out.rstrip('/')}/evaluation={done.evaluation}: plan, rows, images and figures as Parquet")
    for error in done.errors:
        print(f"not measured: {error}")
    return 1 if done.errors else 0


def evaluate(config: Measurable, *, pool: Pool | None = None) -> Evaluated:
    """Measure, or go on measuring. Raises ValueError or OSError, one line each, when that cannot be done.

    pool: who works on the shards; Ray when not given.
    """
    task, store = task_of(config), open_store(config.out)
    plan = task.plan()
    _require_used(config.image_folder, plan)
    model = find_model(config.model) if task.needs_model else None
    device = choose_device(config.device) if task.needs_model else "cpu"
    helpers = helpers_of(config, model)
    evaluation = _settle(config, store, plan, model, helpers, device)
    shards = from_plain_parquet(store.get(layout.plan_key(evaluation)))["shard"].to_numpy()
    missing = sorted(set(shards.tolist()) - _settled(store, evaluation))
    if missing:
        threads = config.threads or 2
        job = EvaluationJob(store.root, evaluation, task, model, device, threads, config.max_pixels, helpers)
        answers = (pool or on_ray)(job, missing, config)  # before the progress, since Ray takes over standard error
        with Progress(task_name(config), int(np.isin(shards, missing).sum())) as progress:
            for done in answers:
                progress.add(images=done["images"], errors=done["errors"])
    return _finish(config, store, evaluation, task)


def _require_used(image_folder: str | None, plan: pa.Table) -> None:
    """Raises ValueError when no picture lies in the folder that was named: figures of others would pass for theirs."""
    if image_folder is None:
        return
    inside = f"{absolute(image_folder).rstrip('/')}/"
    if not any(uri.startswith(inside) for uris in plan["uris"].to_pylist() for uri in uris):
        raise ValueError(f"--image-folder {image_folder}: no set looks there; it is for a COCO or LVIS JSON alone")


def task_of(config: Measurable) -> Task:
    """The task that a configuration asks for."""
    match config:
        case SinglePointConfig():
            return SinglePoint(config)
        case FairnessConfig():
            return Fairness(config)
        case EdgesConfig():
            return Edges(config)
        case ProposalsConfig():
            return Proposals(config)
        case InstancesConfig():
            return Instances(config)
        case TextConfig():
            return Text(config)


def helpers_of(config: Measurable, model: Model | None) -> Helpers:
    """The helpers of a task. Raises ValueError when one is missing, or the CLIP is not the one that the model needs."""
    if not isinstance(config, TextConfig) or model is None:
        return Helpers()
    clip = find_clip(config.clip, model.load())
    return Helpers(clip, find_model(config.rival) if config.rival else None)


def task_name(config: Measurable) -> str:
    """As the command line spells it."""
    names: dict[type, str] = {SinglePointConfig: "single-point"}
    return names.get(type(config), type(config).__name__.removesuffix("Config").lower())


def on_ray(job: EvaluationJob, shards: list[int], config: Measurable) -> Iterator[dict[str, Any]]:
    """Work on shards with as many workers as the machine or cluster holds."""
    from workflows.ray_session import choose_pool, map_actors, start_ray

    start_ray()
    pool = choose_pool(workers=config.workers, threads=config.threads, on_gpu=job.device == "cuda")
    return map_actors(EvaluationWorker, replace(job, threads=pool.threads), [{"shard": n} for n in shards], pool)


def here(job: EvaluationJob, shards: list[int], config: Measurable) -> Iterator[dict[str, Any]]:
    """Work on shards in this process, one after the other."""
    return map(EvaluationWorker(job).work, shards)


def _settle(
    config: Measurable, store: Store, plan: pa.Table, model: Model | None, helpers: Helpers, device: str
) -> str:
    """Write down what is measured, unless it is there; the evaluation's identifier."""
    identity = {
        "task": task_name(config),
        "config": config.measured(),
        "model_sha256": model.sha256 if model else None,
        "device": device,
        "truth_sha256": content_hash(to_plain_parquet(plan)),
    } | helpers.hashes()
    evaluation = f"{identity['task']}-{content_hash(canonical_json(identity).encode())[:12]}"
    size = config.shard_size or default_shard_size(len(plan))
    sharded = plan.append_column("shard", pa.array(np.arange(len(plan)) // size, pa.int64()))
    store.put_if_absent(layout.plan_key(evaluation), to_plain_parquet(sharded))
    record = identity | {
        "model": model.name if model else None,
        "data": list(config.data),
        "images": len(plan),
        "versions": package_versions(),
        "created_at": datetime.now(UTC).isoformat(),
    }
    store.put_if_absent(layout.evaluation_key(evaluation), json.dumps(record, indent=1).encode())
    return evaluation


def _finished(store: Store, evaluation: str) -> set[int]:
    return layout.finished_shards(entry.key for entry in store.list(layout.images_prefix(evaluation)))


def _settled(store: Store, evaluation: str) -> set[int]:
    """Finished shards that are not measured again, as one is whose picture was not there."""
    images = {n: from_plain_parquet(store.get(layout.images_key(evaluation, n))) for n in _finished(store, evaluation)}
    return {n for n, table in images.items() if "again" not in table.column_names or not pc.any(table["again"]).as_py()}


def _finish(config: Measurable, store: Store, evaluation: str, task: Task) -> Evaluated:
    """The figures of all committed rows, written down."""
    shards = sorted(_finished(store, evaluation))
    plan = from_plain_parquet(store.get(layout.plan_key(evaluation)))
    images = pa.concat_tables(
        (from_plain_parquet(store.get(layout.images_key(evaluation, n))) for n in shards), promote_options="default"
    )
    rows = pa.concat_tables(from_plain_parquet(store.get(layout.rows_key(evaluation, n))) for n in shards)
    measured = pc.is_null(images["error"])
    if not len(rows):
        reason = next((error for error in images["error"].to_pylist() if error), "no image has a mask to measure")
        raise ValueError(f"nothing was measured: {reason}")
    figures = tuple(task.figures(rows, plan.filter(measured.combine_chunks())))
    store.put(layout.figures_key(evaluation), to_plain_parquet(_table(task_name(config), figures)))
    failed = images.filter(pc.invert(measured)).to_pylist()
    return Evaluated(evaluation, figures, tuple(f"{row['set']}/{row['name']}: {row['error']}" for row in failed))


def _table(task: str, figures: tuple[Figure, ...]) -> pa.Table:
    columns = ("origin", "row", "figure", "value", "low", "high", "unit")
    rows = [{"task": task} | {name: getattr(figure, name) for name in columns} for figure in figures]
    return pa.Table.from_pylist(rows, layout.FIGURES)
