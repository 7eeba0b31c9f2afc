"""The training job: sources in, checkpoints and a registered model out, on as many workers as there are.

    open the sources -> settle the run -> train on Ray Train -> register the model

The run's identity is its configuration, its data and the weights it begins with. How many workers share the steps is
not part of it: a run may be taken up by more or fewer.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sam_core.clip import Clip, require_clip
from sam_core.clip_transformers import load_clip
from sam_core.model.checkpoint import read_checkpoint
from sam_core.training.config import TrainConfig
from sam_core.training.distillation import require_pair
from sam_core.training.presets import train_preset
from schemas import ids
from schemas.layout import training_key
from schemas.records import TrainingRecord, from_json, to_json
from workflows.commands import TrainCommand
from workflows.devices import choose_device
from workflows.failures import last_line
from workflows.models import Model, find_model
from workflows.ray_session import CORES_PER_WORKER, start_ray
from workflows.runs import open_dataset, package_versions
from workflows.scratch import scratch_folder
from workflows.storage import Store, open_store
from workflows.torch_trainer import RayTrainer
from workflows.train import checkpoints
from workflows.train.beside import unfinished_beside
from workflows.train.first_model import require_same_model
from workflows.train.listener import Listener
from workflows.train.loop import MachineError, NoRoomError, TrainingError
from workflows.train.progress import TrainingProgress
from workflows.train.register import Finished, finished, open_validation, register
from workflows.train.samples import Sampler
from workflows.train.sources import Source, is_data_set, open_sources, place_of
from workflows.train.table_rows import WantedCrops
from workflows.train.worker import Told, TrainJob, work

WORKER_CORES = 0.5
"""What a worker on the CPU books with Ray."""
RESTARTS = 5
"""How often workers that die may begin again, one time after the other without a new checkpoint."""
NO_WEIGHTS = "0" * 64


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run, settled: what is trained, on what, from where, and under which name."""

    config: TrainConfig
    sources: tuple[Source, ...]
    start: Model | None
    teacher: Model | None
    record: TrainingRecord


def train_command(command: TrainCommand) -> int:
    """The subcommand: every stage of the preset, each beginning with the model of the one before."""
    ended = train(command)
    print(f"{ended.model_id}: {ended.summary()}")
    print(f"weights: {ended.weights}")
    return 0


def train(command: TrainCommand) -> Finished:
    """Train and register a model; a finished run is not repeated.

    Raises ValueError or OSError, one line each, when the input cannot be used or training cannot go on; what the last
    checkpoint holds is kept, and the same command goes on from there.
    """
    configs, clip = _configs(command)
    sources = open_sources(command.sources, need_masks=configs[0].aim == "segment", crops=_crops(configs[0]))
    if command.validate:
        open_validation(command.validate, lambda _: None)  # what is wrong with it shows now, not after training
    store = open_store(_place(command))
    start, teacher = _first_start(configs[0], command, clip), _teacher(configs[0])
    ended = None
    for number, config in enumerate(configs, start=1):
        record = _settled(store, _proposed(command, config, sources, start, number, teacher=teacher))
        stage = Stage(config, sources, start, teacher, record)
        ended = finished(store, record.run_id) or _train_stage(command, store, stage)
        start = ended.model(store)
    assert ended, "a preset has stages"
    return ended


def require_trainable(command: TrainCommand) -> None:
    """Raises ValueError or OSError where preset, values, CLIP and first model do not go together; opens no source."""
    configs, clip = _configs(command)
    _first_start(configs[0], command, clip)
    _teacher(configs[0])


def _configs(command: TrainCommand) -> tuple[list[TrainConfig], Clip | None]:
    """The stages of the preset with the command's values and CLIP in them."""
    stages = train_preset(command.preset)
    configs = [adjusted(config, command, apart=config.seed - stages[0].seed) for config in stages]
    clip = _clip(configs, command)
    configs = [_for_clip(config, clip) for config in configs]
    _require_parts(configs, command)
    return configs, clip


def adjusted(config: TrainConfig, command: TrainCommand, *, apart: int = 0) -> TrainConfig:
    """The preset with the command's values in it; decay steps keep their share of the run.

    apart: what a stage's seed is above the command's, as stages of one seed would see the same scenes again.
    """
    names = ("model", "teacher", "images", "masks_per_image", "image_size", "window_share", "centre_share", "bfloat16")
    given = {name: value for name in names if (value := getattr(command, name)) is not None}
    seed = config.seed if command.seed is None else command.seed + apart
    rate = config.learning_rate
    iterations = command.iterations or rate.iterations
    decay_at = tuple(round(step * iterations / rate.iterations) for step in rate.decay_at)
    base = rate.base if command.learning_rate is None else command.learning_rate
    losses = config.losses if command.chosen is None else replace(config.losses, chosen=command.chosen)
    rate = replace(rate, base=base, iterations=iterations, decay_at=decay_at)
    return replace(config, learning_rate=rate, losses=losses, seed=seed, **given)


def _clip(configs: list[TrainConfig], command: TrainCommand) -> Clip | None:
    """The command's CLIP. Raises ValueError when it is missing, unreadable or not asked for."""
    wanted = any(config.text for config in configs)
    if command.clip is None:
        if wanted:
            raise ValueError(f"preset {command.preset} needs --clip FOLDER, the CLIP that embedded the sources' crops")
        return None
    if not wanted:
        raise ValueError(f"--clip goes with text prompts, which preset {command.preset} does not train")
    return load_clip(command.clip)


def _for_clip(config: TrainConfig, clip: Clip | None) -> TrainConfig:
    """The stage, with the CLIP whose embeddings it takes."""
    if clip is None or not config.text:
        return config
    return replace(config, clip_name=clip.name, clip_sha256=clip.sha256, text_width=clip.width)


def _crops(config: TrainConfig) -> WantedCrops | None:
    return WantedCrops(config.clip_sha256, config.min_source_area) if config.text else None


def _require_parts(configs: list[TrainConfig], command: TrainCommand) -> None:
    cut = command.workers * command.accumulate
    for config in configs:
        config.sam  # noqa: B018 - raises where model and size do not go together
        if config.images % cut:
            raise ValueError(
                f"{config.images} images per step do not divide among {command.workers} workers times "
                f"{command.accumulate} parts; choose --images as a multiple of {cut}"
            )


def _place(command: TrainCommand) -> str:
    if command.out:
        return command.out
    known = next(filter(is_data_set, command.sources), None)
    if known is None:
        raise ValueError("no source is a data set, so say with --out where checkpoints and the model shall lie")
    return place_of(known)


def _first_start(config: TrainConfig, command: TrainCommand, clip: Clip | None) -> Model | None:
    """What training begins with, read once and compared with the preset and CLIP before any work."""
    name = command.start or (config.model if config.pretrained else None)
    if name is None:
        return None
    model = find_model(name)
    checkpoint = read_checkpoint(model.here())
    require_same_model(config, checkpoint.config, name)
    if checkpoint.config.text_width and clip:
        require_clip(checkpoint.config, checkpoint.metadata, clip)
    return model


def _teacher(config: TrainConfig) -> Model | None:
    """What an encoder is distilled from, read once and compared with the preset before any work."""
    if not config.teacher:
        return None
    model = find_model(config.teacher)
    require_pair(config.sam, read_checkpoint(model.here()).config)
    return model


def _proposed(
    command: TrainCommand,
    config: TrainConfig,
    sources: tuple[Source, ...],
    start: Model | None,
    stage: int,
    *,
    teacher: Model | None = None,
) -> TrainingRecord:
    data = {
        source.name: {"weight": source.weight, "images": len(source), "sha256": source.sha256} for source in sources
    }
    # Which source a sample is drawn from depends on their order; that of their names goes without saying.
    order = {} if list(data) == sorted(data) else {"order": list(data)}
    taught = {"teacher_sha256": teacher.sha256} if teacher else {}
    plain = json.loads(json.dumps(asdict(config)))
    # What is not asked for goes without saying, so that a choice that a newer version adds leaves older runs theirs.
    asked = {name: value for name, value in plain.items() if value is not None}
    unnamed = asked | {"clip_name": ""}  # a CLIP is its hash, wherever its folder lies
    decided = ids.canonical_json({"config": unnamed, "data": data} | order | taught)
    return TrainingRecord(
        run_id=ids.run_id(start.sha256 if start else NO_WEIGHTS, decided, name=command.run),
        name=command.run,
        created_at=datetime.now(UTC),
        preset=command.preset,
        stage=stage,
        parent=start.model_id if start else None,
        parent_sha256=start.sha256 if start else None,
        config=plain,
        data=data,
        versions=package_versions(),
        host=socket.gethostname(),
    )


def _settled(store: Store, proposed: TrainingRecord) -> TrainingRecord:
    """The record that the data set holds for this run; the first one stays. Of a run that begins it is said what it
    begins beside."""
    open_dataset(store)
    key, data = training_key(proposed.run_id), to_json(proposed).encode()
    held = store.put_if_absent(key, data)
    if held == data:
        for line in unfinished_beside(store, proposed):
            print(line, file=sys.stderr)
    return from_json(TrainingRecord, held, where=f"{store.root}/{key}")


def _train_stage(command: TrainCommand, store: Store, stage: Stage) -> Finished:
    gpus = choose_device(command.device) == "cuda"
    start_ray()
    _require_room(command, gpus=gpus)
    told, over = _queue_here(), _queue_here()
    share = _fair_share(command.workers, gpus=gpus)
    job = TrainJob(
        root=store.root,
        run_id=stage.record.run_id,
        config=stage.config,
        start=stage.start,
        teacher=stage.teacher,
        sampler=[ray.put(Sampler(stage.sources, stage.config))],
        told=told,
        over=over,
        parts=command.accumulate,
        every=command.save_every,
        threads=command.threads or share,
        loaders=share if gpus else 1,
        sharded=command.shard,
        checkpoint_activations=command.checkpoint_activations,
    )
    _fit_on(job, store, command.workers, gpus=gpus)
    return register(store, stage.record, stage.config, validate=command.validate, round=command.round)


def _queue_here() -> Queue:
    """A queue that lives on the command's own machine: another one may be lost, and training goes on without it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


class LostError(MachineError):
    """The workers died too often without a word."""


def _fit_on(job: TrainJob, store: Store, workers: int, *, gpus: bool) -> None:
    """Run the workers to the end, however often some are lost, as on machines that are taken away, while new
    checkpoints come. Raises as `_fit`."""
    while True:
        before = checkpoints.steps(store, job.run_id)[-1:]
        try:
            return _fit(job, workers, gpus=gpus)
        except LostError:
            reached = checkpoints.steps(store, job.run_id)[-1:]
            if reached == before:
                raise
            died = f"the workers died {RESTARTS + 1} times"
            print(f"{died}; going on from the checkpoint of step {reached[0]}", file=sys.stderr)


def _fit(job: TrainJob, workers: int, *, gpus: bool) -> None:
    """Run the workers to the end. Raises TrainingError when they said why they stopped, MachineError where that is no
    matter of data, LostError where they died too often."""
    with scratch_folder() as scratch:
        trainer = RayTrainer(
            work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=_scaling(workers, gpus=gpus),
            run_config=RunConfig(
                name=job.run_id, storage_path=str(scratch), failure_config=FailureConfig(max_failures=RESTARTS)
            ),
        )
        last = job.config.learning_rate.iterations
        with (
            TrainingProgress(last, job.config.images) as progress,
            Listener(job.told, progress, trainer.give_up) as listener,
        ):
            try:
                trainer.fit()
            except Exception as error:  # Ray Train wraps whatever a worker died of in classes of its own
                if told := listener.failure():
                    raise _stopped(job, told) from error
                raise LostError(f"the workers were given up: {last_line(error)}") from error
    if told := listener.failure():
        raise _stopped(job, told)


def _scaling(workers: int, *, gpus: bool) -> ScalingConfig:
    """One worker for each GPU, near each other; on CPUs over all machines, as each has its share of all their cores."""
    booked = {"GPU": 1.0} if gpus else {"CPU": WORKER_CORES}
    placed = "PACK" if gpus else "SPREAD"
    return ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker=booked, placement_strategy=placed)


def _stopped(job: TrainJob, told: Told) -> TrainingError:
    known = checkpoints.steps(open_store(job.root), job.run_id)
    kept = f"the checkpoint of step {known[-1]} is kept" if known else "there was no checkpoint yet"
    return (MachineError if told.passing else TrainingError)(f"{told.failure}; {kept}")


def _fair_share(workers: int, *, gpus: bool) -> int:
    """Threads of a worker: its share of all cores, or of half of its machine's beside a GPU, where loaders have the
    other half and machines without one help nobody. The GPU machine with the fewest sets the share.

    Threads wait for the slowest of them: where other programs hold a core, fewer `--threads` are faster. A cluster that
    has no machines yet says nothing of those that it will start."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus:
        with_gpus = [has for has in machines if has.get("GPU", 0) >= 1]
        shares = [int(has.get("CPU", 0) // (2 * min(has["GPU"], workers))) for has in with_gpus]
        return max(1, min(shares, default=CORES_PER_WORKER))
    cores = [int(has.get("CPU", 0)) for has in machines]
    return max(1, min(sum(cores) // workers, max(cores))) if sum(cores) else CORES_PER_WORKER


def _require_room(command: TrainCommand, *, gpus: bool) -> None:
    """Raises NoRoomError when the workers do not fit; a cluster that was told their device may yet start machines."""
    if command.device != "auto" and os.environ.get("RAY_ADDRESS"):
        return
    resources = ray.cluster_resources()
    cores, wanted = resources.get("CPU", 0), 0 if gpus else WORKER_CORES * command.workers
    if gpus and command.workers > resources.get("GPU", 0):
        raise NoRoomError(f"--workers {command.workers}, but the cluster has {int(resources.get('GPU', 0))} GPUs")
    if wanted > cores:
        raise NoRoomError(f"--workers {command.workers} need {wanted:g} CPU cores, the cluster has {cores:g}")
