"""What `sam-engine rounds` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from workflows.option_values import require_positive


@dataclass(frozen=True, slots=True)
class RoundsConfig:
    """Run the data engine: rounds of annotating, training and measuring, as engine.yaml says; go on after any kill."""

    action: Positional[Literal["run", "resume", "status"]]
    """run begins the rounds or goes on with them, resume only goes on, status shows how far they are."""
    engine: Positional[Annotated[str, arg(metavar="[FILE]")]] = "engine.yaml"
    """The file that describes the engine; see docs/rounds.md."""
    simulate: bool = False
    """Simulated annotators take the place of people; needs a section `simulation` that names the true masks."""
    steps: int | None = None
    """Stop after so many steps; the same command goes on."""
    json: bool = False
    """status as one JSON array instead of a table."""

    def __post_init__(self) -> None:
        require_positive(self, "steps")
        if self.action == "status" and (self.simulate or self.steps is not None):
            raise ValueError("rounds status does nothing: --simulate and --steps are for run and resume")
        if self.action != "status" and self.json:
            raise ValueError(f"rounds {self.action} has no --json; it is for status")
