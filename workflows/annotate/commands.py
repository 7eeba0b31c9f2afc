"""What `sam-engine embed` and `sam-engine annotate` can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workflows.image_limits import MAX_PIXELS
from workflows.option_values import Dataset, require_at_most_a_year, require_positive, require_round

if TYPE_CHECKING:
    from schemas.tables import Stage

TOKEN_VARIABLE = "SAM_ENGINE_TOKEN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
StageName = Literal["assisted-manual", "semi-automatic", "audit"]


@dataclass(frozen=True, slots=True)
class EmbedConfig:
    """Store the image embeddings of a data set, so that annotators never wait for the encoder; can be repeated."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix."""
    model: str = "vit_n"
    """A model by name (see `sam-engine models`) or a checkpoint: a file or s3://bucket/key."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    workers: int | None = None
    """Processes that hold a model, over the whole cluster; one per GPU, or as many as the CPU cores allow."""
    threads: int | None = None
    """CPU cores per worker; 2 without GPUs, a fair share of the cores with them."""
    max_pixels: int = MAX_PIXELS
    """Larger images are not embedded."""
    prune: bool = False
    """Delete the embeddings that other models made."""

    def __post_init__(self) -> None:
        require_positive(self, "workers", "threads", "max_pixels")


@dataclass(frozen=True, slots=True)
class AnnotateConfig:
    """Serve the annotation app for a data set to one or many annotators; stop it at any time, nothing is lost."""

    dataset: Dataset
    """A local folder or s3://bucket/prefix that has images (`sam-engine ingest` or `generate` puts them there)."""
    stage: StageName = "assisted-manual"
    """Draw from nothing, complete what a run found, or correct a run's masks to measure their quality."""
    model: str = "vit_n"
    """The model that assists: a name (see `sam-engine models`) or a checkpoint: a file or s3://bucket/key."""
    run: str | None = None
    """Run (name or id) whose masks the later stages start from; the newest with masks if not given."""
    images: str | None = None
    """SQL that returns the `image_id`s to annotate, in order; all images of the data set if not given."""
    sample: int | None = None
    """Only so many of the images, drawn at random; 500 in the audit stage."""
    seed: int = 0
    """Seed of the sample."""
    round: int | None = None
    """Engine round that the annotations belong to."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine itself needs a token, which the printed address carries."""
    port: int = 8470
    """Port to listen on; 0 takes a free one."""
    clip: str | None = None
    """Folder of the CLIP that the model was trained with: masks may be asked for by text, too."""
    token: str | None = None
    """The token to ask for; else that of SAM_ENGINE_TOKEN, which others do not see, else a random one if needed."""
    reminder_seconds: float = 30.0
    """Working time on one mask after which the app suggests to move on."""
    lease_seconds: float = 600.0
    """How long an image stays with an annotator who has gone silent."""
    threads: int = 2
    """CPU cores for the model."""
    browser_decoder: bool = True
    """Decode in the browser where ONNX Runtime Web is at hand; else every click is decoded here."""
    max_pixels: int = MAX_PIXELS
    """Larger images are left out."""

    def __post_init__(self) -> None:
        require_positive(self, "sample", "reminder_seconds", "lease_seconds", "threads", "max_pixels")
        require_at_most_a_year(self, "lease_seconds")
        require_round(self.round)
        if self.run and self.stage == "assisted-manual":
            raise ValueError("--run names masks to start from; assisted-manual has none: add --stage semi-automatic")
        if self.token and not re.fullmatch(r"[!-~]+", self.token):
            raise ValueError(
                f"--token or {TOKEN_VARIABLE} has a space or other characters that no request can carry; take letters "
                "and digits"
            )
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port is {self.port}; it must be between 0 and 65535")

    @property
    def table_stage(self) -> Stage:
        """The stage as the tables name it."""
        from schemas.tables import Stage  # pyarrow takes time that `--help` need not wait for

        return Stage(self.stage.replace("-", "_"))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK
