"""People and animals, jointed and dressed."""

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import Material, MaterialShop, vary
from sam_core.scenes.objects.marks import decorations

Rng = np.random.Generator
_SKIN = np.array([0.82, 0.62, 0.5])
_DARK = np.full(3, 0.05)


def _corners(*values: float) -> Float64:
    """Points [k, 2] from x, y, x, y, ..."""
    return np.array(values, float).reshape(-1, 2)


def _along(start: Float64, length: float, angle: float) -> Float64:
    """The point `length` away; angle 0 points down, positive to the right."""
    return start + length * np.array([np.sin(angle), np.cos(angle)])


def _skin(rng: Rng, shop: MaterialShop) -> Material:
    return shop.plain(rng, vary(_SKIN * rng.uniform(0.3, 1.1), rng, 0.05))


def person(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Figure that stands, walks, sits or reaches: legs, trunk, arms, head; skin, hair and clothes of their own."""
    skin, shirt, trousers, shoes = _skin(rng, shop), shop.cloth(rng), shop.cloth(rng), shop.plain(rng)
    stout = float(np.exp(rng.normal(0, 0.2)))
    lean = rng.normal(0, 0.12)
    hip, neck = np.array([0.0, 0.0]), _along(np.zeros(2), 0.62, np.pi + lean)
    bend = rng.uniform(0.9, 1.6) if rng.random() < 0.2 else 0.0
    bare_legs, bare_arms = rng.random() < 0.3, rng.random() < 0.5
    facing = 1 if rng.random() < 0.5 else -1
    legs = [
        _leg(rng, hip + (side * 0.09 * stout, 0), bend * facing, stout, skin if bare_legs else trousers, shoes)
        for side in (-1, 1)
    ]
    arms = [
        _arm(rng, neck + (side * 0.2 * stout, 0.1), side, skin if bare_arms else shirt, shirt, skin) for side in (-1, 1)
    ]
    wide, waist = 0.24 * stout, rng.uniform(0.14, 0.2) * stout
    trunk = shapes.smooth(
        np.array(
            [
                neck + (-wide, 0.07),
                neck + (-0.06, 0),
                neck + (0.06, 0),
                neck + (wide, 0.07),
                hip + (waist, 0.08),
                hip + (-waist, 0.08),
            ]
        ),
        steps=4,
    )
    parts = [*legs[0], *(arms[0] if rng.random() < 0.6 else []), *legs[1]]
    if bare_legs or rng.random() < 0.15:
        hem = hip + (0.5 * facing * np.sin(bend), 0.28)
        skirt = np.array(
            [hip + (-waist, -0.03), hip + (waist, -0.03), hem + (0.24 * stout, 0), hem + (-0.24 * stout, 0)]
        )
        parts.append(Part((skirt,), trousers, 0.5))
    parts += [Part((trunk,), shirt, 0.6), *decorations(rng, shop, trunk, likely=0.45), *arms[1]]
    return parts + head(rng, shop, skin, neck + (rng.normal(lean, 0.03), -0.18), rng.uniform(0.13, 0.17))


def _leg(rng: Rng, top: Float64, bend: float, stout: float, cover: Material, shoe: Material) -> list[Part]:
    angle = rng.normal(bend, 0.25)
    knee = _along(top, 0.45, angle)
    foot = _along(knee, 0.45, angle - bend - abs(rng.normal(0, 0.25)) * np.sign(angle - bend))
    limb = shapes.limb(np.stack([top, knee, foot]), np.array([0.12, 0.085, 0.055]) * stout)
    toe = 0.05 * (1 if rng.random() < 0.7 else -1)
    return [
        Part((shapes.ellipse(0.1, 0.05, centre=(foot[0] + toe, foot[1] + 0.02)),), shoe, 0.4),
        Part((limb,), cover, 0.7),
    ]


def _arm(rng: Rng, start: Float64, side: int, forearm: Material, sleeve: Material, skin: Material) -> list[Part]:
    angle = side * rng.normal(0.4, 0.5)
    elbow = _along(start, 0.3, angle)
    hand = _along(elbow, 0.28, angle + rng.normal(0, 0.9))
    lower = shapes.limb(np.stack([elbow, hand]), np.array([0.05, 0.04]))
    upper = shapes.limb(np.stack([start, elbow]), np.array([0.08, 0.06]))
    palm = shapes.ellipse(0.055, 0.05, centre=(hand[0], hand[1]))
    return [Part((palm,), skin, 0.5), Part((lower,), forearm, 0.6), Part((upper,), sleeve, 0.6)]


def head(rng: Rng, shop: MaterialShop, skin: Material, centre: Float64, size: float) -> list[Part]:
    """Neck, face, eyes, mouth, and hair, hat or helmet; seen from the front or from behind."""
    hair = shop.rough(rng, vary(np.array([0.2, 0.13, 0.08]), rng, 0.4))
    skull = shapes.superellipse(2.2, 0.9, 1.15) * size + centre
    parts = [Part((shapes.box(-0.35, 0.4, 0.35, 1.7) * size + centre,), skin, 0.3, 0.85)]
    if rng.random() < 0.4:
        locks = shapes.ragged(rng, skull + (0, rng.uniform(0.2, 0.9) * size), 0.04 * size)
        parts.append(Part((locks,), hair, 0.4))
    if rng.random() < 0.15:
        return [*parts, Part((skull,), hair, 0.6)]
    parts.append(Part((skull + (0, 0.08 * size),), skin, 0.6))
    turn = rng.uniform(-0.3, 0.3)
    eyes = tuple(shapes.ellipse(0.13, 0.08, centre=(turn + side * 0.33, 0.0)) * size + centre for side in (-1, 1))
    parts.append(Part(eyes, shop.plain(rng, _DARK), mark=True))
    mouth = shapes.ellipse(0.28, rng.uniform(0.04, 0.12), centre=(turn, 0.62)) * size + centre
    parts.append(Part((mouth,), shop.plain(rng, np.array([0.5, 0.2, 0.2])), mark=True))
    brow = rng.uniform(-0.5, -0.1)
    low = np.array([[0.95, brow], [0.4 * turn, brow - 0.35], [-0.95, brow]]) * size + centre
    top = np.concatenate([skull[24:48] + (0, -0.06 * size), low[::-1]])
    covered = rng.random()
    if covered < 0.9:
        parts.append(Part((top,), hair if covered < 0.65 else shop.any(rng), 0.4))
    if covered > 0.75 and rng.random() < 0.6:
        brim = shapes.ellipse(1.5, 0.18, centre=(turn, brow)) * size + centre
        parts.append(Part((brim,), shop.any(rng), 0.2))
    return parts


def bust(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Head and shoulders, as portraits crop people."""
    shirt, skin = shop.cloth(rng), _skin(rng, shop)
    broad = rng.uniform(0.6, 0.95)
    trunk = shapes.smooth(
        _corners(-0.25, 0.1, 0.25, 0.1, 0.85 * broad, 0.3, broad, 1.3, -broad, 1.3, -0.85 * broad, 0.3), steps=5
    )
    body = [Part((trunk,), shirt, 0.5), *decorations(rng, shop, trunk, likely=0.6)]
    if rng.random() < 0.3:
        collar = _corners(-0.25, 0.1, 0.25, 0.1, 0, rng.uniform(0.4, 1.2))
        body.append(Part((collar,), shop.cloth(rng), mark=True))
    return body + head(rng, shop, skin, np.array([rng.normal(0, 0.05), -0.4]), rng.uniform(0.34, 0.46))


def beast(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Four-legged animal from the side: legs, body, neck, head, ears, tail; one coat, plain, spotted or piebald."""
    coat = shop.patterned(rng) if rng.random() < 0.3 else shop.rough(rng)
    sock = coat if rng.random() < 0.7 else shop.rough(rng)
    tall, long, girth = rng.uniform(0.2, 0.75), rng.uniform(0.45, 0.8), rng.uniform(0.18, 0.36)
    back = 0.95 - tall - girth * 0.6
    parts: list[Part] = []
    for bright in (0.7, 1.0):
        for end in (-1, 1):
            top = np.array([end * long * 0.72 + rng.normal(0, 0.06), back])
            knee = top + (rng.normal(0, 0.1), tall * 0.6)
            leg = np.stack([top, knee, np.array([knee[0] + rng.normal(0, 0.1), 0.97])])
            parts.append(Part((shapes.limb(leg, np.array([0.14, 0.07, 0.05])),), sock, 0.5, bright))
    tail = np.array(
        [[-long, back - 0.1], [-long - 0.2, back + rng.normal(0, 0.25)], [-long - 0.25, back + rng.normal(0.2, 0.3)]]
    )
    parts.append(Part((shapes.limb(tail, np.array([0.06, 0.04, 0.02]) * rng.uniform(0.7, 2)),), coat, 0.4))
    body = shapes.blob(rng, 0.08) * (long, girth) + (0, back)
    if rng.random() < 0.4:
        body = shapes.ragged(rng, body, rng.uniform(0, 0.02))
    parts += [Part((body,), coat, 0.8), *decorations(rng, shop, body, likely=0.5)]
    return parts + _muzzle(rng, shop, coat, np.array([long * 0.75, back]), girth)


def _muzzle(rng: Rng, shop: MaterialShop, coat: Material, chest: Float64, girth: float) -> list[Part]:
    """Neck, ears, face, nose and eye of a beast."""
    skull = rng.uniform(0.12, 0.24)
    centre = chest + (rng.uniform(0.15, 0.4), -rng.uniform(0.0, 0.7))
    dark = shop.plain(rng, _DARK)
    parts = [Part((shapes.limb(np.stack([chest, centre]), np.array([girth * 0.75, 0.7 * skull])),), coat, 0.6)]
    for side in (-0.5, 0.4):
        long = rng.uniform(0.06, 0.18)
        ear = shapes.ellipse(0.05, long, centre=(centre[0] + side * skull, centre[1] - skull), tilt=side)
        parts.append(Part((ear,), coat, 0.2, 0.8))
    nose = centre + skull * np.array([rng.uniform(0.6, 1.6), rng.uniform(0.2, 1)])
    face = shapes.limb(np.stack([centre, nose]), skull * np.array([1, rng.uniform(0.4, 0.7)]))
    parts.append(Part((face,), coat if rng.random() < 0.7 else shop.rough(rng), 0.7))
    parts.append(Part((shapes.ellipse(0.25 * skull, 0.2 * skull) + nose + (0.3 * skull, 0),), dark, mark=True))
    parts.append(
        Part((shapes.ellipse(0.15 * skull, 0.15 * skull) + centre + (0.35 * skull, -0.2 * skull),), dark, mark=True)
    )
    return parts


def bird(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Bird or fish: a drop-shaped body, tail, wing or fin, eye, beak, sometimes legs."""
    coat, wing = shop.any(rng), shop.any(rng)
    body = shapes.smooth(_corners(-0.8, 0.1, -0.2, -0.3, 0.4, -0.4, 0.75, -0.15, 0.6, 0.2, 0, 0.4))
    tail = shapes.hull(rng) * 0.35 + (-0.85, 0.1)
    fin = shapes.smooth(shapes.hull(rng) * (0.45, 0.3)) + (-0.1, rng.uniform(-0.3, 0.1))
    parts = [Part((tail,), wing, 0.2)]
    if rng.random() < 0.5:
        legs = tuple(_corners(x, 0.3, x + 0.05, 1.0) for x in (0.0, 0.15))
        parts.append(Part(legs, shop.plain(rng), stroke=0.06))
    parts += [Part((body,), coat, 0.8), *decorations(rng, shop, body)]
    parts.append(Part((_corners(0.72, -0.2, 1.0, -0.1, 0.72, -0.02),), shop.plain(rng), 0.3))
    parts.append(Part((shapes.ellipse(0.05, 0.05, centre=(0.55, -0.18)),), shop.plain(rng, _DARK), mark=True))
    return [*parts, Part((fin,), wing, 0.4)]
