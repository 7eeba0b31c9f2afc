"""From the canvas to a photograph: light, lens, sensor, file."""

import cv2
import numpy as np

from sam_core.scenes.kernels import Float32, UInt8, expose
from sam_core.scenes.textures import SIDE, TextureBank

Rng = np.random.Generator


def photograph(rng: Rng, canvas: Float32, bank: TextureBank, *, grey: bool) -> UInt8:
    """Colour cast, vignette, haze, tone curve, lens and motion blur, noise, resampling, JPEG.

    Args:
        canvas: float32 [S, S, 3], 0..1.
        grey: make the picture grey.

    Returns:
        uint8 [S, S, 3]; nothing moves by more than a fraction of a pixel.
    """
    sharp = _lens(rng, canvas)
    gain = np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.05, 3))
    veil = rng.uniform(0, 0.5) if rng.random() < 0.15 else 0.0
    haze = np.append(np.clip(0.75 + rng.normal(0, 0.08, 3), 0, 1), veil)
    vignette = rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0
    strength = rng.gamma(1.2, 2.5) if rng.random() < 0.8 else 0.0
    image = expose(sharp, gain, vignette, haze, _curve(rng), _noise(rng, canvas.shape[0], bank), strength, grey)
    return _file(rng, image)


def _lens(rng: Rng, canvas: Float32) -> Float32:
    kind = rng.random()
    unit = canvas.shape[0] / 256
    if kind < 0.5:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.35, 1.1) * unit))
    if kind < 0.56:
        length = int(rng.integers(3, 3 + int(5 * unit)))
        kernel = np.zeros((length, length), np.float32)
        end = np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)]) * length / 2
        middle = (length - 1) / 2
        tips = [tuple(np.round(middle + sign * end).astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(kernel, tips[0], tips[1], 1.0)
        return np.asarray(cv2.filter2D(canvas, -1, kernel / kernel.sum()))
    return canvas


def _curve(rng: Rng) -> UInt8:
    """Tone curve: gamma and an S of contrast, over 1024 input levels."""
    t = np.linspace(0, 1, 1024) ** np.exp(rng.normal(0, 0.2))
    contrast = rng.normal(0.1, 0.3)
    t = t + contrast * t * (1 - t) * (2 * t - 1)
    black, white = rng.uniform(0, 0.06), rng.uniform(0.9, 1.0)
    return (255 * np.clip(black + t * (white - black), 0, 1)).astype(np.uint8)


def _noise(rng: Rng, size: int, bank: TextureBank) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """A window of the noise field, tiled where the picture is larger."""
    y, x = rng.integers(0, SIDE, 2)
    rows, columns = (np.arange(size) + y) % SIDE, (np.arange(size) + x) % SIDE
    return np.ascontiguousarray(bank.noise[rows][:, columns])


def _file(rng: Rng, image: UInt8) -> UInt8:
    size = image.shape[0]
    if rng.random() < 0.2:
        smaller = int(size * rng.uniform(0.5, 0.95))
        method = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR]))
        image = cv2.resize(
            cv2.resize(image, (smaller, smaller), interpolation=method), (size, size), interpolation=cv2.INTER_CUBIC
        )
    if rng.random() < 0.7:
        quality = int(np.clip(rng.normal(75, 18), 25, 98))
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return np.asarray(image)
