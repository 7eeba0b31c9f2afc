"""The state machine: a round is a list of steps; one that has written its outcome is never done again.

    stage -> prefill -> annotate -> snapshot -> train -> evaluate -> gate -> queue

`rounds/<n>/<step>.json` holds what a step came to and is put only if absent, so that of two drivers one goes on and the
other stops; `rounds/<n>.json` holds all steps of round n so far and is replaced as a whole after each. Nothing else is
state: a killed engine is given the same command and goes on with the first step that has no outcome.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import duckdb

from schemas.layout import round_key, step_key
from schemas.records import RoundRecord, from_json, to_json
from workflows.models import Model, find_model, stored_model
from workflows.rounds.config import EngineConfig, SimulationSettings, StageSettings, as_document
from workflows.rounds.detector_job import DetectorJob, train_on_ray
from workflows.rounds.metrics import metrics_of
from workflows.rounds.outcomes import (
    Annotated,
    Gated,
    Kind,
    Outcome,
    Prefilled,
    Queued,
    Staged,
    Trained,
    from_details,
    to_details,
)
from workflows.rounds.pictures import Truth
from workflows.rounds.simulated import SimulationJob, simulate_on_ray
from workflows.rounds.training import require_trainings
from workflows.sql import connect
from workflows.storage import Store, open_store
from workflows.train.register import Finished
from workflows.train.sources import open_sources

BEGUN, FINISHED = "begun", "finished"
_FREE = ("workers", "threads", "save_every", "truth")
"""A round goes on with others: of a training, as where a cluster has no room for so many workers; of the simulation, as
where it was begun for people, and nobody looked whether the true masks are there."""


class WaitingError(Exception):
    """A step that people have to finish first; the message says how."""


@dataclass(frozen=True, slots=True)
class Means:
    """Who does the long work of the steps: workers on Ray. Tests put something quicker here."""

    train: Callable[..., Finished]
    train_detector: Callable[[DetectorJob], None] = train_on_ray
    annotate: Callable[[SimulationJob, list[dict[str, Any]]], None] = simulate_on_ray


@dataclass(frozen=True)
class Engine:
    """What every step may use: the configuration, the data set, and who annotates."""

    config: EngineConfig
    store: Store
    means: Means
    simulate: bool

    def connect(self) -> duckdb.DuckDBPyConnection:
        """The data set as it is now."""
        return connect(self.config.dataset)

    @cached_property
    def held_out(self) -> Truth:
        return Truth(self.config.held_out)

    @cached_property
    def truth(self) -> Truth:
        assert self.config.simulation, "checked before the first step"
        return Truth(self.config.simulation.truth, empty=True)

    @cached_property
    def first_model(self) -> Model:
        return find_model(self.config.model)

    def model(self, model_id: str) -> Model:
        """A model of an earlier step. Raises FileNotFoundError when its weights are gone."""
        if model_id == self.first_model.model_id:
            return self.first_model
        try:
            return stored_model(self.store, model_id)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the weights of {model_id}, with which the rounds go on, are gone: they lie neither in "
                f"{self.store.root}/models nor in {self.config.model}, which is {self.first_model.model_id}; "
                "put that file back"
            ) from error

    def read(self, number: int) -> RoundRecord | None:
        """The record of a round; None before it has begun."""
        key = round_key(number)
        try:
            return from_json(RoundRecord, self.store.get(key), where=f"{self.store.root}/{key}")
        except FileNotFoundError:
            return None

    def begin(self, record: RoundRecord) -> RoundRecord:
        """The record that the data set holds for a round, after writing this one if there was none."""
        key = round_key(record.number)
        held = self.store.put_if_absent(key, to_json(record).encode())
        return from_json(RoundRecord, held, where=f"{self.store.root}/{key}")

    def write(self, record: RoundRecord) -> None:
        self.store.put(round_key(record.number), to_json(record).encode())


@dataclass(frozen=True)
class Round:
    """A round as far as it has got, and those before it."""

    engine: Engine
    settings: StageSettings
    record: RoundRecord
    earlier: Sequence[RoundRecord] = field(default_factory=tuple)

    @property
    def number(self) -> int:
        return self.record.number

    def find(self, kind: type[Kind]) -> Kind | None:
        """What a step of this round came to; None where it is not done, or not part of the stage."""
        return from_details(kind, self.record.details)

    def outcome(self, kind: type[Kind]) -> Kind:
        """What an earlier step of this round came to."""
        found = self.find(kind)
        assert found is not None, f"{kind.step} comes before"
        return found

    @property
    def next_settings(self) -> StageSettings | None:
        plan = self.engine.config.plan
        return plan[self.number] if self.number < len(plan) else None

    @property
    def distrusted(self) -> tuple[int, ...]:
        """Earlier rounds whose masks are not trained on."""
        gated = [(record.number, from_details(Gated, record.details)) for record in self.earlier]
        return tuple(number for number, found in gated if found and not found.trusted)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it writes, and the function that does it."""

    kind: type[Outcome]
    work: Callable[[Round], Outcome]

    @property
    def name(self) -> str:
        return self.kind.step


Steps = Mapping[str, Sequence[Step]]


def run_rounds(engine: Engine, steps: Steps, *, most: int | None = None, tell: Callable[[str], None] = print) -> bool:
    """Do what is not done, at most so many steps; whether all rounds are finished.

    Raises WaitingError where people have to work first; ValueError or OSError, one line, when a step cannot be done.
    """
    done = 0
    earlier: list[RoundRecord] = []
    for number, settings in enumerate(engine.config.plan, start=1):
        current = _begun(engine, number, settings, earlier)
        if current.record.state == FINISHED:
            earlier.append(current.record)
            continue
        for step in steps[settings.stage]:
            if step.name in current.record.details:
                continue
            if done == most:
                return False
            current = replace(current, record=_take(step, current))
            done += 1
            tell(f"round {number} ({settings.stage}): {step.name} done{_remark(current, step)}")
        current = replace(current, record=replace(current.record, state=FINISHED, finished_at=datetime.now(UTC)))
        engine.write(current.record)
        earlier.append(current.record)
    return True


def _take(step: Step, current: Round) -> RoundRecord:
    """Do one step and note what it came to, as the first driver that did it said."""
    engine, key = current.engine, step_key(current.number, step.name)
    try:
        said = json.loads(engine.store.get(key))  # of a driver that could not note it any more
    except FileNotFoundError:
        said = _do(step, current, key)
    outcome = from_details(step.kind, {step.name: said["outcome"]})
    assert outcome is not None
    record = noted(current, outcome, said["seconds"])
    engine.write(record)
    return record


def _do(step: Step, current: Round, key: str) -> dict[str, Any]:
    """Do one step and settle its outcome. Raises ValueError when another driver was first."""
    store, started = current.engine.store, time.perf_counter()
    outcome = to_details(step.work(current))
    seconds = round(time.perf_counter() - started, 2)
    driver = f"process {os.getpid()} on {socket.gethostname()}"
    mine = json.dumps({"driver": driver, "seconds": seconds, "outcome": outcome}, allow_nan=False).encode()
    held: dict[str, Any] = json.loads(settled := store.put_if_absent(key, mine))
    if settled != mine:
        raise ValueError(
            f"round {current.number}: {held['driver']} works on {store.root} too and has done {step.name} meanwhile; "
            "one driver is enough, and this one stops"
        )
    return held


def noted(current: Round, outcome: Outcome, seconds: float) -> RoundRecord:
    """The record with one more outcome: everything in it follows from the outcomes, the clock aside."""
    record = current.record
    spent = {**dict(record.details.get("seconds", {})), outcome.step: seconds}  # type: ignore[call-overload]
    details = {**record.details, outcome.step: to_details(outcome), "seconds": spent}
    record = replace(record, details=details, state=outcome.step)
    match outcome:
        case Staged():
            record = replace(record, model_before=outcome.model_id)
        case Trained():
            record = replace(record, model_after=outcome.model_id)
        case Gated():
            record = replace(record, promoted=outcome.promoted, reason=outcome.reason)
        case _:
            pass
    return replace(record, metrics=metrics_of(details, current.engine.config.prices))


def _begun(engine: Engine, number: int, settings: StageSettings, earlier: Sequence[RoundRecord]) -> Round:
    """A round as its record has it, or a new one. Raises ValueError when engine.yaml changed in the middle of it."""
    record = engine.read(number) or engine.begin(_new(engine, number, settings, earlier))
    if record.stage != settings.stage and not record.details and not engine.store.exists(step_key(number, Staged.step)):
        record = replace(record, stage=settings.stage)  # nothing was settled, as where no image was left
        engine.write(record)
    current = Round(engine, settings, record, tuple(earlier))
    require_same(current)
    return current


def _new(engine: Engine, number: int, settings: StageSettings, earlier: Sequence[RoundRecord]) -> RoundRecord:
    return RoundRecord(
        number=number,
        stage=settings.stage,
        state=BEGUN,
        started_at=datetime.now(UTC),
        finished_at=None,
        model_before=last_model(engine, earlier),
        model_after=None,
        promoted=None,
        reason=None,
        metrics={},
        details={},
    )


def last_model(engine: Engine, earlier: Sequence[RoundRecord]) -> str:
    """Id of the last model that was promoted, else of the one that the engine begins with."""
    promoted = [record.model_after for record in earlier if record.promoted and record.model_after]
    return promoted[-1] if promoted else engine.first_model.model_id


def require_same(current: Round) -> None:
    """Raises ValueError where engine.yaml changed in the middle of a round."""
    staged, record = current.find(Staged), current.record
    if record.stage != current.settings.stage:
        raise ValueError(
            f"round {record.number} is one of {record.stage}, engine.yaml has {current.settings.stage} in its place: "
            "`rounds` of a stage counts those that are done or begun"
        )
    if record.state == FINISHED or staged is None:
        return
    if changed := list(_changes(decisive(staged.settings), round_settings(current))):
        raise ValueError(
            f"round {record.number} was begun with other settings than engine.yaml has now: {', '.join(changed)}; put "
            "the old values back until it is finished"
        )


def _changes(begun: Any, now: Any, place: str = "") -> Iterator[str]:
    """In words, every setting of a round that has another value now; those that only one version knows are none."""
    if isinstance(begun, Mapping) and isinstance(now, Mapping):
        for name in (name for name in begun if name in now):
            yield from _changes(begun[name], now[name], f"{place}.{name}".lstrip("."))
    elif begun != now:
        yield f"{place} was {json.dumps(begun)} and is {json.dumps(now)}"


def round_settings(current: Round) -> dict[str, object]:
    """What of engine.yaml decides how a round goes on."""
    whole = as_document(current.engine.config)
    names = ("images", "held_out", "model", "training", "detector", "evaluation", "gate", "simulation", "seed")
    return decisive({name: whole[name] for name in names} | {"stage": as_document(current.settings)})


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a round without those that are free. A section `simulation` may come within a round: without
    one, evaluations have the pace of one that says nothing."""
    simulation = settings.get("simulation") or as_document(SimulationSettings(truth=""))
    return _without_free({**settings, "simulation": simulation})


def _without_free(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_free(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in _FREE
    }


def queue_settings(config: EngineConfig, settings: StageSettings) -> dict[str, object]:
    """What of engine.yaml decides which images a round gets."""
    asked = {"images": settings.images, "policy": settings.policy}
    return asked | {
        "source": config.images,
        "held_out": config.held_out,
        "candidates": config.candidates,
        "seed": config.seed,
    }


def next_queue(now: Round) -> tuple[str, ...]:
    """The images that the round before chose for this one; none for the first round, for one that was not foreseen, or
    where engine.yaml asks for others since."""
    found = from_details(Queued, now.earlier[-1].details) if now.earlier else None
    return found.queue if found and found.asked == queue_settings(now.engine.config, now.settings) else ()


def _remark(current: Round, step: Step) -> str:
    if step.kind is Gated:
        gated = current.outcome(Gated)
        return f": {'promoted' if gated.promoted else 'not promoted'}, {gated.reason}"
    if step.kind is Prefilled:
        prefilled = current.outcome(Prefilled)
        return f": {prefilled.masks} masks" if prefilled.threshold is not None else ": nothing, no mask is sure enough"
    if step.kind is Annotated:
        annotated = current.outcome(Annotated)
        return f": {annotated.masks} masks on {annotated.images} images"
    return ""


def open_engine(config: EngineConfig, means: Means, *, simulate: bool) -> Engine:
    """Raises ValueError when simulated annotators are asked for without true masks, when a source to train on beside
    the rounds' masks cannot be read, or when a training could not begin: mistakes of engine.yaml, not data of a round
    that turned out bad."""
    if simulate and config.simulation is None:
        raise ValueError("--simulate needs a section `simulation` in engine.yaml, whose `truth` names the true masks")
    own = [stage.training for stage in config.stages if stage.training]
    for also in {training.also for training in (config.training, *own) if training.also}:
        open_sources(also, need_masks=True)
    engine = Engine(config, open_store(config.dataset), means, simulate)
    require_trainings(config, engine.first_model)
    return engine
