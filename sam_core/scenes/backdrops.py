"""What lies behind the objects: skies, grounds in perspective, rooms, walls, mosaics; labelled as stuff."""

from dataclasses import replace

import cv2
import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part, land, render_layer
from sam_core.scenes.materials import Material, natural_colour, vary
from sam_core.scenes.stage import Stage

Rng = np.random.Generator


def _fill(stage: Stage, material: Material, outline: Float64 | None = None, *, tilt: Float64 | None = None) -> Material:
    """Cover an outline (canvas px), or everything, as a stuff region; returns the material for camouflage."""
    size = stage.canvas.size
    frame = shapes.box(-9, -9, size + 9, size + 9) if outline is None else outline
    layer = render_layer([Part((frame,), material)], size, stage.light, tilt=tilt)
    if layer is not None:
        land(stage.canvas, layer, stuff=True)
    return material


def _gentle(rng: Rng, size: int) -> Float64:
    """A slow brightness gradient, per px."""
    return rng.normal(0, 0.35, 2) / size


def receding(material: Material, horizon: float, size: int) -> Material:
    """The material on a level plane seen in perspective: it shrinks towards the horizon (y px)."""
    h = material.homography.reshape(3, 3)
    depth = 0.35 * size
    plane = np.array([[depth, 0, -depth * size / 2], [0, 0, depth * depth], [0, 1, -horizon + 0.02 * size]])
    grow = 1.6 / depth
    return replace(material, homography=(h @ np.diag([grow, grow, 1]) @ plane).ravel() / depth)


def wall(rng: Rng, stage: Stage) -> Material:
    """One surface, seen straight on."""
    return _fill(stage, stage.shop.any(rng), tilt=_gentle(rng, stage.canvas.size))


def landscape(rng: Rng, stage: Stage) -> tuple[Material, float]:
    """Sky, far hills or walls, and a ground in perspective. Returns the ground and the horizon's y, px."""
    size = stage.canvas.size
    horizon = rng.uniform(0.15, 0.65) * size
    sky = natural_colour(rng) if rng.random() < 0.3 else vary(np.array([0.62, 0.74, 0.86]), rng, 0.12)
    _fill(
        stage, stage.shop.rough(rng, sky) if rng.random() < 0.3 else stage.shop.plain(rng, sky), tilt=_gentle(rng, size)
    )
    for _ in range(int(rng.integers(0, 4))):
        top = horizon - rng.uniform(0.02, 0.3) * size
        _fill(stage, stage.shop.any(rng), _skyline(rng, size, top, 0.06))
    ground = receding(stage.shop.any(rng), horizon, size)
    _fill(stage, ground, _skyline(rng, size, horizon, 0.01), tilt=_gentle(rng, size))
    if rng.random() < 0.35:
        _fill(stage, receding(stage.shop.any(rng), horizon, size), _path(rng, size, horizon))
    return ground, horizon


def _skyline(rng: Rng, size: int, level: float, rough: float) -> Float64:
    """Everything below a wavy or stepped line, px."""
    x = np.linspace(-10, size + 10, 40)
    waves = sum(rng.normal(0, rough / k) * np.sin(k * 6.3 * x / size * 0.5 + rng.uniform(0, 6.3)) for k in range(1, 7))
    y = level + size * np.asarray(waves)
    if rng.random() < 0.2:
        y = np.repeat(y[::4], 4)
    return np.concatenate([np.stack([x, y], 1), [[size + 10, size + 10], [-10, size + 10]]])


def _path(rng: Rng, size: int, horizon: float) -> Float64:
    """Road or river running to the horizon, px."""
    far, near = rng.uniform(0.1, 0.9) * size, rng.uniform(-0.2, 1.2) * size
    w = rng.uniform(0.1, 0.5) * size
    return np.array([[far - 2, horizon], [far + 2, horizon], [near + w, size + 10], [near - w, size + 10]])


def room(rng: Rng, stage: Stage) -> tuple[Material, float]:
    """Back wall, side wall and floor in perspective. Returns the floor and the y of its far edge, px."""
    size = stage.canvas.size
    edge, corner = rng.uniform(0.4, 0.8) * size, rng.uniform(0.1, 0.9) * size
    _fill(stage, stage.shop.any(rng), tilt=_gentle(rng, size))
    if rng.random() < 0.6:
        drop = rng.uniform(0.1, 0.4) * size
        side = np.array([[corner, -9], [size + 9, -9], [size + 9, edge + drop], [corner, edge]])
        _fill(stage, stage.shop.any(rng), side, tilt=_gentle(rng, size))
    floor = receding(stage.shop.any(rng), edge - 0.25 * size, size)
    _fill(stage, floor, shapes.box(-9, edge, size + 9, size + 9), tilt=_gentle(rng, size))
    return floor, edge


def mosaic(rng: Rng, stage: Stage, count: int) -> Material:
    """The frame torn into `count` or so regions of different surfaces: fields, rocks, cloth, shadows."""
    size = stage.canvas.size
    last = wall(rng, stage)
    for _ in range(count):
        kind = rng.random()
        if kind < 0.5:
            place = rng.uniform(-0.1, 1.1, 2) * size
            outline = shapes.blob(rng, 0.6) * size * rng.uniform(0.15, 0.6) * np.exp(rng.normal(0, 0.3, 2)) + place
        elif kind < 0.8:
            middle = np.array([size / 2, size / 2])
            strip = _skyline(rng, 2 * size, 0, rng.uniform(0.01, 0.06)) - (size, 0)
            outline = shapes.turned(strip, rng.uniform(0, 2 * np.pi)) + middle + rng.uniform(-0.4, 0.4, 2) * size
        else:
            outline = shapes.zigzag(rng) * size * rng.uniform(0.15, 0.5) + rng.uniform(0, 1, 2) * size
        last = _fill(stage, stage.shop.any(rng), outline, tilt=_gentle(rng, size))
    return last


def defocus(stage: Stage, sigma: float) -> None:
    """Blur everything so far: what comes next stands in front of the focal depth."""
    if sigma > 0.3:
        cv2.GaussianBlur(stage.canvas.colour, (0, 0), sigma, dst=stage.canvas.colour, borderType=cv2.BORDER_REPLICATE)
