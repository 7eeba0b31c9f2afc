"""What each worker of Ray Train does: load or resume, train, and, as the first of them, write everything down."""

from __future__ import annotations

import errno
import os
import pickle
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
import torch
from llvmlite.binding import get_host_cpu_features
from ray.util.queue import Queue

from sam_core.lanes import keep_freed_memory
from sam_core.model.checkpoint import CheckpointError
from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from sam_core.training.flops import matrix_rate, workload
from sam_core.training.subnormals import zero_subnormals
from workflows.failures import one_line
from workflows.models import Model
from workflows.storage import Store, open_store
from workflows.train import checkpoints
from workflows.train.first_model import first_model
from workflows.train.loop import MachineError, NoRoomError, Trainer, TrainingError
from workflows.train.metrics import StepMetrics, save_metrics
from workflows.train.samples import Sampler
from workflows.train.state import TrainState
from workflows.train.stream import stream
from workflows.train.team import Team, checkpoint_activations, join_encoder

_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What a worker is handed: small, can be pickled.

    told: what the command hears, of `tell`. over: not empty once no worker shall begin again.

    start: the model that training begins with, None for new weights; teacher: the one that is distilled. parts: pieces
    of a worker's share of a step whose gradients are added up. every: steps between checkpoints. sampler: in a list, so
    that Ray hands on the reference and not what it refers to. threads, loaders: of the model, and processes that make
    its samples.
    """

    root: str
    run_id: str
    config: TrainConfig
    start: Model | None
    sampler: list[ray.ObjectRef[Sampler]]
    told: Queue
    over: Queue
    parts: int
    every: int
    threads: int
    loaders: int = 1
    teacher: Model | None = None
    sharded: bool = False
    checkpoint_activations: bool = False

    def tell(self, said: Told) -> None:
        """Pickled here: the actor that keeps the queue would import torch to unpickle it, for seconds and 500 MB."""
        self.told.put(pickle.dumps(said))


@dataclass(frozen=True, slots=True)
class Told:
    """A word from the first worker to the command: a step, what a person should know, or why training stopped.

    passing: whether a disk, store or checkpoint is at fault, and not what is trained on what. alone: whether this
    worker failed while others go on, who would wait for it.
    """

    progress: StepMetrics | None = None
    advice: str = ""
    failure: str = ""
    passing: bool = False
    alone: bool = False


def work(settings: dict[str, TrainJob]) -> None:
    """The function of a `RayTrainer`. A failure that a repeat would meet again is told and ends the worker in peace,
    or, where it is no other worker's, with an error: Ray Train then ends the others, who would wait for this one until
    their time-out, and begins again, which `over` keeps them from."""
    job, context = settings["job"], ray.train.get_context()
    if not job.over.empty():
        return
    device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
    team = Team(context.get_world_rank(), context.get_world_size(), device)
    zero_subnormals()
    keep_freed_memory(any_size=True)
    torch.set_num_threads(job.threads)
    if team.rank == 0 and (advice := precision_advice(job.config, team.device)):
        job.tell(Told(advice=advice))
    try:
        _train(job, team, open_store(job.root))
    except TrainingError as error:  # of all workers at once
        job.tell(Told(failure=str(error), passing=isinstance(error, MachineError)))
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        if not (why := lasting(error, job, team)):
            raise
        passing = isinstance(error, OSError | CheckpointError)
        job.tell(Told(failure=why, passing=passing, alone=team.workers > 1))
        if team.workers > 1:
            job.over.put(True)
            raise


def lasting(error: BaseException, job: TrainJob, team: Team) -> str:
    """In one line what a repeat would meet again, such as wrong input, too little memory, a full disk or a store that
    refuses; else ""."""
    if is_out_of_memory(error):
        return memory_advice(job, team)
    full = isinstance(error, OSError) and error.errno in _LASTING
    refused = isinstance(error, PermissionError)  # of S3 without a number
    return one_line(error) if full or refused or isinstance(error, ValueError) else ""


def precision_advice(config: TrainConfig, device: str) -> str:
    """In one line what to do where this machine's CPU is slow in bfloat16; "" where it is not, or float32 is used."""
    if not config.bfloat16 or device != "cpu":
        return ""
    able = get_host_cpu_features()
    if platform.machine() != "x86_64" or able.get("avx512bf16") or able.get("amx-bf16"):
        return ""
    return (
        "this CPU has no instructions for bfloat16, in which training takes some ten times as long as in float32: "
        "--bfloat16 False"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    words = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(w in str(error).lower() for w in words)


def require_memory(job: TrainJob, team: Team, model: Sam) -> None:
    """Raises NoRoomError when not even weights, gradients, moments and average fit, before anything is allocated."""
    copies = 4 + bool(job.config.average)
    encoder = sum(p.numel() for p in model.image_encoder.parameters()) / (team.workers if job.sharded else 1)
    others = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.image_encoder.parameters())
    needed, there = 4 * copies * (encoder + others), machine_memory(team.device)
    if needed > there:
        have = f"weights and optimizer need {needed / 2**30:.1f} GiB, the device has {there / 2**30:.1f}"
        raise NoRoomError(f"{have}; {memory_advice(job, team)}")


def machine_memory(device: str) -> float:
    """Bytes of a GPU, or of the machine."""
    if device == "cpu":
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return float(torch.cuda.get_device_properties(0).total_memory)


def memory_advice(job: TrainJob, team: Team) -> str:
    """What to change when a worker has too little memory."""
    config = job.config
    images = config.images // (team.workers * job.parts)
    held = f"{images} images of {config.image_size} px with up to {config.masks_per_image} masks at once"
    ways = [
        f"--accumulate {2 * job.parts} halves the images" if images > 1 else "",
        "" if job.checkpoint_activations else "--checkpoint-activations forgets the encoder's activations",
        "" if job.sharded or team.workers == 1 else "--shard spreads the encoder over the workers",
        f"--masks-per-image {max(1, config.masks_per_image // 2)} halves the masks"
        if config.masks_per_image > 1
        else "",
    ]
    return f"too little memory for {held}; " + ", ".join(filter(None, ways))


@dataclass(slots=True)
class Notes:
    """What the first worker writes down: every step to the command, and all of them to the store now and then."""

    job: TrainJob
    team: Team
    state: TrainState
    store: Store
    rows: list[StepMetrics] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    def step(self, progress: StepMetrics) -> None:
        """Note a step; all workers call this together, because a sharded checkpoint is gathered from all."""
        self.rows.append(progress)
        if self.team.rank == 0:
            self.job.tell(Told(progress))
        if progress.step % self.job.every == 0 or progress.step == self.job.config.learning_rate.iterations:
            self.save()

    def save(self) -> None:
        """Metrics first, then the checkpoint that commits them."""
        tensors: dict[str, Any] = self.state.tensors(kept=self.team.rank == 0)
        if self.team.rank == 0:
            save_metrics(self.store, self.job.run_id, self.rows)
            checkpoints.save(self.store, self.job.run_id, tensors)
        self.rows.clear()


def _train(job: TrainJob, team: Team, store: Store) -> None:
    config = job.config
    teacher = job.teacher.load(device=team.device).sam if job.teacher else None
    model = first_model(config, job.start, teacher)
    require_memory(job, team, model)
    model = model.to(team.device).train()
    state = TrainState.fresh(model, config, team, sharded=job.sharded)
    if saved := checkpoints.load_latest(store, job.run_id):
        state.restore(saved)
    del saved  # else as large as weights, average and moments together, until training ends
    if job.checkpoint_activations:
        checkpoint_activations(model)
    encoder = join_encoder(model, team, sharded=job.sharded)
    sampler = ray.get(job.sampler[0])
    (peak,) = team.sum(matrix_rate(team.device, torch.bfloat16 if config.bfloat16 else torch.float32))
    trainer = Trainer(config, team, encoder, sampler.describe, teacher, workload(config, peak))
    steps = stream(
        job.sampler[0],
        team,
        images=config.images,
        parts=job.parts,
        first=state.step,
        last=config.learning_rate.iterations,
        loaders=job.loaders,
    )
    notes = Notes(job, team, state, store)
    trainer.run(state, steps, notes.step)
