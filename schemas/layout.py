"""Where everything lies below the root of a data set: keys, and what a key says.

A key is a path relative to the root, with forward slashes, the same on a local folder and in an
object store. Every function here is pure. Names that come from outside (run names, model names)
are refused unless they are safe as one path component on every store, so a key never leaves the root.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast

DATASET_KEY = "dataset.json"
IMAGES_PREFIX = "images/"
MASKS_PREFIX = "masks/"
OUTCOMES_PREFIX = "outcomes/"
RELATIONS_PREFIX = "relations/"
TAGS_PREFIX = "tags/"
IN_FLIGHT_PREFIX = "in_flight/"
SAVES_PREFIX = "annotations/"
ANNOTATIONS_PREFIX = f"{SAVES_PREFIX}masks/"
EVENTS_PREFIX = f"{SAVES_PREFIX}events/"
EMBEDDINGS_PREFIX = "embeddings/"
CROPS_PREFIX = "crops/"
MODELS_PREFIX = "models/"
RUNS_PREFIX = "runs/"
ROUNDS_PREFIX = "rounds/"
TRAINING_PREFIX = "training/"

_NAME_RULE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(_NAME_RULE)
_SHARD_KEY = re.compile(rf"(masks|outcomes|relations|tags)/run=({_NAME_RULE})/shard-(\d{{8,}})\.parquet")
_PLAN_KEY = re.compile(rf"plans/run=({_NAME_RULE})/part-(\d{{4,}})\.parquet")
_RUN_KEY = re.compile(rf"runs/({_NAME_RULE})\.json")
_CHECKPOINT_KEY = re.compile(rf"training/run=({_NAME_RULE})/checkpoint-(\d{{8,}})/(whole\.json|part-\d{{4,}})")
_ROUND_KEY = re.compile(r"rounds/(\d+)\.json")
_MODEL_KEY = re.compile(rf"models/({_NAME_RULE})/model\.json")
_IMAGES_KEY = re.compile(rf"images/part-({_NAME_RULE})\.parquet")
_CROPS_KEY = re.compile(rf"crops/clip=({_NAME_RULE})/part-({_NAME_RULE})\.parquet")
_SESSION_KEY = re.compile(rf"annotations/(masks|events)/session=({_NAME_RULE})/part-(\d{{8,}})\.parquet")
_IMPORT = re.compile(r"import-[0-9a-f]{16}")
_MERGED_KEY = re.compile(r"annotations/(masks|events)/merged-([0-9a-f]{16})\.parquet")
_MERGER_KEY = re.compile(r"annotations/mergers/(\d{8,})\.json")

ShardTable = Literal["masks", "outcomes", "relations", "tags"]
SavesTable = Literal["masks", "events"]


@dataclass(frozen=True, slots=True)
class ShardKey:
    """What the key of a masks, outcomes, relations or tags file says."""

    table: ShardTable
    run_id: str
    shard: int


@dataclass(frozen=True, slots=True)
class PlanKey:
    """What the key of a frozen plan part says. Parts count from 1."""

    run_id: str
    part: int


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What the key of an annotations or events file says. A session is one writer; its parts count from 1."""

    table: SavesTable
    session: str
    part: int


def is_import(session: str) -> bool:
    """Whether an import wrote the parts of a session, which it may write anew."""
    return _IMPORT.fullmatch(session) is not None


def checked_name(name: str, what: str) -> str:
    """`name`, when it is safe as one path component everywhere.

    Raises:
        ValueError: it is empty, too long (128), starts with other than a letter or digit, or holds anything but ASCII
            letters, digits, dot, dash and underscore.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name[:140]!r} cannot be a file name: use 1 to 128 letters, digits, '.', '_' or '-', "
            "and start with a letter or digit"
        )
    return name


def images_key(part: str) -> str:
    """File of image rows; `part` is any safe name that its writer alone uses."""
    return f"images/part-{checked_name(part, 'images part')}.parquet"


def plan_key(run_id: str, part: int) -> str:
    """One frozen part (from 1) of a run's shard plan."""
    return f"plans/{_run(run_id)}/part-{_number(part, 'plan part', least=1):04d}.parquet"


def masks_key(run_id: str, shard: int) -> str:
    """Mask rows of one shard (from 0) of a run."""
    return f"masks/{_run(run_id)}/{shard_name(shard)}.parquet"


def outcomes_key(run_id: str, shard: int) -> str:
    """Outcome rows of one shard of a run; written last, so that its existence commits the shard."""
    return f"outcomes/{_run(run_id)}/{shard_name(shard)}.parquet"


def relations_key(run_id: str, shard: int) -> str:
    """How the masks of one shard lie in one another."""
    return f"relations/{_run(run_id)}/{shard_name(shard)}.parquet"


def tags_key(run_id: str, shard: int) -> str:
    """Words that name the masks of one shard."""
    return f"tags/{_run(run_id)}/{shard_name(shard)}.parquet"


def in_flight_key(run_id: str, shard: int) -> str:
    """Marker that names the image a worker is busy with, so that one that kills its process is found."""
    return f"in_flight/{_run(run_id)}/{shard_name(shard)}.json"


def serving_key(stage: str, round: int | None) -> str:
    """Marker that names the annotation server at work on a stage and round."""
    task = checked_name(stage, "stage") + ("" if round is None else f"-{_number(round, 'round')}")
    return f"in_flight/annotate={task}.json"


def run_key(run_id: str) -> str:
    """Record of a run: resolved config, versions, hashes."""
    return f"runs/{checked_name(run_id, 'run')}.json"


def round_key(number: int) -> str:
    """State of an engine round."""
    return f"rounds/{_number(number, 'round')}.json"


def step_key(number: int, step: str) -> str:
    """What a step of an engine round came to; its existence settles it."""
    return f"rounds/{_number(number, 'round')}/{checked_name(step, 'step')}.json"


def snapshot_key(number: int) -> str:
    """The masks that an engine round trains on, frozen."""
    return f"rounds/{_number(number, 'round')}/snapshot.parquet"


def detector_key(number: int) -> str:
    """Weights of the object detector that an engine round prefills with."""
    return f"rounds/{_number(number, 'round')}/detector.safetensors"


def model_card_key(model_id: str) -> str:
    """Record of a registered model."""
    return f"models/{checked_name(model_id, 'model')}/model.json"


def model_weights_key(model_id: str) -> str:
    """Weights of a registered model."""
    return f"models/{checked_name(model_id, 'model')}/model.safetensors"


def model_text_key(model_id: str) -> str:
    """Card of a registered model, to be read."""
    return f"models/{checked_name(model_id, 'model')}/card.md"


def training_key(run_id: str) -> str:
    """Record of a training run: what was decided before it began."""
    return f"training/{_run(run_id)}/run.json"


def training_end_key(run_id: str) -> str:
    """What a training run ended with; its existence says that it is finished."""
    return f"training/{_run(run_id)}/finished.json"


def training_metrics_key(run_id: str, step: int) -> str:
    """What the steps up to `step` did, from the metrics file before it on: JSON, one list of objects."""
    return f"training/{_run(run_id)}/metrics/{_number(step, 'step'):08d}.json"


def training_events_key(run_id: str, step: int) -> str:
    """The same for TensorBoard."""
    return f"training/{_run(run_id)}/tensorboard/events.out.tfevents.{_number(step, 'step'):010d}.sam-engine"


def checkpoint_part_key(run_id: str, step: int, part: int) -> str:
    """One piece of the state of training after `step` steps."""
    return f"training/{_run(run_id)}/checkpoint-{_number(step, 'step'):08d}/part-{part:04d}"


def checkpoint_key(run_id: str, step: int) -> str:
    """What the pieces of a checkpoint add up to; written last, so that its existence commits the checkpoint."""
    return f"training/{_run(run_id)}/checkpoint-{_number(step, 'step'):08d}/whole.json"


def annotations_key(session: str, part: int) -> str:
    """Human masks saved by one annotation session; parts count from 1 and are never rewritten."""
    return f"annotations/masks/{_session(session, part)}"


def events_key(session: str, part: int) -> str:
    """Timed events of one annotation session; parts count from 1 and are never rewritten."""
    return f"annotations/events/{_session(session, part)}"


def session_key(key: SessionKey) -> str:
    """`annotations_key` or `events_key`."""
    return (annotations_key if key.table == "masks" else events_key)(key.session, key.part)


def merged_key(table: SavesTable, sha256: str) -> str:
    """Many files of annotations or events in one, which the hash of its bytes names."""
    return f"annotations/{table}/merged-{sha256[:16]}.parquet"


def merger_key(number: int) -> str:
    """Which files were merged into which; its existence makes the merged ones count in the place of the others."""
    return f"annotations/mergers/{_number(number, 'merger', least=1):08d}.json"


def embedding_key(model_id: str, image_id: str) -> str:
    """Image embedding by one model; two hex digits of the image spread a folder of millions."""
    image = checked_name(image_id, "image")
    return f"embeddings/model={checked_name(model_id, 'model')}/{image[:2]}/{image}.safetensors"


def crops_key(clip_sha256: str, part: str) -> str:
    """Embedded crops of some masks by one CLIP, which its first digits name; `part` follows from the masks."""
    return f"crops/clip={checked_name(clip_sha256[:12], 'CLIP hash')}/part-{checked_name(part, 'crops part')}.parquet"


def shard_name(shard: int) -> str:
    """`shard-00000012`: sorts as its number does."""
    return f"shard-{_number(shard, 'shard'):08d}"


def parse_shard_key(key: str) -> ShardKey | None:
    """Inverse of the keys of a shard's tables, `masks_key` and so on; None for any other key, as of a partial file."""
    match = _SHARD_KEY.fullmatch(key)
    if match is None:
        return None
    found = ShardKey(cast(ShardTable, match[1]), match[2], int(match[3]))
    return found if key.endswith(f"/{shard_name(found.shard)}.parquet") else None


def parse_plan_key(key: str) -> PlanKey | None:
    """Inverse of `plan_key`; None for any other key."""
    match = _PLAN_KEY.fullmatch(key)
    if match is None or match[2] != f"{int(match[2]):04d}" or int(match[2]) == 0:
        return None
    return PlanKey(match[1], int(match[2]))


def parse_session_key(key: str) -> SessionKey | None:
    """Inverse of `annotations_key` and `events_key`; None for any other key."""
    match = _SESSION_KEY.fullmatch(key)
    if match is None or match[3] != f"{int(match[3]):08d}" or int(match[3]) == 0:
        return None
    return SessionKey(cast(SavesTable, match[1]), match[2], int(match[3]))


def parse_merged_key(key: str) -> SavesTable | None:
    """The table of a `merged_key`; None for any other key."""
    match = _MERGED_KEY.fullmatch(key)
    return cast(SavesTable, match[1]) if match else None


def parse_merger_key(key: str) -> int | None:
    """Inverse of `merger_key`; None for any other key."""
    match = _MERGER_KEY.fullmatch(key)
    return int(match[1]) if match and match[1] == f"{int(match[1]):08d}" and int(match[1]) else None


def parse_images_key(key: str) -> str | None:
    """Inverse of `images_key`; None for any other key."""
    match = _IMAGES_KEY.fullmatch(key)
    return match[1] if match else None


def parse_crops_key(key: str) -> str | None:
    """The part that a `crops_key` names; None for any other key."""
    match = _CROPS_KEY.fullmatch(key)
    return match[2] if match else None


def parse_run_key(key: str) -> str | None:
    """Inverse of `run_key`; None for any other key."""
    match = _RUN_KEY.fullmatch(key)
    return match[1] if match else None


def parse_round_key(key: str) -> int | None:
    """Inverse of `round_key`; None for any other key."""
    match = _ROUND_KEY.fullmatch(key)
    return int(match[1]) if match and match[1] == str(int(match[1])) else None


def parse_checkpoint_key(key: str) -> int | None:
    """The step of a `checkpoint_key` or `checkpoint_part_key`; None for any other key."""
    match = _CHECKPOINT_KEY.fullmatch(key)
    return int(match[2]) if match else None


def parse_model_key(key: str) -> str | None:
    """Inverse of `model_card_key`; None for any other key."""
    match = _MODEL_KEY.fullmatch(key)
    return match[1] if match else None


def _run(run_id: str) -> str:
    return f"run={checked_name(run_id, 'run')}"


def _session(session: str, part: int) -> str:
    return f"session={checked_name(session, 'session')}/part-{_number(part, 'part', least=1):08d}.parquet"


def _number(value: int, what: str, *, least: int = 0) -> int:
    if value < least:
        raise ValueError(f"{what} {value} is below {least}")
    return value
