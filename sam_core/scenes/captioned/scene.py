"""Scenes of a few named things on a surface that is lit from above, some side by side, some on one another.

The things are drawn and labelled by the layers of the other procedural scenes. Every scene is brighter at the top than
at the bottom, so that a crop with its background shows how high it was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_core.scenes.captioned.drawing import named_part
from sam_core.scenes.captioned.things import HOSTS, Look, Side, Thing
from sam_core.scenes.kernels import Bool, Float64, UInt8
from sam_core.scenes.layers import Canvas, Part, cast_shadow, land, placed, render_layer, stamp
from sam_core.scenes.materials import MaterialShop, random_palette
from sam_core.scenes.shapes import box
from sam_core.scenes.textures import TextureBank, texture_bank

Rng = np.random.Generator
_LIGHT = np.array([-0.3, -0.5, 0.81])
_SMALL, _LARGE = (0.085, 0.11), (0.17, 0.23)
"""Half extents, as shares of the scene's side."""
_CARRIED = 0.4
"""Extent of a thing that lies on another, as a share of that one's."""
_TOP, _BOTTOM = 1.3, 0.6
"""Brightness at either end of the scene."""
_TRIES = 30


@dataclass(frozen=True, slots=True)
class CaptionedScene:
    """image: uint8 RGB [S, S, 3]. masks: bool [n, S, S], what is visible of each thing, with what lies on it."""

    image: UInt8
    things: tuple[Thing, ...]
    masks: Bool


def render_captioned(
    rng: Rng, looks: Sequence[Look], *, size: int = 128, most: int = 5, first: Look | None = None
) -> CaptionedScene:
    """A scene of 3 to `most` things, fewer where there is no room, with one more where a thing lies on another.

    Args:
        rng: advanced by the call; the same state gives the same scene, bit for bit.
        looks: what things may look like.
        size: side, px.
        most: things that do not lie on others.
        first: look of the first thing, for tests of certain looks.
    """
    things = _arranged(rng, looks, size, int(rng.integers(3, most + 1)), first)
    bank = texture_bank(0)
    canvas = Canvas.blank(size)
    _backdrop(rng, canvas, MaterialShop(bank, random_palette(rng), size))
    ids = [_draw(rng, canvas, thing, bank) for thing in things]
    masks = np.stack([canvas.objects == number for number in ids])
    for place, thing in enumerate(things):
        if thing.on is not None:
            masks[thing.on] |= masks[place]
    return CaptionedScene(_developed(rng, canvas), tuple(things), masks)


def _arranged(rng: Rng, looks: Sequence[Look], size: int, count: int, first: Look | None) -> list[Thing]:
    """Things with places that hardly overlap; now and then twins, and small things on large ones."""
    things: list[Thing] = []
    for number in range(count):
        look = first if first and not number else looks[int(rng.integers(len(looks)))]
        if things and rng.random() < 0.12:
            look = things[int(rng.integers(len(things)))].look
        thing = _placed(rng, things, look, size)
        if thing:
            things.append(thing)
    hosts = [n for n, thing in enumerate(things) if thing.large and thing.look.shape in HOSTS]
    if hosts and rng.random() < 0.6:
        place = hosts[int(rng.integers(len(hosts)))]
        things.append(_on(rng, things[place], place, looks))
    return things


def _placed(rng: Rng, things: Sequence[Thing], look: Look, size: int) -> Thing | None:
    """A thing where there is room for it, half of the time beside another; None where no room was found."""
    large = bool(rng.random() < 0.5)
    extent = float(rng.uniform(*(_LARGE if large else _SMALL))) * size
    for _ in range(_TRIES):
        x, y = rng.uniform(0.9 * extent, size - 0.9 * extent, 2).tolist()
        if things and rng.random() < 0.5:
            x, y = _next_to(rng, things[int(rng.integers(len(things)))], extent)
        inside = min(x, y, size - x, size - y) >= 0.85 * extent
        if inside and all(_apart(x, y, extent, other) for other in things):
            return Thing(look, large, x, y, extent)
    return None


def _next_to(rng: Rng, other: Thing, extent: float) -> tuple[float, float]:
    side = list(Side)[int(rng.integers(4))]
    away, along = (other.extent + extent) * rng.uniform(1.03, 1.2), rng.uniform(-0.3, 0.3) * other.extent
    step = {Side.LEFT: (-away, along), Side.RIGHT: (away, along), Side.ABOVE: (along, -away), Side.BELOW: (along, away)}
    return other.x + step[side][0], other.y + step[side][1]


def _apart(x: float, y: float, extent: float, other: Thing) -> bool:
    least = extent + other.extent
    return max(abs(x - other.x), abs(y - other.y)) > 0.95 * least


def _on(rng: Rng, host: Thing, place: int, looks: Sequence[Look]) -> Thing:
    """A small thing of another colour and shape in the middle of a large one."""
    others = [look for look in looks if look.colour != host.look.colour and look.shape != host.look.shape]
    look = others[int(rng.integers(len(others)))]
    lower = 0.2 if host.look.shape == "triangle" else -0.05
    return Thing(look, False, host.x, host.y + lower * host.extent, _CARRIED * host.extent, on=place)


def _backdrop(rng: Rng, canvas: Canvas, shop: MaterialShop) -> None:
    size = canvas.size
    material = shop.rough(rng) if rng.random() < 0.7 else shop.plain(rng)
    grey = material.ramp.mean(1, keepdims=True)
    dull = np.float32(0.3) * material.ramp + np.float32(0.7) * grey  # so that things are told by their colours
    level = np.clip(np.float32(0.25) + np.float32(0.4) * (dull - dull.min()) / (np.ptp(dull) + np.float32(1e-3)), 0, 1)
    mild = np.float32(0.5) * level + np.float32(0.5) * np.clip(dull, 0.15, 0.7)
    number = canvas.new_object(stuff=True)
    stamp(canvas, [Part((box(-2, -2, size + 2, size + 2),), replace(material, ramp=mild))], _LIGHT, object_id=number)
    canvas.colour[...] *= np.linspace(_TOP, _BOTTOM, size, dtype=np.float32)[:, None, None]


def _draw(rng: Rng, canvas: Canvas, thing: Thing, bank: TextureBank) -> int:
    """Draw a thing and return its id."""
    part = named_part(rng, thing.look, bank, period=float(rng.uniform(0.5, 0.65)) * max(thing.extent, 11))
    centre: Float64 = np.array([thing.x, thing.y])
    layer = render_layer(placed([part], np.eye(2) * thing.extent, centre), canvas.size, _LIGHT)
    assert layer is not None, "things lie inside the scene"
    if thing.on is None:
        shift = 0.12 * thing.extent
        cast_shadow(canvas, layer, np.array([[1, 0, 0.5 * shift], [0, 1, shift]]), 1.0 + 0.1 * shift, 0.4)
    return land(canvas, layer)


def _developed(rng: Rng, canvas: Canvas) -> UInt8:
    """The picture with a little noise and a slight cast."""
    cast = np.exp(rng.normal(0, 0.03, 3)).astype(np.float32)
    noise = rng.normal(0, 3, canvas.colour.shape).astype(np.float32)
    return np.asarray(np.clip(canvas.colour * cast * 255 + noise, 0, 255), np.uint8)
