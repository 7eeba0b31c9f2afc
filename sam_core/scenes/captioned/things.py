"""What a thing of a captioned scene is: shape, colour, texture, size and place; and what it is beside or on.

Frames: px of the scene, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "moon")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("plain", "striped", "dotted", "checkered")
HOSTS = ("circle", "square", "triangle", "heart")
"""Shapes whose middle is broad enough to carry another thing."""
_HELD_OUT_EVERY = 5
_NEAR = 1.45
"""Things are beside each other where their centres are closer than so many times their half extents together."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a thing looks like wherever it is."""

    shape: str
    colour: str
    texture: str


class Side(StrEnum):
    """Where a thing lies, seen from another."""

    LEFT = "left"
    RIGHT = "right"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing. extent: half of its longer side, px. on: place in the scene's list of what it lies on, or None."""

    look: Look
    large: bool
    x: float
    y: float
    extent: float
    on: int | None = None


def looks() -> tuple[Look, ...]:
    """Every combination of shape, colour and texture."""
    return tuple(Look(*words) for words in product(SHAPES, COLOURS, TEXTURES))


def held_out(look: Look) -> bool:
    """Whether a combination is kept apart: a fifth of them, each word of which occurs in many others."""
    place = SHAPES.index(look.shape) + 2 * COLOURS.index(look.colour) + 3 * TEXTURES.index(look.texture)
    return place % _HELD_OUT_EVERY == 0


def side_of(thing: Thing, other: Thing) -> Side:
    """On which side of the other a thing lies, whatever the distance."""
    dx, dy = thing.x - other.x, thing.y - other.y
    if abs(dx) > abs(dy):
        return Side.LEFT if dx < 0 else Side.RIGHT
    return Side.ABOVE if dy < 0 else Side.BELOW


def beside(thing: Thing, other: Thing) -> bool:
    """Whether two things are near each other, as one that lies on the other is, too."""
    reach = _NEAR * (thing.extent + other.extent)
    return (thing.x - other.x) ** 2 + (thing.y - other.y) ** 2 < reach**2


def carried(things: Sequence[Thing], place: int) -> int | None:
    """What lies on a thing, by places in the list."""
    return next((number for number, thing in enumerate(things) if thing.on == place), None)
