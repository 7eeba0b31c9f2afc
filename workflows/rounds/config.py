"""engine.yaml as frozen, typed configurations: every mistake in the file is one line that says where and what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from yaml.constructor import ConstructorError

from sam_core.annotators import Costs, Habits
from sam_core.detector import FitConfig
from sam_core.presets import did_you_mean
from sam_core.recipes import recipe
from sam_core.training.presets import train_preset
from schemas.tables import Stage
from workflows.option_values import HIGHEST_SEED

_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=HIGHEST_SEED)]
Share = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PolicyName = Literal["random", "least_covered", "most_uncertain", "most_diverse"]
StageName = Literal["assisted_manual", "semi_automatic", "automatic"]
_ORDER: tuple[StageName, ...] = ("assisted_manual", "semi_automatic", "automatic")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class TrainingSettings:
    """How a round trains: a preset and the values that replace its own; names are those of `sam-engine train`.

    also: sources that are trained on beside the round's masks, each with =WEIGHT if it is to be drawn more or less
    often. A few images of one kind make a model forget others, and with `scenes` it remembers.
    """

    preset: str = "fine_tune"
    also: tuple[str, ...] = ()
    model: str | None = None
    iterations: Count | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    images: Count | None = None
    masks_per_image: Count | None = None
    image_size: Count | None = None
    window_share: Annotated[float, Field(ge=0, le=1)] | None = None
    centre_share: Annotated[float, Field(ge=0, le=1)] | None = None
    chosen: Annotated[float, Field(ge=0, le=1)] | None = None
    bfloat16: bool | None = None
    seed: Seed | None = None
    workers: Count = 1
    threads: Count | None = None
    save_every: Count = 50

    def __post_init__(self) -> None:
        train_preset(self.preset)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class StageSettings:
    """Some rounds of one stage. images: that the annotators of each round get. policy: which ones. recipe: of the
    automatic stage's masks. training: in place of the engine's; the automatic stage trains only when it has one."""

    stage: StageName
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 1
    images: Count = 20
    policy: PolicyName = "random"
    recipe: str = "sa1b"
    training: TrainingSettings | None = None

    def __post_init__(self) -> None:
        recipe(self.recipe)
        if self.stage == "automatic" and self.rounds > 1:
            raise ValueError("the automatic stage is one round: it makes the masks of all images")

    @property
    def table_stage(self) -> Stage:
        """The stage as the tables name it."""
        return Stage(self.stage)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DetectorSettings:
    """The semi-automatic stage's detector. precision: that prefilled masks shall have on held-out images, at this IoU;
    what the threshold is chosen for on one half of these images and measured on the other. most, least: boxes of an
    image that become masks, and the score that they need."""

    fit: FitConfig = Field(default_factory=FitConfig)
    precision: Share = 0.9
    iou: Share = 0.75
    most: Count = 300
    least: Share = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class EvaluationSettings:
    """What is measured on held-out images. images: at most so many. masks_per_image: drawn with simulated clicks.
    recall_images: of which all masks are generated. points_per_side: of that."""

    images: Count = 40
    masks_per_image: Count = 8
    recall_images: Annotated[int, Field(ge=0)] = 8
    points_per_side: Count = 16


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class GateSettings:
    """When a model is promoted. least_gain: of one-click mIoU over the model before, as a fraction; below 0 a slightly
    worse one passes. distrust_loss: a model worse by this much is taken as a sign of bad data: the masks of its round
    are left out of later ones."""

    least_gain: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    distrust_loss: Amount = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class SimulationSettings:
    """Simulated annotators. truth: a source of images with masks, as for training. seconds_per_image: working time.
    costs: seconds of each of their acts. habits: when they are content. keep_iou: least IoU with a true mask at which
    they keep a proposed one."""

    truth: str
    seconds_per_image: Annotated[float, Field(gt=0)] = 180.0
    costs: Costs = Field(default_factory=Costs)
    habits: Habits = Field(default_factory=Habits)
    keep_iou: Share = 0.75


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Prices:
    """What an hour costs, in any currency."""

    annotator_hour: Amount = 0.0
    machine_hour: Amount = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class EngineConfig:
    """The whole engine.

    dataset: where the data set lies or shall lie. images: source of the images to annotate. held_out: source of images
    with true masks that are never annotated or trained on. model: what the first round begins with.
    """

    dataset: str
    images: str
    held_out: str
    model: str = "vit_n"
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)]
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    detector: DetectorSettings = Field(default_factory=DetectorSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    simulation: SimulationSettings | None = None
    prices: Prices = Field(default_factory=Prices)
    candidates: Count = 64
    threads: Count = 2
    seed: Seed = 0

    def __post_init__(self) -> None:
        order = [_ORDER.index(stage.stage) for stage in self.stages]
        if order != sorted(order):
            raise ValueError(f"stages come in the order {', '.join(_ORDER)}")

    @property
    def plan(self) -> tuple[StageSettings, ...]:
        """The settings of every round, the first round first."""
        return tuple(stage for stage in self.stages for _ in range(stage.rounds))


def read_engine(path: str | Path) -> EngineConfig:
    """The engine that a YAML file describes. Raises ValueError or OSError, one line."""
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} must be a mapping with dataset, images, held_out and stages")
    return parse_engine(document, where=str(path))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # which states no types
    """Refuses a mapping that gives a key twice, of which the last would count silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ConstructorError(problem=f"{twice[0]!r} is given twice", problem_mark=node.start_mark)
        return dict(super().construct_mapping(node, deep))


def parse_engine(document: dict[str, Any], *, where: str) -> EngineConfig:
    """The engine that a document describes. Raises ValueError, one line that begins with `where`."""
    try:
        return TypeAdapter(EngineConfig).validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{where}: {_place(first['loc'])}{_complaint(first)}") from error


def as_document(config: EngineConfig | StageSettings | SimulationSettings) -> dict[str, Any]:
    """A configuration as JSON can hold it."""
    return dict(TypeAdapter(type(config)).dump_python(config, mode="json"))


def _place(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".") + ": " * bool(
        steps
    )


def _settings_at(steps: Sequence[str | int]) -> Any:
    """The class of the mapping at a place in the file."""
    found: Any = EngineConfig
    for step in steps:
        if isinstance(step, str):
            found = _settings_in(get_type_hints(found)[step])
    return found


def _settings_in(hint: Any) -> Any:
    """The class of settings in a type such as `Settings | None` or `tuple[Settings, ...]`."""
    return hint if is_dataclass(hint) else next(filter(None, map(_settings_in, get_args(hint))), None)


def _complaint(error: Any) -> str:
    """What is wrong, in the words of a file: pydantic speaks of tuples and of the classes here."""
    match error["type"]:
        case "missing":
            return "is missing"
        case _ if error["input"] is None:
            return "has no value"
        case "tuple_type":
            return f"must be a list, not {error['input']!r}"
        case "too_short":
            return "is an empty list"
        case "dataclass_type":
            return f"must be a mapping of settings, not {error['input']!r}"
        case "unexpected_keyword_argument" | "extra_forbidden":
            name, mapping = error["loc"][-1], _settings_at(error["loc"][:-1])
            return f"is not a setting; {did_you_mean(str(name), [field.name for field in fields(mapping)])}"
        case "value_error":
            return str(error["ctx"]["error"])
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"
