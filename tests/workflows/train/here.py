"""The training job without Ray: what it ends with must not depend on where it ran."""

from __future__ import annotations

from workflows.commands import TrainCommand
from workflows.models import find_model
from workflows.storage import open_store
from workflows.train import checkpoints, job
from workflows.train.first_model import first_model
from workflows.train.loop import Made, Trainer
from workflows.train.metrics import StepMetrics, save_metrics
from workflows.train.register import Finished, finished, register
from workflows.train.samples import Sampler, numbers_of
from workflows.train.sources import open_sources
from workflows.train.state import TrainState
from workflows.train.team import Team, join_encoder


def train_here(command: TrainCommand) -> Finished:
    """What `workflows.train.job.train` does with one worker, for presets of one stage that fine-tune a model."""
    (config,) = (job.adjusted(preset, command) for preset in job.train_preset(command.preset))
    sources = open_sources(command.sources, need_masks=True)
    store, start = open_store(str(command.out)), find_model(str(command.start))
    record = job._settled(store, job._proposed(command, config, sources, start, 1))
    if done := finished(store, record.run_id):
        return done
    state = TrainState.fresh(first_model(config, start).train(), config)
    sampler = Sampler(sources, config)
    trainer = Trainer(config, Team(), join_encoder(state.model, Team(), sharded=False), sampler.describe)
    steps = (
        Made([sampler.batch(numbers_of(step, config.images, rank=0, workers=1, part=0, parts=1))])
        for step in range(config.learning_rate.iterations)
    )
    rows: list[StepMetrics] = []
    trainer.run(state, steps, rows.append)
    checkpoints.save(store, record.run_id, state.tensors())
    save_metrics(store, record.run_id, rows)
    return register(store, record, config, validate=command.validate, round=command.round)
