"""What travels between the server and its clients, as typed models; `/api/openapi.json` is made from them.

Coordinates are px of the upright original image, xy, origin at the outer corner of its top-left pixel, also where a
window of it is named. Masks are COCO compressed counts, column-major over the whole image, as text. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST = 2**31 - 1


def _in_our_time(time: datetime) -> datetime:
    """Raises ValueError for years near the ends of the calendar, which no other time zone has."""
    if not 1970 <= time.year < 2262:
        raise ValueError("a time lies between 1970 and 2262")
    return time


def _in_order(box: Box) -> Box:
    """Raises ValueError for a box with its corners the other way round, which means nothing to a model."""
    x0, y0, x1, y1 = box
    if x0 > x1 or y0 > y1:
        raise ValueError("a box is x0, y0, x1, y1, with x0 <= x1 and y0 <= y1")
    return box


def whole(text: str) -> str:
    """The text, half a character in it (of an emoji that was cut in two) as a question mark: nothing that holds one can
    be sent on, or asked by SQL."""
    return text.encode("utf-8", "replace").decode("utf-8")


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME)]
Person = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, AfterValidator(whole)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Place = Annotated[float, Field(allow_inf_nan=False, ge=-MOST, le=MOST)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, le=1e6)]
Moment = Annotated[datetime, AfterValidator(_in_our_time)]
Point = tuple[Place, Place]
Box = tuple[Place, Place, Place, Place]
Window = tuple[int, int, int, int]
WINDOW = (
    "x0, y0, x1, y1 in px, ends exclusive: what the model sees, the whole image if none is given; tiles only, those of "
    "level L being 1 / 2^L of the longest side wide and half of that apart, 48 px at least"
)
Status = Literal["open", "done", "accepted", "sent_back"]
HumanStage = Literal["assisted_manual", "semi_automatic", "audit"]


class Strict(BaseModel):
    """A model that refuses fields it does not know, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(Strict):
    """What people work on. A save repeats the one that its images were opened in: by the time it arrives, the server at
    this address may be one of another round."""

    dataset: Annotated[str, Field(max_length=400)] = Field(description="tells data sets apart, also those of one name")
    stage: HumanStage
    round: int | None = Field(ge=0, le=MOST)
    run_id: Annotated[str, Field(max_length=200)] | None = Field(description="run whose masks the stage starts from")
    model_id: Annotated[str, Field(max_length=200)] = Field(description="the model that assists")


class ModelFacts(Strict):
    """What a client must know of the model that assists. Sides in px."""

    image_size: int
    low_res_size: int
    browser_decoder: bool = Field(description="whether ONNX Runtime Web and the decoder's graphs are served here")
    text_prompts: bool = Field(default=False, description="whether /api/decode takes text")


class Project(Strict):
    """What a client must know before anything else."""

    dataset: str = Field(description="its name, for people")
    task: Task
    task_key: str = Field(
        description="with it as the header X-Task, a request is refused (412) once the server has another task"
    )
    images: int
    reminder_seconds: float
    lease_seconds: float
    now: datetime = Field(description="the server's time, by which clients date what they save: clocks differ")
    model: ModelFacts


class QueueItem(Strict):
    """One image and how far it is. `masks` counts human masks that stand."""

    image_id: str
    name: str
    height: int
    width: int
    status: Status
    annotator: str | None = Field(description="who holds it, or finished it last")
    held: bool = Field(description="whether somebody works on it now")
    note: str = Field(description="what the reviewer wrote when sending it back")
    masks: int


class Claim(Strict):
    """Who wants to work."""

    annotator: Person


class ShownMask(Strict):
    """A mask of an image: drawn by a person, or proposed by a run and not yet touched."""

    mask_id: str
    revision: int = Field(description="0 for a proposal")
    annotator: str | None
    source_mask_id: str | None
    model_id: str | None = Field(description="whose answer it began as; null when drawn by hand alone")
    rle: str
    predicted_iou: float | None
    stability_score: float | None
    point: Point | None


class SavedMask(Strict):
    """A state of a mask that a person decided on."""

    mask_id: Name = Field(description="made by the client; stays the same when the mask is edited")
    revision: int = Field(ge=1, le=MOST)
    deleted: bool = False
    image_id: Name
    source_mask_id: Annotated[str, Field(max_length=300)] | None = None
    rle: Annotated[str, Field(min_length=1, max_length=50_000_000)]
    model_id: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="null when drawn by hand alone"
    )
    predicted_iou: Finite | None = None
    stability_score: Annotated[float, Field(ge=0, le=1)] | None = None
    point: Point | None = None
    clicks: int = Field(default=0, ge=0, le=MOST)
    brushed: int = Field(default=0, ge=0, le=MOST, description="px that brush or eraser changed")
    seconds: Seconds = Field(default=0.0, description="active time spent on this revision")
    created_at: Moment


class Event(Strict):
    """One action of an annotator."""

    sequence: int = Field(ge=1, le=MOST, description="number of the event in its session")
    image_id: Name | None = None
    mask_id: Name | None = None
    action: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    active: Seconds = 0.0
    details: dict[Text, Text | int | Finite | bool | None] = Field(default_factory=dict)
    happened_at: Moment


class Save(Strict):
    """One part of a session: what happened since the part before. Sending it again changes nothing."""

    annotator: Person
    task: Task | None = Field(default=None, description="what it was done for; the server's own task if none is given")
    masks: list[SavedMask] = Field(default_factory=list, max_length=5_000)
    events: list[Event] = Field(default_factory=list, max_length=50_000)


class Saved(Strict):
    """The part is on disk (or in the object store)."""

    session: str
    part: int


class Prompt(Strict):
    """Which object: points (label 1 foreground, 0 background), a box (x0, y0, x1, y1), a text, or several of them."""

    points: list[tuple[Place, Place, Literal[0, 1]]] = Field(default_factory=list, max_length=200)
    box: Annotated[Box, AfterValidator(_in_order)] | None = None
    mask: str | None = Field(default=None, description="a mask to start from: COCO counts over the whole image")
    text: Annotated[str, Field(max_length=2_000)] | None = Field(
        default=None, description="what it is, such as `a wheel`; where the server has text prompts, see /api/project"
    )

    window: Window | None = Field(default=None, description=f"{WINDOW}. All of the prompt lies inside")

    @property
    def single(self) -> bool:
        """Whether it is one point, one box or one text alone."""
        others = sum(part is not None for part in (self.box, self.mask, self.text))
        return len(self.points) + others == 1


class DecodeRequest(Prompt):
    """Masks for one prompt on one image of the data set."""

    image_id: Name
    output: Literal["rle", "logits"] = "rle"


class Candidate(Strict):
    """A mask that the model proposes, best first."""

    predicted_iou: float
    rle: str
    bbox: tuple[int, int, int, int]
    area: int


class Decoded(Strict):
    """The answer. `candidates` cover the whole image. `logits` (base64 of little-endian float16 [4, s, s],
    s = low_res_size, in the frame of the prompt's window) and `iou` are what the ONNX decoder says: output 0 is for
    several prompts, 1 to 3 for a single one."""

    candidates: list[Candidate] = Field(default_factory=list)
    logits: str | None = None
    iou: list[float] = Field(default_factory=list)
    note: str | None = Field(default=None, description="what was not taken as given, such as the end of a long text")


class AutomaticRequest(Strict):
    """Every mask of an image of the data set."""

    image_id: Name
    recipe: Literal["auto", "reference", "draft"] = "auto"


class AutomaticMask(Strict):
    """One mask, with the fields of the masks table. bbox and crop_box are xywh."""

    rle: str
    bbox: tuple[int, int, int, int]
    area: int
    predicted_iou: float
    stability_score: float
    point: Point
    crop_box: tuple[int, int, int, int]


class AutomaticMasks(Strict):
    """All masks of an image, best first; height and width belong to every RLE."""

    height: int
    width: int
    masks: list[AutomaticMask]
