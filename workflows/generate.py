"""The main job: a source of images in, mask tables out, exactly once.

    list and ingest the source -> settle the run -> settle its plan -> work on the shards without outcomes -> note the
    sizes of images that the source named by hash

Nothing but files in the data set carries state from one command to the next.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from sam_core.device_settings import DeviceSettings
from schemas.records import RunRecord
from workflows.commands import GenerateConfig
from workflows.devices import choose_device
from workflows.failures import tell_denied
from workflows.image_worker import SeenFile, ShardJob
from workflows.ingest import ingest
from workflows.licences import require_licences
from workflows.listing import Listing
from workflows.models import GeneratorSpec, find_model, register_model, settings_for
from workflows.plans import ShardTask, pending_shards, settle_plan
from workflows.progress import Progress
from workflows.runs import new_run, open_dataset, settle_run
from workflows.shard_worker import ShardSummary, clear_markers
from workflows.sharing import Remaining
from workflows.sizes import note_sizes
from workflows.sources import list_images
from workflows.sql import connect
from workflows.storage import Store, open_store

if TYPE_CHECKING:
    from workflows.metrics import RunMetrics

_TALLY = """
SELECT count(*) AS images, coalesce(sum(n_masks), 0)::BIGINT AS masks, count(*) FILTER (status <> 'ok') AS errors,
    count(*) FILTER (status = 'crashed') AS crashed,
    count(*) FILTER (error_class IN ('TooManyPixels', 'TooManyBytes')) AS too_large
FROM outcomes WHERE run_id = ?
"""
_FAILED = "SELECT image_id FROM outcomes WHERE run_id = ? AND status <> 'ok'"
_QUERIES = (
    "SELECT * FROM summary",
    "SELECT size_class(area) AS size, count(*) AS masks, avg(predicted_iou) AS iou FROM masks GROUP BY size",
)


def generate(config: GenerateConfig) -> int:
    """The subcommand: exit status 0, or 1 when some images ended as errors or folders may not be listed.

    Errors do not count for images that the source does not have, or not any more, as after a damaged file was replaced.

    Raises ValueError or OSError, one line each, when the input cannot be used or a store fails for good.
    """
    denied: list[str] = []
    references = list_images(config.source, image_folder=config.image_folder, denied=denied)
    spec = _spec(config)
    store = open_store(config.dataset)
    open_dataset(store)
    with ingest(references, store, max_pixels=config.max_pixels) as listing:
        allowed = _allowed(config, listing)  # before there is a run that would never be planned
        proposed = new_run(spec, name=config.run, recipe_name=config.recipe, config=config.record(), round=config.round)
        run = settle_run(store, proposed)
        register_model(store, spec.model, run.created_at)
        shards = settle_plan(store, run.run_id, allowed, shard_size=config.shard_size)
        if tasks := pending_shards(store, run.run_id, shards):
            _work(config, store, run, spec, tasks, listing.seen_here())
        clear_markers(store, run.run_id)
        if listing.states_hashes():
            note_sizes(store, run.run_id, max_pixels=config.max_pixels)
        tell_denied(denied)
        return max(_report(config, run.run_id, listing), 1 if denied else 0)


def _allowed(config: GenerateConfig, listing: Listing) -> pa.RecordBatchReader:
    """The images that the run may work on. Raises ValueError when a rule on licences leaves none."""
    if not config.licences:
        return listing.images()
    return listing.allowed_images(require_licences(listing.licences(), config.licences))


def _work(
    config: GenerateConfig, store: Store, run: RunRecord, spec: GeneratorSpec, tasks: list[ShardTask], seen: str | None
) -> None:
    """Work on the shards with as many workers as the machine or cluster holds."""
    from workflows.metrics import RunMetrics
    from workflows.ray_session import choose_pool, run_shards, start_ray

    start_ray()
    pool = choose_pool(workers=config.workers, threads=config.threads, on_gpu=spec.device == "cuda")
    memory = int(config.image_memory * 1e9) if config.image_memory else None
    witness = SeenFile(seen, socket.gethostname()) if seen else None
    job = ShardJob(store.root, run, spec, config.max_pixels, config.image_timeout, pool.threads, memory, witness)
    remaining = Remaining(store, run.run_id, tasks)
    try:
        _follow(run_shards(job, remaining, pool), remaining, tasks, RunMetrics(run.run_id))
    except (KeyboardInterrupt, SystemExit):  # the workers end with the command: no image is at fault
        remaining.give_back()
        raise


def _follow(
    summaries: Iterator[ShardSummary], remaining: Remaining, tasks: list[ShardTask], metrics: RunMetrics
) -> None:
    """Tell how far the work is as shards are done, here and by other commands."""
    left = len(tasks)
    metrics.queue(left)
    with Progress("masks", sum(task.images for task in tasks)) as progress, metrics.following():
        for summary in summaries:
            remaining.came_back(summary.shard)
            left_out = remaining.part_ways() if summary.by_another else []
            left -= 1 + len(left_out)
            metrics.queue(left)
            images = summary.images + sum(task.images for task in left_out)
            progress.add(images=images, masks=summary.masks, errors=summary.errors)


def _spec(config: GenerateConfig) -> GeneratorSpec:
    """The generator that the command asks for. Raises ValueError when the device or model cannot do it."""
    model, device = find_model(config.model), choose_device(config.device)
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if config.dtype == "auto" else config.dtype
    wanted = DeviceSettings(memory_bytes=int(config.gpu_memory * 1e9), dtype=dtype)
    settings = settings_for(model, device, wanted, exact_reference=config.exact_reference)
    if config.dtype == "bfloat16" and not settings:
        raise ValueError(f"--dtype bfloat16 is for plain ViTs on a GPU; here {model.name} runs in float32 on {device}")
    return GeneratorSpec(model, config.thresholds, device, config.exact_reference, settings)


def _report(config: GenerateConfig, run_id: str, listing: Listing) -> int:
    """Say where the data set is and what to ask it; the exit status.

    Outcomes are read here alone: before the work, a run of many thousand shards in an object store would wait minutes.
    """
    dataset = config.dataset
    with closing(connect(dataset)) as connection:
        ((images, masks, errors, crashed, too_large),) = connection.execute(_TALLY, [run_id]).fetchall()
        failed = connection.sql(_FAILED, params=[run_id]).to_arrow_reader() if errors else None
        past = listing.count_others(failed) if failed else 0
    print(f"{dataset}: run {run_id} has {images:,} images, {masks:,} masks, {errors:,} errors")
    if past:
        print(f"errors that do not count in the exit status, as {config.source} has other images now: {past:,}")
    if too_large:
        print(
            f"{too_large:,} images are too large for --max-pixels; another run, --run NAME with a larger one, does them"
        )
    if crashed:
        print(f"{crashed:,} images took their process down and were left out: see status 'crashed' in outcomes")
    print("try:")
    for query in _QUERIES:
        print(f"  sam-engine sql {shlex.quote(dataset)} {shlex.quote(query)}")
    return 1 if errors > past else 0
