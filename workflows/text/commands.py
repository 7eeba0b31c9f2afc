"""What `sam-engine segment` and `sam-engine tag` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from sam_core.templates import PLAIN, require_templates
from workflows.image_limits import MAX_PIXELS
from workflows.option_values import Dataset, Several, require_positive

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    """Find what a text, clicks or a box mean in one image: prints scores, writes the mask, an overlay and JSON."""

    image: Positional[Annotated[str, arg(metavar="IMAGE")]]
    """A picture: a local path or s3://bucket/key."""
    text: str | None = None
    """What to find, such as "a wheel"; needs --clip and a model that was trained with text prompts."""
    point: Several = ()
    """X,Y on the object, px of the upright image; more of them may follow."""
    background: Several = ()
    """X,Y beside the object; more of them may follow."""
    box: str | None = None
    """X0,Y0,X1,Y1 around the object."""
    closer: bool = False
    """Ask several times, through windows and of the mirror image: better, most of all for small objects, but slower."""
    model: str = "vit_n"
    """A model by name (see `sam-engine models`) or a checkpoint: a file or s3://bucket/key."""
    clip: str | None = None
    """Folder of the CLIP that the model was trained with, as transformers writes it."""
    templates: tuple[str, ...] = PLAIN
    """Sentences with {} in the place of the text; their embeddings are averaged. "a photo of {}." for example."""
    out: str = "mask.png"
    """The best mask, white on black; beside it NAME-overlay.png and NAME.json with all masks as COCO RLE."""
    device: Device = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    max_pixels: int = MAX_PIXELS
    """A larger image is refused."""

    def __post_init__(self) -> None:
        require_templates(self.templates)
        if not self.out.lower().endswith(".png"):
            raise ValueError(f"--out is {self.out}; it must end in .png")
        if self.text is None and not self.point and self.box is None:
            raise ValueError("nothing is asked for: give --text, --point X,Y or --box X0,Y0,X1,Y1")
        if self.closer and not self.point and self.box is None:
            raise ValueError("--closer needs to know where: give --point X,Y or --box X0,Y0,X1,Y1")
        if self.text is not None and self.clip is None:
            raise ValueError("--text needs --clip FOLDER, the CLIP that the model was trained with")
        for name, given in (("clip", self.clip is not None), ("templates", self.templates != PLAIN)):
            if given and self.text is None:
                raise ValueError(f"--{name} goes only with --text, which it reads")


@dataclass(frozen=True, slots=True)
class TagConfig:
    """Name every mask of a data set by the words that CLIP finds nearest; views tags and tagged_masks."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    words: str
    """Text file with a word or phrase per line: a local path or s3://bucket/key."""
    clip: str
    """Folder of a CLIP, as transformers writes it."""
    templates: tuple[str, ...] = PLAIN
    """Sentences with {} in the place of a word; their embeddings are averaged. "a photo of a {}." for example."""
    top: int = 3
    """Words kept per mask, the nearest first."""
    run: str | None = None
    """Only masks of this run, by its run_id or name; of all runs when not given."""
    device: Device = "auto"
    """Where CLIP runs; auto takes a GPU when there is one."""
    workers: int | None = None
    """Processes that hold a CLIP, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    max_pixels: int = MAX_PIXELS
    """Larger images are left out."""

    def __post_init__(self) -> None:
        require_templates(self.templates)
        require_positive(self, "top", "workers", "threads", "max_pixels")
