"""What comes next, in words: of people, or of the same command."""

from __future__ import annotations

import shlex

from workflows.rounds.engine import FINISHED, Engine, Round, require_same
from workflows.rounds.outcomes import Annotated
from workflows.rounds.steps import STEPS, what_people_do


def command_of(path: str) -> str:
    """The command that goes on with the rounds of an engine.yaml, as a shell takes it."""
    return f"`sam-engine rounds run {shlex.quote(path)}`"


def after_people(path: str) -> str:
    """What is to be done once people have worked."""
    return f"when each is finished or skipped, {command_of(path)} goes on"


def outlook(engine: Engine, path: str) -> str:
    """What the first round that is not finished waits for. Raises OSError where its model is gone."""
    for number, settings in enumerate(engine.config.plan, start=1):
        record = engine.read(number)
        if record is None:
            return f"round {number} ({settings.stage}) comes next: {command_of(path)} begins it"
        if record.state != FINISHED:
            return _within(Round(engine, settings, record), path)
    return "all rounds are done"


def _within(now: Round, path: str) -> str:
    """What comes next in a round that has begun."""
    try:
        require_same(now)
    except ValueError as error:
        return str(error)
    left = [step for step in STEPS[now.settings.stage] if step.name not in now.record.details]
    if left and left[0].kind is Annotated:
        if wanted := what_people_do(now):
            return f"{wanted}\n{after_people(path)}"
        return f"round {now.number}: all images are finished or skipped, {command_of(path)} goes on"
    does = left[0].name if left else "its end"
    return f"round {now.number} goes on with {does}: {command_of(path)} does it, if none is at work already"
