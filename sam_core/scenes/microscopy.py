"""Pictures from microscopes: many similar cells, bright on dark or dark on bright, touching, faint and blurred."""

import cv2
import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part, land, placed, render_layer
from sam_core.scenes.materials import Material, vary
from sam_core.scenes.stage import Stage

Rng = np.random.Generator


def microscopy(rng: Rng, stage: Stage) -> None:
    """Fluorescence (bright on dark), stained tissue (dark on bright, coloured) or transmitted light."""
    kind = rng.random()
    if kind < 0.55:
        _fluorescence(rng, stage)
    elif kind < 0.85:
        _stained(rng, stage)
    else:
        _transmitted(rng, stage)


def _fluorescence(rng: Rng, stage: Stage) -> None:
    tint = np.ones(3) if rng.random() < 0.75 else vary(np.array([0.3, 0.5, 1.0]), rng, 0.3)
    floor, glow = rng.uniform(0.0, 0.12), rng.uniform(0.15, 0.9)
    _backdrop(rng, stage, tint * floor + 0.01, 0.3)
    surfaces = [stage.shop.rough(rng, tint * glow * rng.uniform(0.5, 1)) for _ in range(3)]
    _cells(rng, stage, surfaces, spread=rng.uniform(0.05, 0.5), relief=rng.uniform(0, 0.5))


def _stained(rng: Rng, stage: Stage) -> None:
    pink, purple = vary(np.array([0.88, 0.72, 0.82]), rng, 0.08), vary(np.array([0.42, 0.28, 0.55]), rng, 0.1)
    _backdrop(rng, stage, pink, rng.uniform(0.1, 0.5))
    for _ in range(int(rng.integers(0, 12))):
        fibre = shapes.blob(rng, 0.6) * stage.canvas.size * rng.uniform(0.05, 0.3)
        part = Part(
            (fibre * (1, 0.4) + stage.anywhere(rng),), stage.shop.rough(rng, vary((pink + purple) / 2, rng, 0.06))
        )
        _soak(stage, part)
    surfaces = [stage.shop.rough(rng, vary(purple, rng, 0.05)) for _ in range(3)]
    _cells(rng, stage, surfaces, spread=rng.uniform(0.05, 0.25), relief=0.0)


def _transmitted(rng: Rng, stage: Stage) -> None:
    grey = np.full(3, rng.uniform(0.4, 0.85))
    _backdrop(rng, stage, grey, 0.15)
    surfaces = [
        stage.shop.rough(rng, grey * rng.choice([rng.uniform(0.5, 0.9), rng.uniform(1.05, 1.3)])) for _ in range(3)
    ]
    _cells(rng, stage, surfaces, spread=0.1, relief=rng.uniform(0.3, 1))


def _backdrop(rng: Rng, stage: Stage, colour: Float64, contrast: float) -> None:
    size = stage.canvas.size
    surface = stage.shop.rough(rng, colour) if rng.random() < contrast else stage.shop.plain(rng, colour)
    layer = render_layer([Part((shapes.box(-9, -9, size + 9, size + 9),), surface)], size, stage.light)
    if layer is not None:
        land(stage.canvas, layer, stuff=True)


def _soak(stage: Stage, part: Part) -> None:
    """Colour the canvas without a label: tissue between the cells."""
    layer = render_layer([part], stage.canvas.size, stage.light, blur=1.0)
    if layer is not None:
        x, y = layer.origin
        h, w = layer.alpha.shape
        window = stage.canvas.colour[y : y + h, x : x + w]
        window *= 1 - 0.6 * layer.alpha[..., None]
        window += 0.6 * layer.colour


def _cells(rng: Rng, stage: Stage, surfaces: list[Material], *, spread: float, relief: float) -> None:
    """Scatter cells of one size class: alone, in clumps, or packed; some dividing, some out of focus."""
    size = stage.canvas.size
    radius = size * float(np.exp(rng.uniform(np.log(0.012), np.log(0.11))))
    room = 0.5 * (size / (2 * radius)) ** 2
    count = int(np.clip(room * rng.uniform(0.1, 1.3), 2, stage.config.max_objects))
    clump, focus = rng.random(), rng.uniform(0.3, 1.2) * size / 256
    long, rough = rng.uniform(0, 0.3), rng.uniform(0.03, 0.2)
    places = _places(rng, size, radius, count, clump)
    for place in places:
        outline = shapes.blob(rng, rough, points=28) * np.exp(rng.normal(0, long, 2) * (0.5, -0.5))
        scale = radius * float(np.exp(rng.normal(0, 0.25)))
        surface = surfaces[int(rng.integers(len(surfaces)))]
        part = Part((outline,), surface, relief, float(np.exp(rng.normal(0, spread))))
        parts = [part, *_nucleoli(rng, surface)]
        shaped = placed(parts, scale, rng.uniform(0, 6.3), place)
        blur = focus * float(np.exp(rng.normal(0, 0.4)))
        layer = render_layer(shaped, size, stage.light, blur=min(blur, 0.35 * scale))
        if layer is not None:
            land(stage.canvas, layer)
    if rng.random() < 0.4:
        cv2.GaussianBlur(stage.canvas.colour, (0, 0), focus * 0.8, dst=stage.canvas.colour)


def _nucleoli(rng: Rng, surface: Material) -> list[Part]:
    if rng.random() < 0.7:
        return []
    spots = tuple(
        shapes.ellipse(r, r) + rng.uniform(-0.5, 0.5, 2) for r in rng.uniform(0.1, 0.25, int(rng.integers(1, 4)))
    )
    return [Part(spots, surface, 0.0, rng.uniform(0.5, 1.6), mark=True)]


def _places(rng: Rng, size: int, radius: float, count: int, clump: float) -> Float64:
    """Centres [count, 2] px that keep some distance, the less the more they clump."""
    apart = radius * (1.9 - 0.6 * clump)
    seeds = rng.uniform(0, size, (max(1, int(count * 0.15)), 2))
    kept: list[Float64] = []
    for _ in range(3 * count):
        place = rng.uniform(0, size, 2)
        if rng.random() < clump:
            place = seeds[int(rng.integers(len(seeds)))] + rng.normal(0, 2.5 * radius, 2)
        if not kept or np.square(np.array(kept) - place).sum(1).min() > apart**2:
            kept.append(place)
        if len(kept) == count:
            break
    return np.array(kept)
