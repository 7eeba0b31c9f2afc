"""Things people make: vehicles, vessels, boxes, furniture, houses, signs, dishes, screens."""

from itertools import pairwise

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import Material, MaterialShop
from sam_core.scenes.objects.marks import decorations, highlight

Rng = np.random.Generator
_GLASS = np.array([0.2, 0.25, 0.3])
_RUBBER = np.full(3, 0.08)
_STEEL = np.full(3, 0.6)


def vehicle(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Car, van, bus or train: body, cabin, windows, lamps, trim, wheels with hubs."""
    paint, glass = shop.plain(rng), shop.plain(rng, _GLASS * rng.uniform(0.5, 2.5))
    roof, wheel, floor = rng.uniform(-0.8, -0.05), rng.uniform(0.12, 0.26), rng.uniform(0.7, 0.85)
    front, rear = rng.uniform(0.3, 0.95), rng.uniform(0.5, 0.98)
    cabin = np.array([[-rear, 0.25], [-rear + 0.1, roof], [front - rng.uniform(0.02, 0.3), roof], [front, 0.25]])
    body = shapes.rounded_box(-1, 0.2, 1, floor, rng.uniform(0.05, 0.25))
    edges = np.linspace(-rear + 0.15, front - 0.25, int(rng.integers(2, 8)))
    panes = tuple(shapes.rounded_box(a + 0.03, roof + 0.08, b - 0.03, 0.18, 0.03) for a, b in pairwise(edges))
    parts = [
        Part((cabin,), paint if rng.random() < 0.8 else shop.any(rng), 0.3),
        Part(panes, glass, 0.2, mark=bool(rng.random() < 0.5)),
        Part((body,), paint, 0.4),
        *decorations(rng, shop, body, likely=0.5),
    ]
    lamps = tuple(shapes.ellipse(0.06, 0.08, centre=(x, 0.4)) for x in (0.92, -0.94))
    parts.append(Part(lamps, shop.plain(rng, np.array([0.95, 0.85, 0.6])), mark=True))
    return parts + [part for x in (-0.6, 0.6) for part in _wheel(shop, rng, x, 1 - wheel, wheel)]


def _wheel(shop: MaterialShop, rng: Rng, x: float, y: float, radius: float) -> list[Part]:
    tyre, hub = shapes.ellipse(radius, radius, centre=(x, y)), shapes.ellipse(0.6 * radius, 0.6 * radius, centre=(x, y))
    return [Part((tyre,), shop.plain(rng, _RUBBER), 0.3), Part((hub,), shop.plain(rng, _STEEL), 0.5, mark=True)]


def cycle(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Bicycle or motorcycle: two open or closed wheels, a frame of tubes, saddle, handlebar, sometimes an engine."""
    frame, tyre = shop.plain(rng), shop.plain(rng, _RUBBER)
    radius, thin = rng.uniform(0.36, 0.46), rng.uniform(0.035, 0.08)
    hubs = np.array([[-0.56, 1 - radius], [0.56, 1 - radius]])
    parts: list[Part] = []
    for hub in hubs:
        rim = shapes.ellipse(radius, radius) + hub
        hole = shapes.ellipse(radius - 1.6 * thin, radius - 1.6 * thin) + hub
        parts.append(Part((rim, hole), tyre, 0.2))
        spokes = tuple(np.stack([hub, hub + radius * np.array([np.cos(a), np.sin(a)])]) for a in np.arange(0, 6.2, 0.8))
        parts.append(Part(spokes, shop.plain(rng, _STEEL), stroke=0.015))
    seat, crank, bar = np.array([-0.25, 0.1]), np.array([-0.05, 0.62]), np.array([0.42, 0.0])
    tubes = tuple(
        np.stack(p)
        for p in (
            (hubs[0], seat),
            (seat, crank),
            (crank, bar + (0.02, 0.15)),
            (seat, bar),
            (hubs[0], crank),
            (bar, hubs[1]),
        )
    )
    parts.append(Part(tubes, frame, stroke=thin))
    if rng.random() < 0.4:
        parts.append(Part((shapes.blob(rng, 0.2) * (0.35, 0.22) + (0, 0.4),), shop.any(rng), 0.7))
        parts.append(Part((shapes.blob(rng, 0.15) * (0.25, 0.12) + (0.1, 0.12),), frame, 0.7))
    parts.append(Part((shapes.ellipse(0.16, 0.05, centre=(seat[0], 0.06)),), shop.plain(rng), 0.5))
    return [*parts, Part((np.stack([bar + (-0.12, -0.04), bar, bar + (0.06, -0.1)]),), tyre, stroke=thin)]


def bottle(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Something turned: bottle, vase, cup, lamp, chess piece; with cap, label, sometimes a handle."""
    heights = np.array([-1, -0.75, -0.5, -0.2, 0.2, 0.7, 1.0]) * rng.uniform(0.4, 1)
    radii = np.clip(np.cumsum(rng.normal(0.05, 0.12, 7)) + rng.uniform(0.15, 0.4), 0.08, 0.7)
    if rng.random() < 0.5:
        radii[:2] = rng.uniform(0.08, 0.15)
    outline = shapes.smooth(shapes.revolved(heights, radii), steps=4)
    parts: list[Part] = []
    if rng.random() < 0.3:
        centre = np.array([radii[4], heights[3] + 0.1])
        loop = shapes.ellipse(0.3, 0.32)
        parts.append(Part((loop + centre, loop * 0.62 + centre), shop.any(rng), 0.4))
    parts += [Part((outline,), shop.any(rng), rng.uniform(0.4, 1)), *decorations(rng, shop, outline, likely=0.6)]
    if rng.random() < 0.4:
        parts.append(highlight(rng, shop, outline.mean(0), np.array([radii.max(), heights.max()])))
    if rng.random() < 0.6:
        lid = shapes.rounded_box(-radii[0] - 0.05, heights[0] - 0.15, radii[0] + 0.05, heights[0] + 0.15, 0.04)
        parts.append(Part((lid,), shop.any(rng), 0.5))
    return parts


def crate(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Box in perspective: three faces of one surface in different light, with doors or prints."""
    surface = shop.any(rng)
    wide, deep, tall = rng.uniform(0.5, 1), rng.uniform(0.2, 0.8), rng.uniform(0.3, 1.6)
    rise = rng.uniform(0.1, 0.5) * deep
    a, b, c = np.array([[-wide, 1 - tall], [wide * 0.6, 1 - tall], [wide * 0.6 + deep, 1 - tall - rise]])
    down, back = np.array([0, tall]), np.array([deep, -rise])
    faces = (
        np.stack([b, c, c + 0.92 * down, b + down]),
        np.stack([a, b, c, a + back]),
        np.stack([a, b, b + down, a + down]),
    )
    parts: list[Part] = []
    for face, bright in zip(faces, rng.permutation([1.15, 0.85, 0.55]), strict=True):
        cover = surface if rng.random() < 0.75 else shop.any(rng)
        parts += [Part((face,), cover, 0.0, bright), *decorations(rng, shop, face, likely=0.35)]
    return parts


def furniture(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Table, chair, sofa, shelf: boards and cushions on thin or thick legs, the room showing between them."""
    wood = shop.rough(rng) if rng.random() < 0.6 else shop.any(rng)
    level, wide, skew = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 0.95), rng.uniform(0, 0.3)
    leg = rng.uniform(0.03, 0.09)
    far, near = level - 0.1, level
    feet = (
        (-wide + skew, far, 0.85, 0.7),
        (wide, far, 0.85, 0.7),
        (-wide, near, 1.0, 1.0),
        (wide - skew, near, 1.0, 1.0),
    )
    parts = [Part((shapes.box(x - leg, top, x + leg, bottom),), wood, 0.3, bright) for x, top, bottom, bright in feet]
    if rng.random() < 0.5:
        back = shapes.rounded_box(-wide + skew, level - rng.uniform(0.3, 1.2), wide + 0.05, level - 0.1, 0.1)
        parts += [Part((back,), shop.cloth(rng), 0.3, 0.9), *decorations(rng, shop, back)]
    if rng.random() < 0.35:
        seat = shapes.rounded_box(-wide, level - 0.1, wide, level + rng.uniform(0.2, 0.45), 0.1)
        parts += [Part((seat,), shop.cloth(rng), 0.5), *decorations(rng, shop, seat)]
    rim = [
        [-wide - 0.05, level + 0.08],
        [wide - skew, level + 0.08],
        [wide + 0.05, level - 0.15],
        [-wide + skew, level - 0.15],
    ]
    return [*parts, Part((np.array(rim),), shop.any(rng) if rng.random() < 0.4 else wood, 0.1, 1.1)]


def building(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Facade with a roof, rows of windows and a door."""
    tall, wide = rng.uniform(0.4, 1.9), rng.uniform(0.4, 1.0)
    rows, columns = int(rng.integers(1, 6)), int(rng.integers(1, 7))
    pitch = np.array([2 * wide / columns, tall / rows])
    pane = shapes.box(0.25, 0.2, 0.75, 0.75)
    panes = tuple((pane + (i, j)) * pitch + (-wide, 1 - tall) for i in range(columns) for j in range(rows))
    parts = [
        Part((shapes.box(-wide, 1 - tall, wide, 1),), shop.any(rng)),
        Part(panes, shop.plain(rng, _GLASS), mark=True),
    ]
    if rng.random() < 0.6:
        ridge = [rng.uniform(-0.5, 0.9) * wide, 1 - tall - rng.uniform(0.15, 0.6)]
        parts.append(Part((np.array([[-wide * 1.1, 1 - tall], [wide * 1.1, 1 - tall], ridge]),), shop.any(rng)))
    left = rng.uniform(-0.5, 0.5) * wide
    door = shapes.box(left - 0.1, 1 - min(0.4, tall * 0.5), left + 0.12, 1)
    return [*parts, Part((door,), shop.any(rng), 0.1)]


def signpost(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Pole with a panel: sign, lamp, traffic light, umbrella, racket."""
    half = rng.uniform(0.02, 0.06)
    panel = tuple(c * 0.38 + (0, -0.6) for c in shapes.random_outline(rng)[:1])
    face: Material = shop.any(rng)
    pole = Part((shapes.box(-half, -0.6, half, 1),), shop.plain(rng), 0.4)
    return [pole, Part(panel, face, 0.1), *decorations(rng, shop, panel[0], likely=0.9)]


def plate(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Dish seen at a slant, with rim and food on it."""
    slant, china = rng.uniform(0.4, 1), shop.any(rng)
    dish = shapes.ellipse(1, slant) if rng.random() < 0.8 else shapes.superellipse(6, 1, slant)
    parts = [Part((dish,), china, 0.2), Part((dish * rng.uniform(0.6, 0.8),), china, 0.1, 0.9, mark=True)]
    for _ in range(int(rng.integers(1, 7))):
        size, place = rng.uniform(0.15, 0.5), rng.uniform(-0.4, 0.4, 2) * (1, slant)
        food = tuple(c * size + place for c in shapes.random_outline(rng))
        parts.append(Part(food, shop.any(rng), rng.uniform(0.2, 0.9)))
        parts += decorations(rng, shop, food[0], likely=0.4)
    return parts


def screen(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Television, laptop, framed picture, book, phone: a frame around a picture of shapes; sometimes a foot or keys."""
    wide, tall, rim = 1.0, rng.uniform(0.5, 1.1), rng.uniform(0.03, 0.15)
    frame = shapes.rounded_box(-wide, -tall, wide, tall, rng.uniform(0, 0.1))
    parts: list[Part] = []
    base = rng.random()
    if base < 0.3:
        parts.append(Part((shapes.box(-0.3, tall, 0.3, tall + 0.25),), shop.plain(rng), 0.2))
    elif base < 0.55:
        reach = rng.uniform(0.3, 0.7)
        keys = np.array([[-wide, tall], [wide, tall], [wide * 1.1, tall + reach], [-wide * 1.1, tall + reach]])
        parts += [Part((keys,), shop.patterned(rng)), *decorations(rng, shop, keys)]
    parts.append(Part((frame,), shop.plain(rng)))
    glass = shapes.box(rim - wide, rim - tall, wide - rim, tall - rim)
    parts.append(Part((glass,), shop.any(rng)))
    for _ in range(int(rng.integers(0, 6))):
        size, place = rng.uniform(0.2, 0.7), rng.uniform(-0.8, 0.8, 2) * (wide, tall)
        parts.append(Part(tuple(c * size + place for c in shapes.random_outline(rng)), shop.any(rng), 0.3, mark=True))
    return parts
