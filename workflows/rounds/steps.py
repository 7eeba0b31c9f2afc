"""What each step of a round does. A step reads what earlier steps came to, and returns what it came to itself.

Whatever it writes besides has a name that follows from the round, so a step that was killed can simply be done again.
"""

from __future__ import annotations

from functools import partial

from sam_core.detector import ObjectDetector
from sam_core.model.checkpoint import CheckpointError
from sam_core.predict import look_at
from sam_core.recipes import recipe
from schemas.catalog import QueryError
from schemas.ids import content_hash
from schemas.layout import snapshot_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import SNAPSHOT, Stage, Status
from workflows.commands import GenerateConfig
from workflows.convert import ImageResult
from workflows.failures import one_line, tell_left_out
from workflows.generate import generate
from workflows.images import UNREADABLE, ImageError
from workflows.models import keep_packaged
from workflows.rounds import people
from workflows.rounds.candidates import annotated_held_out, choose_queue, note_held_out
from workflows.rounds.config import SimulationSettings
from workflows.rounds.detector_job import DetectorJob, load_detector
from workflows.rounds.engine import (
    Round,
    Step,
    Steps,
    WaitingError,
    decisive,
    next_queue,
    queue_settings,
    round_settings,
)
from workflows.rounds.evaluate import Pace, find_masks, measure, require_measurable, write_held_out
from workflows.rounds.gate import gate
from workflows.rounds.outcomes import (
    Annotated,
    Evaluated,
    Figures,
    Gated,
    Generated,
    Prefilled,
    Queued,
    Snapshot,
    Staged,
    Trained,
    from_details,
)
from workflows.rounds.pictures import Desk, require_some
from workflows.rounds.proposals import Judged, as_generation, choose_threshold, judge, propose, together
from workflows.rounds.simulated import SimulationJob, left_to_do, true_rows
from workflows.rounds.small_run import write_run
from workflows.rounds.training import settings_of, training_command
from workflows.runs import open_dataset, run_record
from workflows.stored_tables import parse_table
from workflows.train.loop import MachineError, NoRoomError

_STANDING = """
SELECT mask_id, revision, image_id, round, stage, height, width, rle FROM annotations
WHERE stage <> 'audit' AND NOT list_contains(?::INTEGER[], coalesce(round, 0))
    AND NOT list_contains(?::TEXT[], image_id)
ORDER BY image_id, mask_id
"""
_MEASURED_BY = ("held_out", "evaluation", "simulation", "seed")
"""Settings that figures of a model depend on."""
_GENERATED = """
SELECT count(*) FILTER (status = 'ok'), coalesce(sum(n_masks), 0)::BIGINT FROM outcomes WHERE run_id = ?
"""


def stage(now: Round) -> Staged:
    """Settle model and queue, and keep a model that another version of this package may lack. The first round also
    looks whether models can be measured on the held-out images, before anybody works for it. That simulated annotators
    have true masks is seen here too: engine.yaml could not be mended in the middle of the round any more."""
    engine = now.engine
    if now.number == 1:
        require_measurable(engine.held_out, engine.config.evaluation)
        open_dataset(engine.store)
    keep_packaged(engine.store, engine.model(now.record.model_before), now.record.started_at)
    queue = () if now.settings.stage == "automatic" else next_queue(now) or _first_queue(now)
    if engine.simulate and queue:
        true_rows(queue, engine.connect(), engine.truth)
    return Staged(model_id=now.record.model_before, queue=queue, settings=round_settings(now))


def _first_queue(now: Round) -> tuple[str, ...]:
    """The images of a round for which no earlier one chose any. Raises ValueError when none is left."""
    engine, seed = now.engine, now.engine.config.seed + now.number - 1
    if queue := choose_queue(engine, now.settings, engine.model(now.record.model_before), seed=seed):
        return queue
    raise ValueError(
        f"round {now.number}: no image is left to annotate: each is finished, held out, or left out as it cannot "
        f"be read; add images to {engine.config.images}, bring back what cannot be read, or "
        "take fewer rounds, fewer images in each"
    )


def prefill(now: Round) -> Prefilled:
    """Train the detector on all masks so far and prefill the queue with the masks that are probably right."""
    engine, settings = now.engine, now.engine.config.detector
    model = engine.model(now.record.model_before)
    connection, threads = engine.connect(), engine.config.threads
    held_out = annotated_held_out(engine, connection)
    engine.means.train_detector(
        DetectorJob(engine.store.root, now.number, model, settings.fit, now.distrusted, held_out, threads)
    )
    desk = Desk(engine.store, model, connection)
    detector = load_detector(engine.store, now.number, desk.sam.config, width=settings.fit.width)
    choosing, checking = _judged(now, desk, detector)
    threshold = choose_threshold(choosing, precision=settings.precision, iou=settings.iou)
    precision, recall = checking.precision_recall(threshold, settings.iou)
    results = [_prefilled(now, desk, detector, image_id, threshold) for image_id in now.outcome(Staged).queue]
    gone = [str(result.error_message) for result in results if result.error_class == UNREADABLE]
    require_some("images to annotate", len(results), gone)
    run = run_record(
        name=f"prefill-round-{now.number}",
        begun=now.record.started_at,
        stage=Stage.SEMI_AUTOMATIC,
        round=now.number,
        model_name=model.name,
        model_sha256=model.sha256,
        recipe_name="detector",
        recipe={"threshold": threshold},
        kernels="detector",
    )
    return Prefilled(
        run_id=write_run(engine.store, run, results).run_id,
        threshold=threshold,
        precision=precision,
        recall=recall,
        held_out_masks=checking.objects,
        images=len(results),
        masks=sum(result.n_masks for result in results),
    )


def annotate(now: Round) -> Annotated:
    """Let simulated annotators do the queue, or see whether people have. Raises WaitingError while they have not."""
    engine, work = now.engine, assignment(now)
    if engine.simulate:
        assert engine.config.simulation, "checked when the engine was opened"
        model = engine.model(now.record.model_before)
        job = SimulationJob(engine.store.root, model, engine.config.simulation, work, engine.config.threads)
        if todo := left_to_do(job, engine.store, engine.connect(), engine.truth):
            engine.means.annotate(job, todo)
    elif wanted := what_people_do(now):
        raise WaitingError(wanted)
    return people.told(engine.connect(), work)


def assignment(now: Round) -> people.Assignment:
    """What the annotators of a round that has been staged, and prefilled where it is to be, are given."""
    prefilled = now.find(Prefilled)
    run_id = prefilled.run_id if prefilled else None
    queue, begun = now.outcome(Staged).queue, now.record.started_at
    return people.Assignment(now.number, now.settings.table_stage, queue, run_id, begun)


def what_people_do(now: Round) -> str:
    """How many images a round waits for, and the command that lets people annotate them; empty when none is left."""
    engine, work = now.engine, assignment(now)
    left = len(people.unfinished(engine.connect(), work))
    if not left:
        return ""
    command = people.invitation(engine.config.dataset, engine.model(now.record.model_before).path, work)
    return (
        f"round {now.number} waits for {left} of {len(work.queue)} images to be annotated; people do it in the app of "
        f"this command:\n  {command}"
    )


def snapshot(now: Round) -> Snapshot:
    """Freeze the human masks that stand, those of rounds that are not trusted and of held-out images left out. What is
    frozen stays: another driver may have settled this step by now, and count on what it froze."""
    connection = now.engine.connect()
    held_out = annotated_held_out(now.engine, connection)
    tell_left_out([f"masks of {image}: it is held out" for image in held_out])
    standing = connection.sql(_STANDING, params=[list(now.distrusted), list(held_out)]).to_arrow_table()
    key = snapshot_key(now.number)
    proposed = to_parquet_bytes(standing.replace_schema_metadata(SNAPSHOT.metadata))
    data = now.engine.store.put_if_absent(key, proposed)
    rows = parse_table(data, where=f"{now.engine.store.root}/{key}")
    images = len(rows["image_id"].unique())
    return Snapshot(key=key, sha256=content_hash(data), images=images, masks=len(rows), left_out=now.distrusted)


def train(now: Round) -> Trained:
    """Train the round's model on its snapshot. Data that cannot be trained on is an outcome, not an end."""
    frozen = now.outcome(Snapshot)
    settings = settings_of(now.engine.config, now.number)
    if settings is None:
        return Trained(failure="the automatic stage has no settings for training: the model before makes its masks")
    try:
        _require_intact(now, frozen)
        model = now.engine.model(now.record.model_before)
        finished = now.engine.means.train(training_command(now.engine.config, settings, model, now.number))
    except (NoRoomError, MachineError, CheckpointError, QueryError):  # machines, disks, stores: it is tried again
        raise
    except ValueError as error:
        return Trained(failure=one_line(error))
    return Trained(run_id=finished.run_id, model_id=finished.model_id)


def evaluate(now: Round) -> Evaluated:
    """Measure the new model on held-out images, and the old one where no earlier round has."""
    engine, trained, truth = now.engine, now.outcome(Trained), now.engine.held_out.sha256
    settings, pace = engine.config.evaluation, _pace(engine.config.simulation)
    before = _measured(now)
    if before is None:
        model = engine.model(now.record.model_before)
        found = find_masks(model, engine.held_out, settings)
        before = measure(model, engine.held_out, settings, pace, found, seed=engine.config.seed)
    if trained.model_id is None:
        return Evaluated(before=before, after=None, run_id=None, held_out=truth)
    model = engine.model(trained.model_id)
    note_held_out(engine.held_out, settings.recall_images, engine.store)
    found = find_masks(model, engine.held_out, settings)
    after = measure(model, engine.held_out, settings, pace, found, seed=engine.config.seed)
    run_id = write_held_out(engine.store, model, found, settings, round=now.number, begun=now.record.started_at)
    return Evaluated(before=before, after=after, run_id=run_id, held_out=truth)


def promote(now: Round) -> Gated:
    """Ask the gate."""
    return gate(now.outcome(Trained), now.outcome(Evaluated), now.engine.config.gate)


def queue(now: Round) -> Queued:
    """Choose the next round's images, by that round's policy and with the model that it will begin with."""
    following = now.next_settings
    if following is None or following.stage == "automatic":
        return Queued(queue=())
    engine, seed = now.engine, now.engine.config.seed + now.number
    chosen = choose_queue(engine, following, engine.model(_model_after(now)), seed=seed)
    return Queued(queue=chosen, asked=queue_settings(engine.config, following))


def make_all(now: Round) -> Generated:
    """Hand over to `generate`: the stage's model and recipe on every image of the source."""
    engine, model_id, name = now.engine, _model_after(now), f"round-{now.number}"
    generate(
        GenerateConfig(
            source=engine.config.images,
            dataset=engine.config.dataset,
            model=engine.model(model_id).path,
            recipe=now.settings.recipe,
            thresholds=recipe(now.settings.recipe),
            run=name,
            round=now.number,
        )
    )
    connection = engine.connect()
    named = "SELECT run_id FROM runs WHERE name = ? AND model_id = ?"
    ((run_id,),) = connection.execute(named, [name, model_id]).fetchall()
    ((images, masks),) = connection.execute(_GENERATED, [run_id]).fetchall()
    return Generated(run_id=run_id, images=images, masks=masks)


def _model_after(now: Round) -> str:
    """Id of the model that the rounds go on with."""
    trained = now.outcome(Trained).model_id
    return trained if trained and now.outcome(Gated).promoted else now.record.model_before


def _judged(now: Round, desk: Desk, detector: ObjectDetector) -> tuple[Judged, Judged]:
    """Proposals on held-out images against the truth: those that choose the threshold, and those that check it."""
    config = now.engine.config
    halves: list[list[Judged]] = [[], []]
    for place, image in enumerate(now.engine.held_out.first(2 * config.evaluation.images)):
        look, size = look_at(desk.sam, image.image), image.masks.size
        found = propose(desk.sam, detector, look, size, most=config.detector.most, least=config.detector.least)
        halves[place % 2].append(judge(found, image.masks))
    return together(halves[0]), together(halves[1])


def _prefilled(now: Round, desk: Desk, detector: ObjectDetector, image_id: str, threshold: float | None) -> ImageResult:
    """The masks that annotators of an image will find; none where it cannot be read, which they will skip."""
    config, look, size = now.engine.config.detector, partial(desk.embedding, image_id), desk.sizes[image_id]
    ended = partial(ImageResult, image_id, started_at=now.record.started_at, finished_at=now.record.started_at)
    try:
        found = propose(desk.sam, detector, look, size, most=config.most, least=config.least)
    except ImageError as error:
        return ended(status=Status.ERROR, error_class=error.kind, error_message=str(error))
    return ended(status=Status.OK, generation=as_generation(found, threshold, size))


def _measured(now: Round) -> Figures | None:
    """Figures of the model that the round began with, out of the round that made it, if they were measured as now, on
    the same images with the same true masks."""
    mine, truth = round_settings(now), now.engine.held_out.sha256
    for record in reversed(now.earlier):
        found, staged = from_details(Evaluated, record.details), from_details(Staged, record.details)
        if found is None or staged is None or found.held_out != truth:
            continue
        then = decisive(staged.settings)
        if any(then.get(name) != mine[name] for name in _MEASURED_BY):
            continue
        if record.promoted and record.model_after == now.record.model_before:
            return found.after
        if record.model_before == now.record.model_before:
            return found.before
    return None


def _pace(simulation: SimulationSettings | None) -> Pace:
    """How fast the people of an evaluation work; real rounds are measured with the same ones."""
    chosen = simulation or SimulationSettings(truth="")
    return Pace(chosen.habits, chosen.costs, chosen.seconds_per_image)


def _require_intact(now: Round, frozen: Snapshot) -> None:
    found = content_hash(now.engine.store.get(frozen.key))
    if found != frozen.sha256:
        raise ValueError(f"{frozen.key} is damaged: its content is not what the round froze")
    if not frozen.masks:
        raise ValueError("there is no mask to train on")


_STAGE, _ANNOTATE = Step(Staged, stage), Step(Annotated, annotate)
_MODEL = (Step(Snapshot, snapshot), Step(Trained, train), Step(Evaluated, evaluate), Step(Gated, promote))
STEPS: Steps = {
    "assisted_manual": (_STAGE, _ANNOTATE, *_MODEL, Step(Queued, queue)),
    "semi_automatic": (_STAGE, Step(Prefilled, prefill), _ANNOTATE, *_MODEL, Step(Queued, queue)),
    "automatic": (_STAGE, *_MODEL, Step(Generated, make_all)),
}
"""The steps of a round by its stage."""
