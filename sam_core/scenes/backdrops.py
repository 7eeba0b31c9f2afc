"""What lies behind the objects: skies, grounds in perspective, rooms, walls, mosaics; labelled as stuff."""

from dataclasses import replace

import cv2
import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part, stamp
from sam_core.scenes.materials import Material, natural_colour, vary
from sam_core.scenes.stage import Stage

Rng = np.random.Generator
_SKY = np.array([0.62, 0.74, 0.86])


def wall(rng: Rng, stage: Stage) -> Material:
    """One surface, seen straight on; a third of them busy ones."""
    surface = _region(rng, stage, stage.shop.any(rng))
    if rng.random() < 0.35:
        _thicket(rng, stage, shapes.box(0, 0, stage.canvas.size, stage.canvas.size))
    return surface


def landscape(rng: Rng, stage: Stage) -> tuple[Material, float]:
    """Sky, far hills, woods or walls, and a ground in perspective. Returns the ground and the horizon's y, px."""
    size = stage.canvas.size
    horizon = rng.uniform(0.1, 0.65) * size
    sky = natural_colour(rng) if rng.random() < 0.3 else vary(_SKY, rng, 0.12)
    _region(rng, stage, stage.shop.rough(rng, sky) if rng.random() < 0.35 else stage.shop.plain(rng, sky))
    for _ in range(int(rng.integers(0, 4))):
        top = horizon - rng.uniform(0.02, 0.5) * size * rng.random()
        hill = _skyline(rng, size, top, 0.06)
        _region(rng, stage, stage.shop.any(rng), hill)
        if rng.random() < 0.4:
            _thicket(rng, stage, np.array([[0, top - 5], [size, horizon]]))
    ground = _receding(stage.shop.any(rng), horizon, size)
    _region(rng, stage, ground, _skyline(rng, size, horizon, 0.01))
    if rng.random() < 0.35:
        _region(rng, stage, _receding(stage.shop.any(rng), horizon, size), _path(rng, size, horizon))
    return ground, horizon


def room(rng: Rng, stage: Stage) -> tuple[Material, float]:
    """Back wall, side wall and floor or table in perspective. Returns the floor and the y of its far edge, px."""
    size = stage.canvas.size
    edge, corner = rng.uniform(0.15, 0.8) * size, rng.uniform(0.1, 0.9) * size
    _region(rng, stage, stage.shop.any(rng))
    if rng.random() < 0.6:
        drop, far = rng.uniform(0.1, 0.4) * size, -9 if rng.random() < 0.5 else size + 9
        _region(
            rng, stage, stage.shop.any(rng), np.array([[corner, -9], [far, -9], [far, edge + drop], [corner, edge]])
        )
    floor = _receding(stage.shop.any(rng), edge - 0.25 * size, size)
    slant = rng.normal(0, 0.08) * size
    _region(
        rng,
        stage,
        floor,
        np.array([[-9, edge - slant], [size + 9, edge + slant], [size + 9, size + 9], [-9, size + 9]]),
    )
    return floor, edge


def mosaic(rng: Rng, stage: Stage, count: int) -> Material:
    """The frame torn into `count` or so regions of different surfaces: fields, rocks, cloth, shadows."""
    size = stage.canvas.size
    last = wall(rng, stage)
    for _ in range(count):
        kind = rng.random()
        place = rng.uniform(-0.1, 1.1, 2) * size
        if kind < 0.5:
            outline = shapes.blob(rng, 0.6) * size * rng.uniform(0.15, 0.6) * np.exp(rng.normal(0, 0.3, 2)) + place
        elif kind < 0.8:
            strip = _skyline(rng, 2 * size, 0, rng.uniform(0.01, 0.06)) - (size, 0)
            outline = shapes.turned(strip, rng.uniform(0, 2 * np.pi)) + 0.1 * size + 0.8 * place
        else:
            outline = shapes.zigzag(rng) * size * rng.uniform(0.15, 0.5) + place
        last = _region(rng, stage, stage.shop.any(rng), outline)
    return last


def anything(rng: Rng, stage: Stage) -> Material:
    """Any of the backdrops."""
    kind = rng.random()
    if kind < 0.3:
        return wall(rng, stage)
    if kind < 0.55:
        return landscape(rng, stage)[0]
    return room(rng, stage)[0] if kind < 0.75 else mosaic(rng, stage, int(rng.integers(1, 5)))


def defocus(stage: Stage, sigma: float) -> None:
    """Blur everything so far: what comes next stands in front of the focal depth."""
    if sigma > 0.3:
        cv2.GaussianBlur(stage.canvas.colour, (0, 0), sigma, dst=stage.canvas.colour, borderType=cv2.BORDER_REPLICATE)


def _region(rng: Rng, stage: Stage, material: Material, outline: Float64 | None = None) -> Material:
    """Cover an outline (canvas px), or everything, as a stuff region; returns the material for camouflage."""
    size = stage.canvas.size
    frame = shapes.box(-9, -9, size + 9, size + 9) if outline is None else outline
    gentle = rng.normal(0, 0.35, 2) / size
    number = stage.canvas.new_object(stuff=True)
    stamp(stage.canvas, [Part((frame,), material)], stage.light, object_id=number, tilt=gentle)
    return material


def _thicket(rng: Rng, stage: Stage, extent: Float64) -> None:
    """Busy matter on the last region, within the box around the extent: leaves, rubble, a crowd far away."""
    low, high = extent.min(0), extent.max(0)
    surfaces = [stage.shop.any(rng) for _ in range(4)]
    grain = stage.canvas.size * float(np.exp(rng.normal(-3.2, 0.5)))
    outlines = shapes.blobs(rng, int(rng.integers(15, 50)), 0.4, points=20)
    parts = [
        Part((outline * grain * size + place,), surfaces[int(i)], brightness=float(bright))
        for outline, size, place, i, bright in zip(
            outlines,
            np.exp(rng.normal(0, 0.5, (len(outlines), 1))),
            rng.uniform(low, high, (len(outlines), 2)),
            rng.integers(4, size=len(outlines)),
            np.exp(rng.normal(0, 0.3, len(outlines))),
            strict=True,
        )
    ]
    stamp(stage.canvas, parts, stage.light, object_id=len(stage.canvas.stuff) - 1)


def _receding(material: Material, horizon: float, size: int) -> Material:
    """The material on a level plane seen in perspective: it shrinks towards the horizon (y px)."""
    h = material.homography.reshape(3, 3)
    depth = 0.35 * size
    plane = np.array([[depth, 0, -depth * size / 2], [0, 0, depth * depth], [0, 1, -horizon + 0.02 * size]])
    grow = 1.6 / depth
    return replace(material, homography=(h @ np.diag([grow, grow, 1]) @ plane).ravel() / depth)


def _skyline(rng: Rng, size: int, level: float, rough: float) -> Float64:
    """Everything below a wavy or stepped line, px."""
    x = np.linspace(-10, size + 10, 40)
    order = np.arange(1, 7)[:, None]
    waves = np.sin(order * 3.14 * x / size + rng.uniform(0, 6.3, (6, 1))) * rng.normal(0, rough, (6, 1)) / order
    y = level + size * waves.sum(0)
    if rng.random() < 0.2:
        y = np.repeat(y[::4], 4)
    return np.concatenate([np.stack([x, y], 1), [[size + 10, size + 10], [-10, size + 10]]])


def _path(rng: Rng, size: int, horizon: float) -> Float64:
    """Road or river running to the horizon, px."""
    far, near = rng.uniform(0.1, 0.9) * size, rng.uniform(-0.2, 1.2) * size
    half = rng.uniform(0.1, 0.5) * size
    return np.array([[far - 2, horizon], [far + 2, horizon], [near + half, size + 10], [near - half, size + 10]])
