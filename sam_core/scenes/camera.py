"""From the canvas to a photograph: light, lens, sensor, file."""

import cv2
import numpy as np

from sam_core.scenes.kernels import Float32, UInt8, expose
from sam_core.scenes.materials import lay
from sam_core.scenes.textures import SIDE, TextureBank

Rng = np.random.Generator


def photograph(rng: Rng, canvas: Float32, bank: TextureBank, *, grey: bool, metered: bool) -> UInt8:
    """Colour cast, vignette, haze, tone curve, lens and motion blur, noise, resampling, JPEG.

    Args:
        canvas: float32 [S, S, 3], 0..1.
        grey: make the picture grey.
        metered: the camera exposes for the scene; else dark scenes stay dark, as under a microscope.

    Returns:
        uint8 [S, S, 3]; nothing moves by more than a fraction of a pixel.
    """
    gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3))
    if metered:
        gain *= (rng.uniform(0.3, 0.6) / max(float(np.mean(cv2.mean(canvas)[:3])), 0.05)) ** 0.75
    veil = rng.uniform(0, 0.5) if rng.random() < 0.15 else 0.0
    haze = np.append(np.clip(0.75 + rng.normal(0, 0.08, 3), 0, 1), veil)
    image = expose(
        _lens(rng, canvas),
        gain,
        rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0,
        haze,
        bank.smooth[int(rng.integers(len(bank.smooth)))],
        _dapple(rng),
        lay(rng, 256 / canvas.shape[0] * rng.uniform(0.3, 2.5))[:6],
        _curve(rng),
        bank.noise,
        (int(rng.integers(SIDE)), int(rng.integers(SIDE))),
        rng.gamma(1.2, 2.5) if rng.random() < 0.8 else 0.0,
        grey,
    )
    return _file(rng, image)


def _dapple(rng: Rng) -> Float32:
    """Brightness [256] of light and shade falling over everything: none, clouds, or the hard edges of shadows."""
    kind, level = rng.random(), np.linspace(-1, 1, 256)
    if kind < 0.4:
        return np.ones(256, np.float32)
    hardness = rng.uniform(0.5, 2) if kind < 0.8 else rng.uniform(8, 40)
    shade = np.tanh(hardness * (level - rng.uniform(-0.5, 0.5)))
    return np.exp(rng.uniform(0.05, 0.4) * shade).astype(np.float32)


def _lens(rng: Rng, canvas: Float32) -> Float32:
    """Softness or sharpening (with its halos) of the lens, or motion of the hand."""
    kind, unit = rng.random(), canvas.shape[0] / 256
    if kind < 0.45:
        soft: Float32 = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.35, 1.1) * unit)
        return soft
    if kind < 0.65:
        wide: Float32 = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.7, 1.6) * unit)
        amount = rng.uniform(0.3, 1.2)
        crisp: Float32 = cv2.addWeighted(canvas, 1 + amount, wide, -amount, 0)
        return crisp
    if kind < 0.7:
        moved: Float32 = cv2.filter2D(canvas, -1, _streak(rng, int(rng.integers(3, 3 + int(5 * unit)))))
        return moved
    return canvas


def _streak(rng: Rng, length: int) -> Float32:
    """Kernel of a straight motion of some px."""
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [np.round(middle + sign * reach).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _curve(rng: Rng) -> UInt8:
    """Tone curve: gamma and an S of contrast, over 1024 input levels."""
    t = np.linspace(0, 1, 1024) ** np.exp(rng.normal(0, 0.2))
    contrast = rng.normal(0.1, 0.3)
    t = t + contrast * t * (1 - t) * (2 * t - 1)
    black, white = rng.uniform(0, 0.06), rng.uniform(0.9, 1.0)
    return np.asarray(255 * np.clip(black + t * (white - black), 0, 1), np.uint8)


def _file(rng: Rng, image: UInt8) -> UInt8:
    """Resampling and JPEG, as files have been through."""
    side = image.shape[0]
    if rng.random() < 0.2:
        small = int(side * rng.uniform(0.5, 0.95))
        shrunk = cv2.resize(
            image, (small, small), interpolation=cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
        )
        image = cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.7:
        quality = int(np.clip(rng.normal(75, 18), 25, 98))
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return image
