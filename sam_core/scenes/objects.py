"""Families of objects made of parts, in a unit frame: about one unit around the origin, y down, feet at y = 1."""

from collections.abc import Callable

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import Material, MaterialShop, vary

Rng = np.random.Generator
Family = Callable[[Rng, MaterialShop], list[Part]]


def _pair(*values: float) -> Float64:
    return np.array(values, float)


def decorations(rng: Rng, shop: MaterialShop, contour: Float64, *, likely: float = 0.4) -> list[Part]:
    """Marks on a region that are no objects: spots, bands, prints, patches, a highlight."""
    if rng.random() > likely:
        return []
    low, high = contour.min(0), contour.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    kind = rng.random()
    ink = shop.any(rng)
    if kind < 0.3:
        count = int(rng.integers(2, 9))
        spots = [
            shapes.blob(rng, 0.2, points=20) * rng.uniform(0.06, 0.3) * half.min() + rng.uniform(low, high)
            for _ in range(count)
        ]
        return [Part(tuple(spots), ink, mark=True)]
    if kind < 0.55:
        turn = rng.uniform(0, np.pi) if rng.random() < 0.4 else rng.choice([0, np.pi / 2])
        reach, width = 2.5 * half.max(), rng.uniform(0.04, 0.3) * half.min()
        offsets = np.arange(1 if rng.random() < 0.5 else int(rng.integers(2, 6))) * width * rng.uniform(1.6, 4)
        start = rng.uniform(-0.8, 0.6) * half.min()
        bands = tuple(
            shapes.turned(shapes.box(-reach, start + o, reach, start + o + width), turn) + middle for o in offsets
        )
        return [Part(bands, ink, mark=True)]
    if kind < 0.75:
        patch = shapes.random_outline(rng)
        size = half * rng.uniform(0.2, 0.6)
        place = middle + rng.uniform(-0.5, 0.5, 2) * half
        return [Part(tuple(c * size + place for c in patch), ink, mark=True)]
    if kind < 0.9:
        return _writing(rng, ink, middle + rng.uniform(-0.3, 0.3, 2) * half, half * rng.uniform(0.3, 0.7))
    shine = shop.plain(rng, np.full(3, 0.97))
    place = middle - rng.uniform(0.2, 0.5) * half
    return [
        Part((shapes.ellipse(*(half * rng.uniform(0.06, 0.2, 2)), tilt=rng.uniform(0, 3)) + place,), shine, mark=True)
    ]


def _writing(rng: Rng, ink: Material, centre: Float64, half: Float64) -> list[Part]:
    """One to three lines of letter-like strokes."""
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(2, 7))
    cell = half * 2 / (columns, rows)
    letters = tuple(
        (rng.uniform(-0.38, 0.38, (int(rng.integers(3, 6)), 2)) + (i % columns + 0.5, i // columns + 0.5)) * cell
        - half
        + centre
        for i in range(rows * columns)
    )
    return [Part(letters, ink, mark=True, stroke=0.15 * float(cell.min()))]


def blob_thing(rng: Rng, shop: MaterialShop) -> list[Part]:
    """A single region of any shape with or without marks."""
    contours = shapes.random_outline(rng)
    relief = rng.uniform(0.3, 1) if rng.random() < 0.5 else 0.0
    return [Part(contours, shop.any(rng), relief), *decorations(rng, shop, contours[0])]


def patchwork(rng: Rng, shop: MaterialShop) -> list[Part]:
    """One outline cut into differently textured pieces: the whole is held together by its outline alone."""
    contours = shapes.random_outline(rng)
    relief = rng.uniform(0.2, 0.9) if rng.random() < 0.6 else 0.0
    parts = [Part(contours, shop.any(rng), relief)]
    for _ in range(int(rng.integers(1, 5))):
        cutter = shapes.blob(rng, 0.4) * rng.uniform(0.3, 0.9) + rng.uniform(-1, 1, 2)
        parts.append(Part((cutter,), shop.any(rng), mark=True))
    return parts


def compound(rng: Rng, shop: MaterialShop) -> list[Part]:
    """A few overlapping shapes that belong together: toys, tools, machines nobody has a name for."""
    parts = []
    place = np.zeros(2)
    base = shop.any(rng)
    for _ in range(int(rng.integers(2, 7))):
        size = np.exp(rng.normal(-0.8, 0.35))
        contours = tuple(c * size + place for c in shapes.random_outline(rng))
        surface = base if rng.random() < 0.3 else shop.any(rng)
        parts.append(Part(contours, surface, rng.uniform(0, 0.9)))
        parts += decorations(rng, shop, contours[0], likely=0.2)
        place = np.clip(place + rng.normal(0, 0.7 * size, 2), -0.8, 0.8)
    return parts


def person(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Standing, walking or sitting figure: legs, trunk, arms, head, hair; skin and clothes of their own."""
    skin = shop.plain(rng, np.array([0.8, 0.6, 0.5]) * rng.uniform(0.25, 1.15))
    shirt, trousers, shoes = shop.any(rng), shop.any(rng), shop.plain(rng)
    hip, shoulder = rng.uniform(0.13, 0.22), rng.uniform(0.18, 0.28)
    waist, neck = 0.12, -0.5
    parts = []
    for side in (-1, 1):
        knee = _pair(side * hip * 0.6 + rng.normal(0, 0.09), rng.uniform(0.45, 0.6))
        foot = knee + (rng.normal(0, 0.1), 0.42)
        leg = np.stack([_pair(side * hip * 0.5, waist - 0.05), knee, foot])
        parts.append(Part((shapes.ellipse(0.1, 0.045, centre=(foot[0] + 0.04, 0.99)),), shoes, 0.4))
        parts.append(Part((shapes.limb(leg, _pair(0.12, 0.09, 0.06)),), trousers, 0.7))
    arms = [_arm(rng, side, shoulder, neck, shirt, skin) for side in (-1, 1)]
    trunk = shapes.smooth(
        np.array(
            [[-shoulder, neck], [shoulder, neck], [hip * 1.1, -0.15], [hip, waist], [-hip, waist], [-hip * 1.1, -0.15]]
        )
    )
    parts += arms[0] if rng.random() < 0.6 else []
    parts += [Part((trunk,), shirt, 0.6), *decorations(rng, shop, trunk, likely=0.5)]
    parts += arms[1]
    if rng.random() < 0.25:
        skirt = _pair(-0.16, 0.0, 0.16, 0.0, 0.34, 0.5, -0.34, 0.5).reshape(4, 2)
        parts.append(Part((shapes.smooth(skirt),), trousers, 0.5))
    return [*parts, *_head(rng, shop, skin, _pair(rng.normal(0, 0.03), -0.72), rng.uniform(0.14, 0.19))]


def _arm(rng: Rng, side: int, shoulder: float, neck: float, sleeve: Material, skin: Material) -> list[Part]:
    start = _pair(side * shoulder * 0.9, neck + 0.06)
    elbow = start + 0.3 * _pair(side * abs(rng.normal(0.4, 0.4)), rng.uniform(0.2, 1))
    hand = elbow + 0.3 * shapes.turned(_pair(0, 1.0)[None], rng.normal(0, 1.0))[0]
    bare = Part((shapes.limb(np.stack([elbow, hand]), _pair(0.05, 0.04)),), skin if rng.random() < 0.5 else sleeve, 0.6)
    palm = Part((shapes.ellipse(0.055, 0.055, centre=(hand[0], hand[1])),), skin, 0.5)
    return [palm, bare, Part((shapes.limb(np.stack([start, elbow]), _pair(0.08, 0.06)),), sleeve, 0.6)]


def _head(rng: Rng, shop: MaterialShop, skin: Material, centre: Float64, size: float) -> list[Part]:
    hair = shop.rough(rng, vary(np.array([0.2, 0.13, 0.08]), rng, 0.4))
    neck = Part((shapes.box(-0.3, 0.3, 0.3, 1.6) * size + centre,), skin, 0.3, 0.85)
    face = Part((shapes.superellipse(2.2, 0.8, 1.05) * size + centre,), skin, 0.6)
    top = shapes.superellipse(2.2, 0.92, 1.15) * size + centre + (0, -0.1 * size)
    parts = [neck]
    if rng.random() < 0.4:
        parts.append(Part((top * (1, 1.0) + (0, 0.3 * size),), hair, 0.4))
    parts.append(face)
    for side in (-1, 1):
        eye = shapes.ellipse(0.1, 0.07, centre=(side * 0.33, -0.1)) * size + centre
        parts.append(Part((eye,), hair, mark=True))
    parts.append(Part((shapes.ellipse(0.28, 0.06, centre=(0, 0.55)) * size + centre,), shop.plain(rng), mark=True))
    if rng.random() < 0.85:
        cap = np.concatenate([top[20:40], top[:1]]) * (1, 1)
        parts.append(
            Part((cap + (0, -0.25 * size * (rng.random() < 0.7)),), hair if rng.random() < 0.7 else shop.any(rng), 0.4)
        )
    return parts


def bust(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Head and shoulders, as portraits crop people."""
    skin = shop.plain(rng, np.array([0.8, 0.6, 0.5]) * rng.uniform(0.25, 1.15))
    shirt = shop.any(rng)
    trunk = shapes.smooth(_pair(-0.25, 0.05, 0.25, 0.05, 0.75, 0.3, 0.9, 1.2, -0.9, 1.2, -0.75, 0.3).reshape(6, 2))
    body = [Part((trunk,), shirt, 0.5), *decorations(rng, shop, trunk, likely=0.6)]
    return [*body, *_head(rng, shop, skin, _pair(rng.normal(0, 0.05), -0.4), rng.uniform(0.36, 0.5))]


def beast(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Four-legged animal seen from the side: far legs, body, neck, head, ears, tail; coat with or without spots."""
    coat = shop.patterned(rng) if rng.random() < 0.3 else shop.rough(rng)
    tall, long = rng.uniform(0.3, 0.75), rng.uniform(0.5, 0.75)
    girth = rng.uniform(0.18, 0.34)
    back = 0.95 - tall - girth * 0.6
    parts = []
    for bright in (0.7, 1.0):
        for end in (-1, 1):
            top = _pair(end * long * 0.72 + rng.normal(0, 0.05), back)
            knee = _pair(top[0] + rng.normal(0, 0.08), back + tall * 0.6)
            leg = np.stack([top, knee, _pair(knee[0] + rng.normal(0, 0.06), 0.97)])
            parts.append(Part((shapes.limb(leg, _pair(0.14, 0.07, 0.05)),), coat, 0.5, bright))
    tail = np.stack(
        [_pair(-long, back - 0.1), _pair(-long - 0.2, back + rng.normal(0, 0.2)), _pair(-long - 0.25, back + 0.3)]
    )
    parts.append(Part((shapes.limb(tail, _pair(0.05, 0.04, 0.02)),), coat, 0.4))
    body = shapes.blob(rng, 0.08) * (long, girth) + (0, back)
    parts += [Part((body,), coat, 0.8), *decorations(rng, shop, body, likely=0.5)]
    head = _pair(long + rng.uniform(0.05, 0.3), back - rng.uniform(0.0, 0.6))
    neck = np.stack([_pair(long * 0.75, back), head])
    parts.append(Part((shapes.limb(neck, _pair(girth * 0.7, 0.1)),), coat, 0.6))
    skull = rng.uniform(0.13, 0.2)
    for side in (-0.5, 0.4):
        ear = shapes.ellipse(0.05, rng.uniform(0.06, 0.15), centre=(head[0] + side * skull, head[1] - skull), tilt=side)
        parts.append(Part((ear,), coat, 0.2, 0.8))
    face = shapes.limb(np.stack([head, head + (skull * 1.3, skull * 0.8)]), _pair(skull, skull * 0.55))
    parts.append(Part((face,), coat if rng.random() < 0.6 else shop.any(rng), 0.7))
    parts.append(
        Part(
            (shapes.ellipse(0.03, 0.03, centre=(head[0] + 0.4 * skull, head[1])),),
            shop.plain(rng, np.full(3, 0.05)),
            mark=True,
        )
    )
    return parts


def bird(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Bird or fish: a drop-shaped body, tail, wing or fin, eye, beak, sometimes legs."""
    coat, wing = shop.any(rng), shop.any(rng)
    body = shapes.smooth(_pair(-0.8, 0.1, -0.2, -0.3, 0.4, -0.4, 0.75, -0.15, 0.6, 0.2, 0, 0.4).reshape(6, 2))
    tail = shapes.hull(rng) * 0.35 + (-0.85, 0.1)
    fin = shapes.smooth(shapes.hull(rng) * (0.45, 0.3)) + (-0.1, rng.uniform(-0.3, 0.1))
    beak = _pair(0.72, -0.2, 1.0, -0.1, 0.72, -0.02).reshape(3, 2)
    parts = [Part((tail,), wing, 0.2)]
    if rng.random() < 0.5:
        legs = tuple(np.stack([_pair(x, 0.3), _pair(x + 0.05, 1.0)]) for x in (0.0, 0.15))
        parts.append(Part(legs, shop.plain(rng), stroke=0.06))
    parts += [Part((body,), coat, 0.8), *decorations(rng, shop, body), Part((beak,), shop.plain(rng), 0.3)]
    parts.append(
        Part((shapes.ellipse(0.05, 0.05, centre=(0.55, -0.18)),), shop.plain(rng, np.full(3, 0.04)), mark=True)
    )
    return [*parts, Part((fin,), wing, 0.4)]


def vehicle(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Car, van, bus or cart: body, cabin, windows, lamps, wheels with hubs."""
    paint, glass, rubber = (
        shop.plain(rng),
        shop.plain(rng, np.array([0.2, 0.25, 0.3])),
        shop.plain(rng, np.full(3, 0.08)),
    )
    roof, wheel = rng.uniform(-0.75, -0.1), rng.uniform(0.16, 0.26)
    front, rear = rng.uniform(0.3, 0.95), rng.uniform(0.5, 0.95)
    cabin = _pair(-rear, 0.25, -rear + 0.1, roof, front - 0.2, roof, front, 0.25).reshape(4, 2)
    body = shapes.rounded_box(-1, 0.2, 1, 0.85, rng.uniform(0.05, 0.25))
    parts = [Part((cabin,), paint if rng.random() < 0.8 else shop.any(rng), 0.3)]
    panes = int(rng.integers(1, 6))
    edges = np.linspace(-rear + 0.15, front - 0.25, panes + 1)
    windows = tuple(
        shapes.rounded_box(a + 0.03, roof + 0.08, b - 0.03, 0.18, 0.03) for a, b in zip(edges, edges[1:], strict=False)
    )
    parts.append(Part(windows, glass, 0.2))
    parts += [Part((body,), paint, 0.4), *decorations(rng, shop, body, likely=0.5)]
    lamp = shop.plain(rng, np.array([0.95, 0.9, 0.6]))
    parts.append(Part((shapes.ellipse(0.06, 0.08, centre=(0.92, 0.4)),), lamp, mark=True))
    for x in (-0.6, 0.6):
        parts.append(Part((shapes.ellipse(wheel, wheel, centre=(x, 1 - wheel)),), rubber, 0.3))
        hub = shapes.ellipse(0.55 * wheel, 0.55 * wheel, centre=(x, 1 - wheel))
        parts.append(Part((hub,), shop.plain(rng, np.full(3, 0.6)), 0.5, mark=True))
    return parts


def bottle(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Something turned: bottle, vase, cup, lamp, chess piece; neck, label, sometimes a handle."""
    heights = np.array([-1, -0.75, -0.5, -0.2, 0.2, 0.7, 1.0])
    radii = np.clip(np.cumsum(rng.normal(0.05, 0.12, 7)) + rng.uniform(0.15, 0.4), 0.08, 0.7)
    if rng.random() < 0.5:
        radii[:2] = rng.uniform(0.08, 0.15)
    outline = shapes.smooth(shapes.revolved(heights, radii), steps=4)
    parts = []
    if rng.random() < 0.3:
        handle = shapes.ellipse(0.3, 0.35, centre=(radii[4], 0.1))
        parts.append(Part((handle, (handle - handle.mean(0)) * 0.6 + handle.mean(0)), shop.any(rng), 0.4))
    parts += [Part((outline,), shop.any(rng), rng.uniform(0.4, 1)), *decorations(rng, shop, outline, likely=0.6)]
    if rng.random() < 0.6:
        cap = shapes.rounded_box(-radii[0] - 0.05, -1.15, radii[0] + 0.05, -0.85, 0.04)
        parts.append(Part((cap,), shop.any(rng), 0.5))
    return parts


def plant(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Stems with leaves or petals, from a pot or from the ground."""
    green = shop.rough(rng, vary(np.array([0.25, 0.4, 0.15]), rng, 0.15))
    leaf = shop.any(rng) if rng.random() < 0.3 else green
    parts: list[Part] = []
    root = _pair(0, 0.45)
    for _ in range(int(rng.integers(4, 14))):
        tip = root + shapes.turned(_pair(0, -1)[None], rng.normal(0, 0.7))[0] * rng.uniform(0.4, 1.4)
        middle = (root + tip) / 2 + rng.normal(0, 0.1, 2)
        parts.append(Part((np.stack([root, middle, tip]),), green, stroke=0.04))
        blade = _pair(0, 0, 0.5, 0.16, 1, 0, 0.5, -0.16).reshape(4, 2) * rng.uniform(0.3, 0.8)
        heading = np.arctan2(*(tip - middle)[::-1]) + rng.normal(0, 0.4)
        parts.append(Part((shapes.smooth(blade) @ _turn(heading) + middle,), leaf, 0.3, rng.uniform(0.6, 1.2)))
    if rng.random() < 0.6:
        pot = _pair(-0.35, 0.4, 0.35, 0.4, 0.25, 1, -0.25, 1).reshape(4, 2)
        parts += [Part((pot,), shop.any(rng), 0.6), *decorations(rng, shop, pot)]
    return parts


def _turn(angle: float) -> Float64:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def tree(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Trunk and a crown of overlapping leafy masses in light and shade."""
    bark = shop.rough(rng, vary(np.array([0.3, 0.22, 0.15]), rng, 0.15))
    leaves = shop.rough(rng, vary(np.array([0.22, 0.33, 0.12]), rng, 0.15))
    trunk = np.stack([_pair(0, 1), _pair(rng.normal(0, 0.08), 0.2), _pair(rng.normal(0, 0.12), -0.4)])
    parts = [Part((shapes.limb(trunk, _pair(0.1, 0.07, 0.04)),), bark, 0.5)]
    for _ in range(int(rng.integers(2, 8))):
        mass = shapes.blob(rng, 0.35) * rng.uniform(0.25, 0.5) + (rng.normal(0, 0.3), rng.uniform(-0.8, 0.1))
        parts.append(Part((mass,), leaves, 0.7, rng.uniform(0.6, 1.2)))
    return parts


def crate(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Box in perspective: three faces of one surface in different light, with doors or prints."""
    surface = shop.any(rng)
    wide, deep, tall = rng.uniform(0.5, 1), rng.uniform(0.2, 0.8), rng.uniform(0.4, 1.4)
    rise = rng.uniform(0.1, 0.4) * deep
    a, b, c = _pair(-wide, 1 - tall), _pair(wide * 0.6, 1 - tall), _pair(wide * 0.6 + deep, 1 - tall - rise)
    top = np.stack([a, b, c, a + (deep, -rise)])
    front = np.stack([a, b, b + (0, tall), a + (0, tall)])
    side = np.stack([b, c, c + (0, tall * 0.92), b + (0, tall)])
    lights = rng.permutation([1.15, 0.9, 0.6])
    parts = []
    for face, bright in zip((side, top, front), lights, strict=True):
        cover = surface if rng.random() < 0.75 else shop.any(rng)
        parts += [Part((face,), cover, 0.0, bright), *decorations(rng, shop, face, likely=0.35)]
    return parts


def furniture(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Table, chair, shelf: thin legs and boards, with the room showing between them."""
    wood = shop.rough(rng) if rng.random() < 0.6 else shop.any(rng)
    level, wide, skew = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 0.95), rng.uniform(0, 0.3)
    leg = rng.uniform(0.04, 0.09)
    parts = []
    for x, y in ((-wide + skew, level - 0.1), (wide, level - 0.1), (-wide, level), (wide - skew, level)):
        parts.append(
            Part((shapes.box(x - leg, y, x + leg, 0.85 + (y == level) * 0.15),), wood, 0.3, 0.7 + 0.3 * (y == level))
        )
    board = np.array(
        [
            [-wide - 0.05, level + 0.08],
            [wide - skew, level + 0.08],
            [wide + 0.05, level - 0.15],
            [-wide + skew, level - 0.15],
        ]
    )
    if rng.random() < 0.5:
        back = shapes.rounded_box(-wide + skew, -1, wide + 0.05, level - 0.1, 0.1)
        parts += [Part((back,), shop.any(rng), 0.3, 0.9), *decorations(rng, shop, back)]
    parts.append(Part((board,), shop.any(rng) if rng.random() < 0.4 else wood, 0.1, 1.1))
    return parts


def building(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Facade with a roof, rows of windows and a door."""
    tall, wide = rng.uniform(0.4, 1.9), rng.uniform(0.4, 1.0)
    wall = shapes.box(-wide, 1 - tall, wide, 1)
    parts = [Part((wall,), shop.any(rng))]
    rows, columns = int(rng.integers(1, 6)), int(rng.integers(1, 7))
    pitch_x, pitch_y = 2 * wide / columns, tall / rows
    panes = tuple(
        shapes.box(0.25, 0.2, 0.75, 0.75) * (pitch_x, pitch_y) + (-wide + i * pitch_x, 1 - tall + j * pitch_y)
        for i in range(columns)
        for j in range(rows)
    )
    parts.append(Part(panes, shop.plain(rng, np.array([0.2, 0.25, 0.32]) * rng.uniform(0.4, 2)), mark=True))
    if rng.random() < 0.6:
        peak = rng.uniform(0.15, 0.6)
        roof = np.array(
            [[-wide * 1.1, 1 - tall], [wide * 1.1, 1 - tall], [rng.uniform(-0.5, 0.9) * wide, 1 - tall - peak]]
        )
        parts.append(Part((roof,), shop.any(rng)))
    door = shapes.box(-0.1, 1 - min(0.4, tall * 0.5), 0.12, 1) + (rng.uniform(-0.5, 0.5) * wide, 0)
    return [*parts, Part((door,), shop.any(rng), 0.1)]


def fruit(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Round things with a shine: fruit, balls, stones, buns."""
    body = shapes.blob(rng, 0.06) * (1, rng.uniform(0.7, 1.1))
    shine = shapes.ellipse(0.12, 0.08, centre=(-0.35, -0.4), tilt=0.6)
    parts = [Part((body,), shop.any(rng), rng.uniform(0.6, 1))]
    parts += decorations(rng, shop, body, likely=0.25)
    if rng.random() < 0.5:
        parts.append(Part((shine,), shop.plain(rng, np.full(3, 0.95)), mark=True))
    if rng.random() < 0.25:
        parts.append(Part((np.array([[0, -0.8], [0.08, -1.2]]),), shop.plain(rng), stroke=0.1))
    return parts


def rope(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Long thin thing: rope, cable, branch, fence post, rail."""
    path = shapes.wander(rng, curl=rng.choice([0.0, 0.1, 0.4]))
    return [Part((path,), shop.any(rng), stroke=float(np.exp(rng.normal(-2.8, 0.5))))]


def signpost(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Pole with a panel: sign, lamp, traffic light, umbrella."""
    pole = shapes.box(-0.04, -0.6, 0.04, 1)
    panel = tuple(c * 0.38 + (0, -0.6) for c in shapes.random_outline(rng)[:1])
    return [
        Part((pole,), shop.plain(rng), 0.4),
        Part(panel, shop.any(rng), 0.1),
        *decorations(rng, shop, panel[0], likely=0.9),
    ]


def plate(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Dish seen at a slant, with rim and food on it."""
    slant = rng.uniform(0.4, 1)
    dish = shapes.ellipse(1, slant)
    china = shop.any(rng)
    parts = [Part((dish,), china, 0.2), Part((dish * rng.uniform(0.6, 0.8),), china, 0.1, 0.9, mark=True)]
    for _ in range(int(rng.integers(1, 6))):
        food = tuple(
            c * rng.uniform(0.15, 0.4) + rng.uniform(-0.4, 0.4, 2) * (1, slant) for c in shapes.random_outline(rng)
        )
        parts.append(Part(food, shop.any(rng), rng.uniform(0.2, 0.9)))
    return parts


FAMILIES: tuple[Family, ...] = (
    blob_thing, patchwork, compound, person, bust, beast, bird, vehicle, bottle, plant, tree, crate, furniture,
    building, fruit, rope, signpost, plate,
)  # fmt: skip


def random_object(rng: Rng, shop: MaterialShop, families: tuple[Family, ...] = FAMILIES) -> list[Part]:
    """An object of one of the families."""
    return families[int(rng.integers(len(families)))](rng, shop)
