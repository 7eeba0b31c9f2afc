"""A bank of tileable texture fields: natural noise spectra, patterns, cells, leaves, marks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sam_core.scenes.kernels import Float32, Int8, UInt8

SIDE = 512
"""Side of a field, texels; a power of two because the kernels wrap by masking."""


@dataclass(frozen=True, slots=True)
class TextureBank:
    """Fields that materials sample.

    Attributes:
        natural: uint8 [N, SIDE, SIDE], stochastic surfaces (stone, cloud, fur, foliage, cells).
        pattern: uint8 [M, SIDE, SIDE], made or grown patterns (stripes, checks, dots, spots, bricks, script).
        smooth: uint8 [K, SIDE, SIDE], low frequencies only.
        folds: uint8 [L, SIDE, SIDE], soft creases.
        grain: uint8 [SIDE, SIDE], fine fractal noise around 128.
        noise: int8 [SIDE, SIDE, 3], standard normal times 32: the sensor.
    """

    natural: UInt8
    pattern: UInt8
    smooth: UInt8
    folds: UInt8
    grain: UInt8
    noise: Int8


BANKS_KEPT = 4
"""Banks that a process keeps: 16 MB each."""


@lru_cache(maxsize=BANKS_KEPT)
def texture_bank(seed: int) -> TextureBank:
    """The bank of a seed; takes about a second to make, so it is kept."""
    rng = np.random.default_rng((seed, 0x7E87))
    natural = [_levels(make(rng)) for make in _NATURAL for _ in range(3)]
    pattern = [_levels(make(rng), cut=0.0) for make in _PATTERN for _ in range(3)]
    smooth = [_levels(_fractal(rng, slope)) for slope in (1.7, 1.9, 2.1, 2.3)]
    folds = [_levels(_folds(rng)) for _ in range(6)]
    noise = np.clip(rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * 32, -127, 127)
    return TextureBank(
        natural=np.stack(natural),
        pattern=np.stack(pattern),
        smooth=np.stack(smooth),
        folds=np.stack(folds),
        grain=_levels(_fractal(rng, 0.5)),
        noise=noise.astype(np.int8),
    )


def _levels(field: Float32, *, cut: float = 1.0) -> UInt8:
    """Stretch a field to 0..255, ignoring `cut` percent at either end."""
    low, high = np.percentile(field[::4, ::4], [cut, 100 - cut])
    return np.asarray(np.clip((field - low) * (255.0 / max(float(high - low), 1e-6)), 0, 255), np.uint8)


def _spectrum(rng: np.random.Generator, gain: Float32) -> Float32:
    """White noise shaped by a real gain [SIDE, SIDE // 2 + 1] over frequencies."""
    white = np.fft.rfft2(rng.standard_normal((SIDE, SIDE), dtype=np.float32))
    return np.asarray(np.fft.irfft2(white * gain, s=(SIDE, SIDE)), np.float32)


def _frequencies() -> tuple[Float32, Float32]:
    fy = np.fft.fftfreq(SIDE, 1 / SIDE).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(SIDE, 1 / SIDE).astype(np.float32)[None]
    return fx, fy


def _fractal(rng: np.random.Generator, slope: float) -> Float32:
    """Noise whose amplitude falls like frequency^-slope; photographs have slope 1."""
    fx, fy = _frequencies()
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1
    gain = radius ** np.float32(-slope)
    gain[0, 0] = 0
    return _spectrum(rng, gain)


def _cloud(rng: np.random.Generator) -> Float32:
    return _fractal(rng, rng.uniform(0.8, 1.7))


def _fur(rng: np.random.Generator) -> Float32:
    """Directional noise: energy in a narrow band of orientations."""
    fx, fy = _frequencies()
    stretch = rng.uniform(4, 14)
    radius = np.hypot(fx * stretch, fy) + 2
    return _spectrum(rng, np.asarray(radius ** -rng.uniform(1.0, 1.8), np.float32))


def _ridges(rng: np.random.Generator) -> Float32:
    """Folded noise: veins, wrinkles, bark."""
    base = _fractal(rng, rng.uniform(1.2, 1.7))
    return np.asarray(-np.abs(base / base.std()), np.float32)


def _folds(rng: np.random.Generator) -> Float32:
    """Slow waves of one rough direction, bent: cloth, dunes, drapery."""
    fx, fy = _frequencies()
    gain = (np.hypot(fx * rng.uniform(1, 4), fy) + 2.5) ** -rng.uniform(1.8, 2.6)
    return np.asarray(np.sin(2.2 * _unit(_spectrum(rng, gain))), np.float32)


def _marble(rng: np.random.Generator) -> Float32:
    """Waves bent by noise: marble, wood, water, brushed metal."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    warp = _fractal(rng, 1.8)
    warp *= rng.uniform(0.3, 2.5) / warp.std()
    kx, ky = int(rng.integers(0, 6)), int(rng.integers(4, 24))
    return np.asarray(np.sin(2 * np.pi * (kx * x + ky * y) + warp * 2), np.float32)


def _cells(rng: np.random.Generator) -> Float32:
    """Distances to the nearest two of random points: pebbles, skin, cracked earth, cell walls."""
    from scipy.spatial import cKDTree  # 0.3 s, which every process that trains would wait for

    points = rng.uniform(0, SIDE, (int(rng.integers(60, 500)), 2))
    ticks = np.arange(0.0, SIDE, 2)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    near, index = cKDTree(points, boxsize=SIDE).query(grid, k=2)
    kind = rng.random()
    if kind < 0.35:
        value = near[:, 0]
    elif kind < 0.7:
        value = np.minimum(near[:, 1] - near[:, 0], np.median(near[:, 0]) * 0.8)
    else:
        value = rng.random(len(points))[index[:, 0]]
    field = value.reshape(SIDE // 2, SIDE // 2).astype(np.float32)
    tiled = cv2.resize(np.tile(field, (2, 2)), (2 * SIDE, 2 * SIDE))
    return np.asarray(tiled[:SIDE, :SIDE], np.float32)


def _leaves(rng: np.random.Generator) -> Float32:
    """Dead leaves: opaque discs or tilted ellipses with radii falling like r^-3, the statistics of occlusion."""
    field = np.zeros((SIDE, SIDE), np.float32)
    radii = rng.uniform(2, 4) / rng.random(2500) ** 0.55
    flat = rng.uniform(0.25, 1.0)
    tilt = rng.uniform(0, 180, 2500)
    for i in np.argsort(-radii):
        radius = min(float(radii[i]), 120.0)
        centre, value = rng.uniform(0, SIDE, 2), float(rng.random())
        axes = (max(1, round(radius)), max(1, round(radius * flat)))
        for dx in _wrapped(centre[0], radius):
            for dy in _wrapped(centre[1], radius):
                place = (round(float(dx)), round(float(dy)))
                cv2.ellipse(field, place, axes, float(tilt[i]), 0, 360, value, -1)
    return field


def _wrapped(position: float, radius: float) -> list[float]:
    """The position and its copies one tile away that reach into the tile."""
    copies = (position, position - SIDE, position + SIDE)
    return [p for p in copies if -radius <= p <= SIDE + radius]


def _foliage(rng: np.random.Generator) -> Float32:
    """Small leaves over large light and dark masses: trees, grass, gravel."""
    return np.asarray(0.6 * _leaves(rng) + 0.12 * _unit(_fractal(rng, 1.5)), np.float32)


def _unit(field: Float32) -> Float32:
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def _stripes(rng: np.random.Generator) -> Float32:
    """Regular stripes, sharp or soft, thin or wide, one or two directions (checks, plaid)."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) * (2 * np.pi / SIDE)
    count = int(rng.integers(6, 40))
    sharp, duty = rng.uniform(1, 8), rng.uniform(-0.7, 0.7)
    first = np.tanh(sharp * (np.sin(count * x) - duty))
    second = np.tanh(sharp * (np.sin(count * y) - duty))
    kind = rng.random()
    both = first * second if kind < 0.75 else first + second
    return np.asarray(first if kind < 0.5 else both, np.float32)


def _dots(rng: np.random.Generator) -> Float32:
    """Polka dots on a jittered grid."""
    field = np.zeros((SIDE, SIDE), np.float32)
    pitch = SIDE // int(rng.choice([8, 16, 32]))
    radius, jitter = pitch * rng.uniform(0.15, 0.42), rng.uniform(0, 0.12) * pitch
    for y in range(pitch // 2, SIDE, pitch):
        for x in range(pitch // 2, SIDE, pitch):
            dx, dy = rng.uniform(-jitter, jitter, 2)
            place = (round((x + dx) * 16), round((y + dy) * 16))
            cv2.circle(field, place, round(radius * 16), 1.0, -1, cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 1.0), np.float32)


def _spots(rng: np.random.Generator) -> Float32:
    """Band-pass noise with a soft threshold: zebra, leopard, cow, giraffe."""
    fx, fy = _frequencies()
    radius = np.hypot(fx * rng.uniform(0.4, 1.0), fy)
    centre = rng.uniform(6, 28)
    band = np.exp(-(((radius - centre) / (0.35 * centre)) ** 2)).astype(np.float32)
    field = _unit(_spectrum(rng, band))
    return np.asarray(np.tanh(rng.uniform(1, 6) * (field - rng.uniform(-0.9, 0.9))), np.float32)


def _bricks(rng: np.random.Generator) -> Float32:
    """Courses of bricks, planks or tiles with joints, each of its own brightness."""
    rows, columns = int(rng.choice([8, 16, 32])), int(rng.choice([4, 8, 16]))
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    row = np.floor(y * rows).astype(int)
    shift = rng.choice([0.0, 0.5]) * (row % 2)
    across = (x * columns + shift) % columns
    shades = rng.random((rows, columns)).astype(np.float32) * rng.uniform(0.1, 0.6)
    field = shades[row, across.astype(int)]
    joint = (y * rows % 1 < 0.1) | (across % 1 < 0.1 * columns / rows)
    return np.asarray(np.where(joint, rng.choice([-0.5, 1.0]), field), np.float32)


def _script(rng: np.random.Generator) -> Float32:
    """Rows of short strokes: print, labels, keyboards."""
    field = np.zeros((SIDE, SIDE), np.float32)
    pitch = SIDE // int(rng.choice([8, 16, 24]))
    for y in range(pitch // 2, SIDE, pitch):
        x = int(rng.integers(0, pitch))
        while x < SIDE - pitch:
            strokes = rng.integers(-pitch // 3, pitch // 3 + 1, (3, 2)) + np.array([x, y])
            cv2.polylines(field, [strokes.astype(np.int32)], False, 1.0, max(1, pitch // 10))
            x += int(pitch * rng.choice([0.5, 0.6, 0.7, 1.4]))
    return field


Maker = Callable[[np.random.Generator], Float32]
_NATURAL: tuple[Maker, ...] = (_cloud, _cloud, _fur, _ridges, _marble, _cells, _leaves, _foliage)
_PATTERN: tuple[Maker, ...] = (_stripes, _stripes, _dots, _spots, _spots, _bricks, _cells, _script)
