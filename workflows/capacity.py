"""What a run will take, before it is started, and what it took: hours, workers, cost, storage, requests.

Nothing is assumed silently: every number that was not measured is printed as an assumption.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import duckdb

from sam_core.presets import MODEL_NAMES
from sam_core.recipes import Recipe, recipe, recommended_recipe, stored_recipe
from workflows.commands import AUTO, PlanConfig
from workflows.failures import tell_denied
from workflows.plans import default_shard_size
from workflows.progress import duration, most_at_once, plural, seconds_covered
from workflows.rates import CPU, PEAK_TFLOPS, Rates, load_rates
from workflows.sources import list_images
from workflows.sql import connect, find_run

MASKS_PER_IMAGE = 100
BYTES_PER_MASK = 340
REQUESTS_PER_SHARD = 7  # look for outcomes, for a marker, write it, look again, write masks, outcomes, delete it
_RUNS = "SELECT run_id, model_name, recipe_name, recipe FROM runs ORDER BY created_at DESC"
# A worker's model is at work while an image that was read and unpacked is not finished. The steps' seconds do not say
# so: they are those of all threads together. Reading and unpacking go on beside the model, in threads of their own.
_ACTUAL = """
WITH spans AS (
    SELECT *, epoch(finished_at) AS ended,
        CASE WHEN status = 'crashed' THEN ended
        ELSE epoch(started_at) + seconds_read + seconds_decode_image END AS begun
    FROM outcomes WHERE run_id = ?
),
behind AS (
    SELECT *, max(ended) OVER (
        PARTITION BY host, worker ORDER BY begun, image_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS reached
    FROM spans
)
SELECT count(*), count(*) FILTER (status = 'ok'), coalesce(sum(n_masks), 0)::BIGINT,
    coalesce(sum(greatest(ended - greatest(begun, coalesce(reached, begun)), 0)), 0),
    count(DISTINCT shard)
FROM behind
"""
_LIVES = "SELECT min(started_at), max(finished_at) FROM outcomes WHERE run_id = ? GROUP BY host, worker"


@dataclass(frozen=True, slots=True)
class Forecast:
    """A run as foretold. Seconds are of one worker per image, bytes are of all tables; `assumptions` are sentences."""

    images: int
    seconds: float
    workers: int
    masks: float
    stored_bytes: float
    requests: float
    assumptions: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Wall-clock hours with all workers busy; several do not share an image."""
        return max(self.images / self.workers, 1) * self.seconds / 3600


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that can be foretold: its model, and the values of its recipe, which may differ from its name's."""

    run_id: str
    model: str
    recipe_name: str
    values: Recipe


def plan(config: PlanConfig) -> int:
    """The subcommand. Raises ValueError when the source, model, recipe or GPU is unknown."""
    if config.actual:
        return _compare(config)
    denied: list[str] = []
    images = config.images or sum(1 for _ in list_images(config.source, denied=denied))
    tell_denied(denied)
    print("\n".join(_in_words(config, forecast(config, images, load_rates()))))
    return 0


def forecast(config: PlanConfig, images: int, rates: Rates, values: Recipe | None = None) -> Forecast:
    """The forecast for a number of images; `values` are those of the recipe if they differ from its name's."""
    name = recommended_recipe(config.model) if config.recipe == AUTO else config.recipe
    seconds, masks, assumptions = _pace(config, name, values or recipe(name), rates)
    workers = config.gpus or 1
    if config.hours:
        workers = min(images, math.ceil(images * seconds / 3600 / config.hours))
    shards = math.ceil(images / default_shard_size(images))
    engine = rates.engine
    assumptions += (
        f"{masks:,.0f} masks per image" + ("" if config.gpu == CPU else ", the average of the released data set SA-1B"),
        f"{BYTES_PER_MASK} bytes per mask as in a prototype with natural photographs, "
        f"{engine['bytes_per_image']:.0f} per image beside its masks ({rates.engine_source})",
        "every image is read twice, by ingest and by its worker; once if a manifest states content hashes",
        "workers are busy all the time: starting machines and the last shards come on top",
    )
    stored = images * (masks * BYTES_PER_MASK + engine["bytes_per_image"])
    requests = 2 * images + shards * REQUESTS_PER_SHARD
    return Forecast(images, seconds, workers, masks, stored, requests, assumptions)


def _pace(config: PlanConfig, name: str, values: Recipe, rates: Rates) -> tuple[float, float, tuple[str, ...]]:
    """Seconds per image, masks per image, and how they are known."""
    if config.gpu not in (CPU, *PEAK_TFLOPS):
        raise ValueError(f"--gpu {config.gpu} is not known; known are {', '.join((CPU, *PEAK_TFLOPS))}")
    if config.model not in rates.work:
        raise ValueError(f"--model {config.model} is not known; known are {', '.join(MODEL_NAMES)}")
    as_named = values == recipe(name)
    if as_named and (found := rates.find(config.model, name, config.gpu)):
        told = f"{found.seconds:.3g} s per image, measured on {found.machine}, {found.images} images ({found.source}"
        return found.seconds, found.masks, (f"{told}, commit {found.commit})",)
    if config.gpu == CPU:
        there = (f"{rate.model} with {rate.recipe}" for rate in rates.measured if rate.device == CPU)
        known = ", ".join(dict.fromkeys(there))
        asked = name if as_named else f"{name} and other values"
        raise ValueError(f"{config.model} with {asked} was never measured on a CPU, only {known or 'nothing'}")
    tera = 2 * rates.work[config.model].macs(values) / 1e12
    peak = PEAK_TFLOPS[config.gpu]
    seconds = tera / (peak * config.utilisation)
    told = (
        f"NOT MEASURED: {seconds:.3g} s per image = {tera:.1f} TFLOP at {100 * config.utilisation:.0f} % "
        f"(--utilisation) of the {peak} TFLOP/s that the maker of the {config.gpu} states"
    )
    return seconds, MASKS_PER_IMAGE, (told,)


def _in_words(config: PlanConfig, told: Forecast) -> list[str]:
    cost = told.hours * told.workers * config.price if config.price else None
    lines = [
        f"images    {told.images:,}",
        f"workers   {told.workers:,} x {config.gpu}, {told.workers / told.seconds:.3g} images/s together",
        f"time      {duration(3600 * told.hours)}; {told.hours * told.workers:,.1f} worker hours",
        f"cost      {cost:,.2f}" if cost is not None else "cost      give the price of a worker's hour: --price",
        f"storage   {told.stored_bytes / 1e9:,.2f} GB for {told.images * told.masks:,.0f} masks",
        f"requests  {told.requests:,.0f}, {told.requests / told.images:.2f} per image",
        "assumed:",
    ]
    return [*lines, *(f"  - {sentence}" for sentence in told.assumptions)]


def _compare(config: PlanConfig) -> int:
    """Foretold and found, side by side, for a run that has outcomes."""
    connection, rates = connect(config.source), load_rates()
    run = _past_run(config, connection, rates)
    images, done, masks, busy, shards = connection.execute(_ACTUAL, [run.run_id]).fetchall()[0]
    if not images:
        raise ValueError(f"{config.source}: run {run.run_id} has no outcomes yet")
    lives: list[tuple[datetime, datetime]] = connection.execute(_LIVES, [run.run_id]).fetchall()
    wall, workers = seconds_covered(lives), most_at_once(lives)  # a night between two commands is nobody's time
    alive = sum((ended - begun).total_seconds() for begun, ended in lives)
    told = forecast(_as_run(config, run, workers), images, rates, run.values)
    rows = [
        ("", "foretold", "found"),
        ("worker seconds per image", f"{told.seconds:.3g}", f"{busy / images:.3g}"),
        ("masks per image", f"{told.masks:.1f}", f"{masks / max(1, done):.1f}"),
        ("wall-clock", duration(3600 * told.hours), duration(wall)),
        ("busy share of the workers", "100 %", f"{100 * busy / alive:.0f} %" if alive else ""),
        ("shards", f"{math.ceil(images / default_shard_size(images)):,}", f"{shards:,}"),
    ]
    changed = "" if run.values == recipe(run.recipe_name) else " with other values"
    of = f"{plural(images, 'image')}, {plural(workers, 'worker')} at once"
    print(f"run {run.run_id}: {run.model}, {run.recipe_name}{changed}, {of}")
    print("\n".join(f"{what:26}{foretold:>12}{found:>12}" for what, foretold, found in rows))
    print("\n".join(["assumed:", *(f"  - {sentence}" for sentence in told.assumptions)]))
    return 0


def _past_run(config: PlanConfig, connection: duckdb.DuckDBPyConnection, rates: Rates) -> PastRun:
    """The run that is asked for, else the newest one that can be foretold. Raises ValueError when there is none."""
    held = connection.execute(_RUNS).fetchall()
    wanted = find_run(connection, config.run) if config.run else None
    for run_id, model, recipe_name, values in held:
        if model in rates.work and (not config.run or run_id == wanted):
            with suppress(ValueError):  # other jobs than generate have recipes of their own
                return PastRun(run_id, model, recipe_name, stored_recipe(json.loads(values)))
    asked = f"run {config.run}" if config.run else "run"
    raise ValueError(
        f"{config.source}: no {asked} by generate with a model of {', '.join(MODEL_NAMES)}; "
        f"it holds {', '.join(f'{run_id} ({model})' for run_id, model, *_ in held) or 'no run'}"
    )


def _as_run(config: PlanConfig, run: PastRun, workers: int) -> PlanConfig:
    return PlanConfig(
        config.source,
        model=run.model,
        recipe=run.recipe_name,
        gpu=config.gpu,
        gpus=workers,
        utilisation=config.utilisation,
    )
