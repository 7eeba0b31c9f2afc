"""What each step of a round came to: written into the round's record when the step is done, read by later ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, TypeVar

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What the round works with, settled before anything else."""

    step: ClassVar[str] = "stage"
    model_id: str
    queue: tuple[str, ...]
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """What the detector proposed. run_id: of the prefilled masks. threshold: confidence from which a mask is prefilled,
    None when no threshold is precise enough. precision, recall: on held-out images that did not choose it."""

    step: ClassVar[str] = "prefill"
    run_id: str
    threshold: float | None
    precision: float
    recall: float
    held_out_masks: int
    images: int
    masks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """What people, or those who stand for them, did. masks: that stand on the images they finished. kept: prefilled
    ones that stand as proposed. deleted: prefilled ones. worked_on: masks that were clicked or brushed; clicks
    and seconds of these; all seconds."""

    step: ClassVar[str] = "annotate"
    images: int
    masks: int
    kept: int
    deleted: int
    worked_on: int
    clicks: int
    drawing_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The data of the round's model: a frozen file."""

    step: ClassVar[str] = "snapshot"
    key: str
    sha256: str
    images: int
    masks: int
    left_out: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The round's model; none, and why, when training was refused or failed."""

    step: ClassVar[str] = "train"
    run_id: str | None = None
    model_id: str | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A model on held-out images. miou: one click. clicks_to_090: mean clicks until IoU 0.9 (that of
    `simulation.habits`), those that never get there counted with the most clicks; reached: share that does.
    seconds_per_mask by the cost model, brush included. masks_per_image: that fit into an image's working time at the
    pace of its measured masks. average_recall: of generated masks, all thresholds; None when it was not measured."""

    images: int
    masks: int
    miou: float
    clicks_to_090: float
    reached: float
    seconds_per_mask: float
    masks_per_image: float
    average_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The model before the round and the round's own. run_id: of the masks that the latter finds on held-out images.
    held_out: hash of what these images and their true masks were; "" in records of older versions."""

    step: ClassVar[str] = "evaluate"
    before: Figures
    after: Figures | None
    run_id: str | None
    held_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Whether the new model takes over. trusted: whether later rounds train on this round's masks."""

    step: ClassVar[str] = "gate"
    promoted: bool
    reason: str
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The images of the next round's annotators, in order; none when no round follows that has any. asked: what of
    engine.yaml they were chosen by; nothing in records of older versions."""

    step: ClassVar[str] = "queue"
    queue: tuple[str, ...]
    asked: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The masks of the automatic stage."""

    step: ClassVar[str] = "generate"
    run_id: str
    images: int
    masks: int


Outcome = Staged | Prefilled | Annotated | Snapshot | Trained | Evaluated | Gated | Queued | Generated
Kind = TypeVar("Kind", bound=Outcome)


def to_details(outcome: Outcome) -> dict[str, object]:
    """An outcome as the record holds it."""
    return asdict(outcome)


def from_details(kind: type[Kind], details: Mapping[str, object]) -> Kind | None:
    """The outcome of a step; None while the step is not done. Raises ValueError when the record is damaged."""
    found = details.get(kind.step)
    return None if found is None else TypeAdapter(kind).validate_python(found)
