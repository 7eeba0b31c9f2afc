"""Pictures from microscopes: many similar cells, bright on dark or dark on bright, touching, faint and blurred."""

from dataclasses import dataclass

import cv2
import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part, placed, stamp
from sam_core.scenes.materials import Material, vary
from sam_core.scenes.stage import Stage

Rng = np.random.Generator
_EOSIN, _HAEMATOXYLIN = np.array([0.88, 0.72, 0.82]), np.array([0.42, 0.28, 0.55])
_DAPI = np.array([0.3, 0.5, 1.0])
_MOST_CELLS = 240
_SMALLEST = 0.005
"""Least radius of a cell, of the picture's side: 2 px of 384, as in scans of whole slides."""
_LARGEST = 0.13
_LARGE, _LARGE_SHARE = 0.045, 0.3
"""Least radius in that share of the pictures: among many sizes, few would show cells that fill a tenth of them."""
_GRAINY = 0.03
"""Radius, of the picture's side, from which on cells may show grains of chromatin."""


@dataclass(frozen=True, slots=True)
class _Body:
    """What lies around the nuclei of a picture's cells: the region it belongs to, its surface, how often it is seen."""

    region: int
    surface: Material
    share: float


def microscopy(rng: Rng, stage: Stage) -> None:
    """Fluorescence (bright on dark), stained tissue (dark on bright, coloured) or transmitted light."""
    kind = rng.random()
    if kind < 0.6:
        _fluorescence(rng, stage)
    elif kind < 0.85:
        _stained(rng, stage)
    else:
        _transmitted(rng, stage)


def _fluorescence(rng: Rng, stage: Stage) -> None:
    tint = np.ones(3) if rng.random() < 0.75 else vary(_DAPI, rng, 0.3)
    floor = rng.uniform(0.0, 0.12)
    glow = 1.5 * floor + float(np.exp(rng.uniform(np.log(0.12), np.log(1.0))))
    glass = _glass(rng, stage, tint * floor + 0.01, 0.3)
    surfaces = [stage.shop.rough(rng, tint * glow * rng.uniform(0.5, 1)) for _ in range(3)]
    haze = stage.shop.rough(rng, tint * (floor + glow * rng.uniform(0.05, 0.5)))
    body = _Body(glass, haze, share=0.2)
    _cells(rng, stage, surfaces, body, spread=rng.uniform(0.05, 0.6), relief=rng.uniform(0, 0.5))
    if rng.random() < 0.5:
        _bloom(stage, rng.uniform(2, 12) * stage.canvas.size / 256, rng.uniform(0.05, 0.4))


def _bloom(stage: Stage, sigma: float, amount: float) -> None:
    """Light of cells above and below the focus: a haze around bright ones."""
    colour = stage.canvas.colour
    colour += amount * cv2.GaussianBlur(colour, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _stained(rng: Rng, stage: Stage) -> None:
    pink, purple = vary(_EOSIN, rng, 0.08), vary(_HAEMATOXYLIN, rng, 0.1)
    tissue = _glass(rng, stage, pink, rng.uniform(0.1, 0.5))
    fibres = shapes.blobs(rng, int(rng.integers(0, 16)), 0.6)
    for fibre in fibres:
        outline = fibre * stage.canvas.size * rng.uniform(0.05, 0.3) * (1, 0.4) + stage.anywhere(rng)
        surface = stage.shop.rough(rng, vary(pink + rng.uniform(0, 0.6) * (purple - pink), rng, 0.06))
        stamp(stage.canvas, [Part((outline,), surface)], stage.light, object_id=tissue, blur=1.5)
    pale = rng.uniform(0, 0.5)
    surfaces = [stage.shop.rough(rng, vary(purple + pale * n / 2 * (pink - purple), rng, 0.05)) for n in range(3)]
    body = _Body(tissue, stage.shop.rough(rng, pink + rng.uniform(0.1, 0.7) * (purple - pink)), share=0.4)
    _cells(rng, stage, surfaces, body, spread=rng.uniform(0.05, 0.35), relief=0.0)


def _transmitted(rng: Rng, stage: Stage) -> None:
    grey = np.full(3, rng.uniform(0.4, 0.85))
    glass = _glass(rng, stage, grey, 0.15)
    factor = rng.uniform(0.5, 0.9) if rng.random() < 0.6 else rng.uniform(1.05, 1.3)
    surfaces = [stage.shop.rough(rng, grey * factor) for _ in range(3)]
    body = _Body(glass, stage.shop.rough(rng, grey * factor ** rng.uniform(0.2, 0.7)), share=0.5)
    _cells(rng, stage, surfaces, body, spread=0.1, relief=rng.uniform(0, 1))


def _glass(rng: Rng, stage: Stage, colour: Float64, roughness: float) -> int:
    """Fill the frame with what lies between the cells; returns its id."""
    size = stage.canvas.size
    surface = stage.shop.rough(rng, colour) if rng.random() < roughness else stage.shop.plain(rng, colour)
    number = stage.canvas.new_object(stuff=True)
    frame = Part((shapes.box(-9, -9, size + 9, size + 9),), surface)
    stamp(stage.canvas, [frame], stage.light, object_id=number, tilt=rng.normal(0, 0.3, 2) / size)
    return number


def _cells(rng: Rng, stage: Stage, surfaces: list[Material], body: _Body, *, spread: float, relief: float) -> None:
    """Scatter cells of one size class: alone, in clumps, or packed; some with nucleoli, some out of focus.

    In some pictures they are the nuclei of larger cells, which are no objects; in some they lie one way, or are grainy.
    """
    size = stage.canvas.size
    least = _LARGE if rng.random() < _LARGE_SHARE else _SMALLEST
    radius = size * float(np.exp(rng.uniform(np.log(least), np.log(_LARGEST))))
    focus = rng.uniform(0.2, 1.2) * size / 256
    places = _places(rng, size, radius)
    if rng.random() < body.share:
        places = _embodied(rng, stage, body, places, radius)
    outlines = shapes.blobs(rng, len(places), rng.uniform(0.03, 0.25), points=28)
    outlines *= np.exp(rng.normal(0, rng.uniform(0, 0.4), (len(places), 1, 1)) * (0.5, -0.5))
    turns = rng.uniform(0, 6.3) + rng.normal(0, 0.3 if rng.random() < 0.25 else 6.3, len(places))
    grains = int(rng.integers(4, 40)) if radius > _GRAINY * size and rng.random() < 0.6 else 0
    for outline, place, angle in zip(outlines, places, turns, strict=True):
        scale = radius * float(np.exp(rng.normal(0, 0.25)))
        surface = surfaces[int(rng.integers(len(surfaces)))]
        marks = _chromatin(rng, surface, grains) if grains else _nucleoli(rng, surface)
        cell = [Part((outline,), surface, relief, float(np.exp(rng.normal(0, spread)))), *marks]
        blur = min(focus * float(np.exp(rng.normal(0, 0.4))), 0.3 * scale)
        turn = scale * shapes.turn_matrix(angle)
        number = stage.canvas.new_object(stuff=False)
        stamp(stage.canvas, placed(cell, turn, place), stage.light, object_id=number, blur=blur)
    if rng.random() < 0.5:
        cv2.GaussianBlur(stage.canvas.colour, (0, 0), focus * 0.8 + 0.3, dst=stage.canvas.colour)


def _nucleoli(rng: Rng, surface: Material) -> list[Part]:
    if rng.random() < 0.7:
        return []
    spots = tuple(
        shapes.ellipse(r, r) + rng.uniform(-0.5, 0.5, 2) for r in rng.uniform(0.1, 0.25, int(rng.integers(1, 4)))
    )
    return [Part(spots, surface, 0.0, rng.uniform(0.5, 1.6), mark=True)]


def _chromatin(rng: Rng, surface: Material, grains: int) -> list[Part]:
    """Dark and light grains all over a cell, each a ninth of its width at most."""
    parts = []
    for brightness, count in ((rng.uniform(0.5, 0.95), grains), (rng.uniform(1.0, 1.3), grains // 3)):
        middles = rng.normal(0, 0.4, (count, 2))
        spots = tuple(shapes.ellipse(*rng.uniform(0.02, 0.11, 2)) + middle for middle in middles)
        parts.append(Part(spots, surface, 0.0, brightness, mark=True))
    return parts


def _places(rng: Rng, size: int, radius: float) -> Float64:
    """Centres [n, 2] px of a picture's cells of that radius: a few, or as many as fit in."""
    room = 0.6 * (size / (2 * radius)) ** 2
    count = int(np.clip(room * rng.uniform(0.1, 1.2), 2, _MOST_CELLS))
    if rng.random() < 0.2:
        return _tissue(rng, size, radius, count)
    return _scattered(rng, size, radius, count, clump=rng.random())


def _scattered(rng: Rng, size: int, radius: float, count: int, *, clump: float) -> Float64:
    """Up to count centres [n, 2] px that keep some distance, the less the more they clump."""
    tries = rng.uniform(0, size, (3 * count, 2))
    seeds = rng.uniform(0, size, (max(1, int(count * 0.15)), 2))
    near = seeds[rng.integers(len(seeds), size=len(tries))] + rng.normal(0, 2.5 * radius, tries.shape)
    tries = np.where(rng.random((len(tries), 1)) < clump, near, tries)
    return _apart(tries, radius * (1.9 - 0.6 * clump), count)


def _apart(tries: Float64, distance: float, count: int) -> Float64:
    """The first of some places [n, 2], at most so many, that are farther from those before them than the distance."""
    kept = np.full((count, 2), np.inf)
    found = 0
    for place in tries:
        if found == count:
            break
        if np.square(kept[:found] - place).sum(1).min(initial=np.inf) > distance**2:
            kept[found] = place
            found += 1
    return kept[:found]


def _tissue(rng: Rng, size: int, radius: float, count: int) -> Float64:
    """Centres [n, 2] px of cells side by side in an ellipse that they fill, anywhere in the picture."""
    reach = radius * (count / rng.uniform(0.5, 0.9)) ** 0.5
    tries = rng.uniform(-reach, reach, (3 * count, 2))
    tries = tries[np.square(tries).sum(1) < reach**2] * np.exp(rng.uniform(-0.5, 0.5) * np.array([1, -1]))
    middle = rng.uniform(0.2, 0.8, 2) * size
    return _apart(tries @ shapes.turn_matrix(rng.uniform(0, 6.3)) + middle, radius * rng.uniform(1.5, 2), count)


def _embodied(rng: Rng, stage: Stage, body: _Body, places: Float64, radius: float) -> Float64:
    """Draw the bodies of some cells; the centres of their nuclei, and of the cells that are left."""
    reach = radius * rng.uniform(2, 7)
    chosen = _apart(places, reach * rng.uniform(0.8, 2), len(places))
    outlines = shapes.blobs(rng, len(chosen), rng.uniform(0.1, 0.6), points=40)
    for outline, place in zip(outlines, chosen, strict=True):
        bent = outline * reach * float(np.exp(rng.normal(0, 0.25))) + place + rng.normal(0, 0.2 * reach, 2)
        part = Part((bent,), body.surface, 0.0, float(np.exp(rng.normal(0, 0.12))))
        stamp(stage.canvas, [part], stage.light, object_id=body.region, blur=0.5)
    return chosen if rng.random() < 0.8 else places
