"""What a round trains and what it begins with; and whether that can be done, before anybody has worked for it."""

from __future__ import annotations

from dataclasses import fields

from sam_core.presets import STAGE_THREE
from sam_core.training.presets import train_preset
from workflows.commands import TrainCommand
from workflows.models import Model, find_model
from workflows.rounds.config import EngineConfig, TrainingSettings
from workflows.train.job import require_trainable

SEEDS_APART = 100
"""Between the seeds of two rounds: the stages of a preset have neighbouring ones."""


def training_command(config: EngineConfig, settings: TrainingSettings, model: Model, number: int) -> TrainCommand:
    """The training of a round that began with this model: further from it, or from another one that the settings name.

    Raises ValueError where that other one is not found.
    """
    named = {field.name for field in fields(settings)} - {"also", "model", "seed"}
    given = {name: getattr(settings, name) for name in named}
    first = model if settings.model in (None, model.name) else find_model(str(settings.model))
    return TrainCommand(
        sources=(f"{config.dataset}@round-{number}", *settings.also),
        out=config.dataset,
        start=first.path,
        run=f"round-{number}",
        round=number,
        model=first.name.removesuffix(STAGE_THREE),  # the preset says how many layers there are
        seed=seed_of(settings, number),
        **given,
    )


def seed_of(settings: TrainingSettings, number: int) -> int:
    """The seed of a round's training, from round 1 on: of one seed every round would see the very scenes and clicks
    of the rounds before, from a model that has seen them already."""
    first = train_preset(settings.preset)[0].seed if settings.seed is None else settings.seed
    return first + SEEDS_APART * (number - 1)


def settings_of(config: EngineConfig, number: int) -> TrainingSettings | None:
    """How round `number`, from 1, trains; None where the automatic stage has no training of its own."""
    stage = config.plan[number - 1]
    return stage.training if stage.stage == "automatic" else stage.training or config.training


def require_trainings(config: EngineConfig, model: Model) -> None:
    """Raises ValueError for a training of engine.yaml that could not begin: that is no fault of a round's data."""
    tried: list[TrainingSettings] = []
    for number in range(1, len(config.plan) + 1):
        settings = settings_of(config, number)
        if settings is not None and settings not in tried:
            tried.append(settings)
            try:
                require_trainable(training_command(config, settings, model, number))
            except ValueError as error:
                raise ValueError(f"the engine's training of round {number}: {error}") from error
