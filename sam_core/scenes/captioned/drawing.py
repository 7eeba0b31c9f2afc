"""How named things are drawn: outlines of the shapes, surfaces of colours and textures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.captioned.things import TEXTURES, Look
from sam_core.scenes.kernels import Float64, UInt8
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import Material, colour_ramp, hsv, lay, vary
from sam_core.scenes.shapes import Contours
from sam_core.scenes.textures import SIDE, TextureBank

Rng = np.random.Generator
_HSV = {
    "red": (0.0, 0.85, 0.8),
    "yellow": (0.145, 0.85, 0.92),
    "green": (0.34, 0.75, 0.6),
    "blue": (0.6, 0.8, 0.8),
    "purple": (0.79, 0.65, 0.62),
    "white": (0.1, 0.04, 0.93),
    "black": (0.6, 0.1, 0.1),
}
_PERIOD = 32
"""Texels from one stripe, dot or check to the next."""


def named_part(rng: Rng, look: Look, bank: TextureBank, *, period: float) -> Part:
    """The thing in a frame of -1..1, y down. period: px from one stripe, dot or check to the next."""
    relief = float(rng.uniform(0.0, 0.5))
    return Part(outline(rng, look.shape), surface(rng, look, bank, period=period), relief)


def outline(rng: Rng, shape: str) -> Contours:
    """Contours of a shape, a little different every time: slightly turned, stretched and bent."""
    stretch = float(np.exp(rng.normal(0, 0.06)))
    turn = shapes.turn_matrix(rng.normal(0, 0.12)) @ np.diag([stretch, 1 / stretch])
    bent = shapes.bent(_plain_outline(rng, shape), rng.normal(0, 0.02, 2), rng.uniform(1, 3, 2), rng.uniform(0, 6, 2))
    return tuple(contour @ turn for contour in bent)


def surface(rng: Rng, look: Look, bank: TextureBank, *, period: float) -> Material:
    """The material of a look. period: px from one stripe, dot or check to the next."""
    colour = vary(hsv(*_HSV[look.colour]), rng, 0.04)
    plain = look.texture == "plain"
    fields = bank.smooth if plain else pattern_fields()
    number = int(rng.integers(len(fields))) if plain else TEXTURES.index(look.texture) - 1
    scale = 1.0 if plain else _PERIOD / period
    return Material(
        field=fields[number],
        grain=bank.grain,
        grain_gain=float(rng.uniform(0, 0.06)),
        homography=lay(rng, scale),
        ramp=colour_ramp(colour * 0.9, np.minimum(colour * 1.05, 1)) if plain else colour_ramp(colour, _other(colour)),
        colour=colour,
    )


@lru_cache(maxsize=1)
def pattern_fields() -> UInt8:
    """Stripes, dots and checks that tile, uint8 [3, SIDE, SIDE], of _PERIOD texels; high values are marks."""
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / _PERIOD)
    stripes = np.sin(x)
    dots = np.cos(x) + np.cos(y) - 0.5
    checks = 2 * np.sin(x) * np.sin(y)
    soft = [np.tanh(4 * field) for field in (stripes, dots, checks)]
    return np.stack([np.asarray(127.5 * (field + 1), np.uint8) for field in soft])


def _other(colour: Float64) -> Float64:
    """The colour of stripes, dots and checks: the same hue, darker on what is light and lighter on what is dark.

    White stays light and black stays dark, so that they are not taken for each other.
    """
    light = float(colour @ (0.3, 0.59, 0.11))
    if light < 0.2:
        return np.asarray(colour + 0.3 * (1 - colour))
    return np.asarray(colour * (0.6 if light > 0.8 else 0.35))


def _plain_outline(rng: Rng, shape: str) -> Contours:
    match shape:
        case "circle":
            return (shapes.ellipse(),)
        case "square":
            return (shapes.box(-0.88, -0.88, 0.88, 0.88),)
        case "triangle":
            return (np.array([[0, -1], [0.98, 0.8], [-0.98, 0.8]]),)
        case "star":
            angle = np.linspace(0, 2 * np.pi, 10, endpoint=False) - np.pi / 2
            radius = np.where(np.arange(10) % 2, rng.uniform(0.42, 0.5), 1.0)
            return (np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1),)
        case "ring":
            return shapes.ellipse(), shapes.ellipse() * rng.uniform(0.45, 0.55)
        case "cross":
            w = rng.uniform(0.3, 0.4)
            quarter = np.array([[w, -1], [w, -w], [1, -w]])
            return (np.concatenate([shapes.turned(quarter, n * np.pi / 2) for n in range(4)]),)
        case "heart":
            t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            x = np.sin(t) ** 3
            y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16 - 0.08
            return (np.stack([x, y], 1),)
        case "moon":
            angle = np.linspace(-2.2, 2.2, 28)
            outer = np.stack([np.cos(angle), np.sin(angle)], 1)
            inner = np.stack([np.cos(2.2) + 0.42 * (np.cos(angle) - np.cos(2.2)), np.sin(angle)], 1)
            return (np.concatenate([outer, inner[::-1]]) - (0.2, 0),)
    raise ValueError(f"no shape is called {shape!r}")
