"""The picture of docs/annotate.md, taken of the app itself: python -m tests.workflows.annotate.picture [FILE]

Coins on a photograph of scikit-image: one click each, saved; on the last one a click more, and the model's candidates.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import coins

from tests.workflows.annotate.browser import Person, chromium, sit_down
from tests.workflows.annotate.conftest import Running, ingest_photo
from workflows.annotate.assets import find_runtime
from workflows.annotate.commands import AnnotateConfig

PICTURE = Path(__file__).parents[3] / "docs" / "annotate.jpg"
SIZE = {"width": 1280, "height": 800}
SAVED = (
    *((0.26, 0.19), (0.41, 0.17), (0.56, 0.17), (0.72, 0.18), (0.88, 0.15)),
    *((0.12, 0.41), (0.27, 0.42), (0.40, 0.42), (0.54, 0.41), (0.71, 0.39), (0.88, 0.41)),
    *((0.11, 0.65), (0.27, 0.65), (0.40, 0.65), (0.91, 0.62)),
)
"""Middles of coins, as fractions of the photograph."""
IN_WORK = ((0.55, 0.64), (0.57, 0.60))
_PAINTED = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Running(_task(Path(folder)), find_runtime)
        ada = sit_down(browser, server.start(), "Ada")
        ada.page.set_viewport_size(SIZE)  # type: ignore[arg-type]
        ada.press("0")
        _annotate(ada)
        ada.page.evaluate(_PAINTED)
        taken = Image.open(io.BytesIO(ada.page.screenshot())).convert("RGB")
        server.stop()
    taken.save(out, quality=88, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def _task(folder: Path) -> AnnotateConfig:
    data = ingest_photo(folder, "coins", np.repeat(coins()[..., None], 3, axis=2))
    return AnnotateConfig(dataset=str(data), reminder_seconds=600)


def _annotate(person: Person) -> None:
    for place in SAVED:
        person.click(*place)
        person.press("Enter")
    person.saved()
    for place in IN_WORK:
        person.click(*place)


if __name__ == "__main__":
    main()
