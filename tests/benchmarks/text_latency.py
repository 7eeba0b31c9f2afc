"""From a text's embedding to its mask at the image's own pixels, on an image that is embedded already.

    python -m tests.benchmarks.text_latency --image FILE [--json FILE]

`vit_n`, and the full-size decoder (width 256, 64 x 64 positions) behind CLIP's 768 numbers; random weights, as time
does not depend on them. A text alone is one decode; beside a click it is two.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from sam_core.answers import answer
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, encode
from sam_core.presets import vit_b, vit_n, with_text
from tests.benchmarks.photographs import read_image
from tests.benchmarks.record import cpu_seconds, environment_fields, write_json

TARGET_MS = 150.0
MODELS = {"vit_n": with_text(vit_n(), 64), "width_256": with_text(vit_b(), 768)}


@dataclass(frozen=True, slots=True)
class Options:
    """Times text prompts."""

    image: Path
    """A photograph."""
    repeats: int = 30
    """Masks per figure."""
    others: str = ""
    """What else ran on the machine, for the record."""
    json: Path | None = None
    """Where to record it."""


def measure(options: Options) -> dict[str, Any]:
    """Milliseconds per model and kind of prompt."""
    image = read_image(options.image)
    times: dict[str, dict[str, dict[str, float]]] = {}
    for name, config in MODELS.items():
        torch.manual_seed(0)
        sam = Sam(config).eval()
        with torch.inference_mode():
            embedding = encode(sam, [image])
            text = torch.nn.functional.normalize(torch.randn(1, config.text_width), dim=-1)
            click, label = torch.tensor([[[100.0, 100.0]]]), torch.ones(1, 1, dtype=torch.int64)
            kinds = {"text": Prompts(text=text), "text_and_click": Prompts(click, label, text=text)}
            times[name] = {
                kind: _summary(list(_times(sam, embedding, prompts, options.repeats)))
                for kind, prompts in kinds.items()
            }
    size = {"height": image.shape[0], "width": image.shape[1]}
    return {"target_ms": TARGET_MS, "others": options.others, **size, "milliseconds": times}


def _times(sam: Sam, embedding: ImageEmbedding, prompts: Prompts, repeats: int) -> Iterator[tuple[float, float]]:
    """Milliseconds of wall-clock time and of CPU time, which other jobs disturb less."""
    for number in range(repeats + 3):
        start, cpu = time.perf_counter(), cpu_seconds()
        answer(sam, embedding, prompts).best().masks()
        if number >= 3:  # the first ones warm up
            yield 1000 * (time.perf_counter() - start), 1000 * (cpu_seconds() - cpu)


def _summary(values: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*values, strict=True)
    return {
        "median": statistics.median(wall),
        "p90": statistics.quantiles(wall, n=10)[-1],
        "least": min(wall),
        "cpu_median": statistics.median(cpu),
    }


def main() -> None:
    options = tyro.cli(Options)
    record = measure(options)
    for name, kinds in record["milliseconds"].items():
        for kind, found in kinds.items():
            print(f"{name:10} {kind:15} " + ", ".join(f"{key} {value:.1f} ms" for key, value in found.items()))
    if options.json:
        write_json(options.json, record | environment_fields())


if __name__ == "__main__":
    main()
