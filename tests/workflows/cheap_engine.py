"""`sam-engine` with a generator that needs no model: `python -m tests.workflows.cheap_engine generate SOURCE DATASET`.

Everything else is the real command. What its workers shall do to themselves is in CHEAP_SABOTAGE.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.batch import Generation
from sam_core.recipes import Recipe
from tests.one_by_one import OneByOne
from tests.workflows.fakes import half_mask
from workflows import cli, generate, s3, storage
from workflows.models import Model

VARIABLE = "CHEAP_SABOTAGE"
SECONDS_PER_IMAGE = 0.02


@dataclass(frozen=True, slots=True)
class Sabotage:
    """The first worker to write a key that starts with `prefix` after `after` others kills itself, once.

    Once is kept by the file `done`. With `halfway`, after half of the bytes, else before the first.
    """

    prefix: str
    after: int
    halfway: bool
    done: str

    def strike(self) -> bool:
        """Whether nobody was faster."""
        try:
            os.close(os.open(self.done, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class CheapSpec:
    """Stands in for workflows.models.GeneratorSpec."""

    model: Model
    recipe: Recipe
    device: str
    exact_reference: bool = False
    settings: None = None
    dtype: str = "float32"
    kernels: str = "cheap"
    sabotage: str = field(default_factory=lambda: os.environ.get(VARIABLE, ""))

    def load(self, *, threads: int | None = None) -> OneByOne:
        if self.sabotage:
            _install(Sabotage(**json.loads(self.sabotage)))
        return OneByOne(cheap_masks)


def cheap_masks(image: NDArray[np.uint8]) -> Generation:
    """One mask per image, its score taken from the pixels, after as long as a quick model would take."""
    time.sleep(SECONDS_PER_IMAGE)
    return half_mask(image.shape[:2], score=float(image.mean()) / 255)


def main(arguments: Sequence[str] | None = None) -> int:
    """As workflows.cli.main."""
    generate.GeneratorSpec = CheapSpec  # type: ignore[misc, assignment]
    return cli.main(arguments)


def sabotage_text(sabotage: Sabotage) -> str:
    """For the environment."""
    return json.dumps(asdict(sabotage))


def _install(sabotage: Sabotage) -> None:
    """Put the sabotage between this process and its stores."""
    seen = 0

    def due(key: str) -> bool:
        nonlocal seen
        seen += key.startswith(sabotage.prefix)
        return key.startswith(sabotage.prefix) and seen > sabotage.after and sabotage.strike()

    _on_disk(due, halfway=sabotage.halfway)
    _on_s3(due, halfway=sabotage.halfway)


def _on_disk(due: Callable[[str], bool], *, halfway: bool) -> None:
    write = storage._write_beside

    def fatal(path: Path, data: bytes) -> Path:
        if due(f"{path.parent.parent.name}/{path.parent.name}/{path.name}"):
            if halfway:
                write(path, data[: len(data) // 2])
            _die()
        return write(path, data)

    storage._write_beside = fatal  # type: ignore[assignment]


def _on_s3(due: Callable[[str], bool], *, halfway: bool) -> None:
    put = s3.S3Store._put

    def fatal(store: s3.S3Store, key: str, data: bytes, **condition: str) -> None:
        body: Any = _FatalBody(data) if due(key) else data
        if isinstance(body, _FatalBody) and not halfway:
            _die()
        put(store, key, body, **condition)

    s3.S3Store._put = fatal  # type: ignore[method-assign]


class _FatalBody(io.BytesIO):
    """The body of a request that gives half of its bytes to the network and then ends the process."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            time.sleep(SECONDS_PER_IMAGE)  # what was given before is on its way
            _die()
        return super().read(max(1, len(self.getvalue()) // 2))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
