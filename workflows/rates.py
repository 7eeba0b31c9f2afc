"""What was measured, for forecasts: `rates.json`, rendered from recorded benchmarks by `tests.benchmarks.rates`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from sam_core.recipes import Recipe

PEAK_TFLOPS = {"t4": 65, "a10g": 70, "l4": 121, "a100": 312, "l40s": 362, "h100": 989, "h200": 989}
"""Dense half-precision matrix rate of a GPU by its maker's data sheet; not measured here."""
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-accumulates of a model: encoding a crop, what its prompts share, per prompt, per prompt drawn."""

    encode: int
    share: int
    ask: int
    draw: int

    def macs(self, recipe: Recipe) -> int:
        """For one image, all of whose prompts are drawn: an upper bound."""
        crops = sum(1 << 2 * layer for layer in range(recipe.crop_layers + 1))
        prompts = sum((1 << 2 * layer) * recipe.points_in_layer(layer) ** 2 for layer in range(recipe.crop_layers + 1))
        return crops * (self.encode + self.share) + prompts * (self.ask + self.draw)


@dataclass(frozen=True, slots=True)
class Rate:
    """A measurement: seconds of one worker per image, and where it comes from. `masks` is per image."""

    model: str
    recipe: str
    device: str
    seconds: float
    masks: float
    images: int
    source: str
    commit: str
    machine: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Everything in `rates.json`: work of each model, measured rates, and what the engine around a model takes."""

    work: dict[str, Work]
    measured: tuple[Rate, ...]
    engine: dict[str, float]
    engine_source: str

    def find(self, model: str, recipe: str, device: str) -> Rate | None:
        """The measurement of this model, recipe and device, if there is one."""
        return next((r for r in self.measured if (r.model, r.recipe, r.device) == (model, recipe, device)), None)


def load_rates() -> Rates:
    """The rates that ship with this package."""
    document = json.loads(files("workflows").joinpath("rates.json").read_text(encoding="utf-8"))
    return Rates(
        {name: Work(**macs) for name, macs in document["work"].items()},
        tuple(Rate(**rate) for rate in document["measured"]),
        document["engine"],
        document["engine_source"],
    )
