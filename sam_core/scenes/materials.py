"""What surfaces look like: a texture field, how it lies in the picture, and the colours of its values."""

from dataclasses import dataclass, replace

import numpy as np

from sam_core.scenes.kernels import Float32, Float64, UInt8
from sam_core.scenes.textures import SIDE, TextureBank


@dataclass(frozen=True, slots=True)
class Material:
    """A surface.

    Attributes:
        field: uint8 [T, T] texture.
        grain: uint8 [T, T] fine brightness noise, with relative amplitude grain_gain.
        homography: float64 [9], canvas (x, y, 1) px -> texture (u, v, w) texels.
        ramp: float32 [256, 3] RGB 0..1 of every texture value.
        colour: float64 [3] its mean colour.
    """

    field: UInt8
    grain: UInt8
    grain_gain: float
    homography: Float64
    ramp: Float32
    colour: Float64


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one scene: a few anchors around which materials vary. Float64 [k, 3] RGB 0..1."""

    anchors: Float64

    def pick(self, rng: np.random.Generator) -> Float64:
        """A colour near an anchor."""
        return vary(self.anchors[int(rng.integers(len(self.anchors)))], rng, 0.06)


def vary(colour: Float64, rng: np.random.Generator, spread: float) -> Float64:
    """The colour, lighter or darker and slightly of another hue."""
    shift = rng.standard_normal(4) * (2 * spread, spread / 2, spread / 2, spread / 2)
    varied: Float64 = np.minimum(np.maximum(colour * np.exp(shift[0]) + shift[1:], 0.01), 1.0)
    return varied


def natural_colour(rng: np.random.Generator) -> Float64:
    """A colour as photographs have them: mostly earthy and dull, warm or blue-green, rarely vivid."""
    saturation = rng.beta(1.2, 3.4) if rng.random() < 0.93 else rng.uniform(0.5, 0.95)
    kind = rng.random()
    if kind < 0.4:
        hue = rng.normal(0.08, 0.04)
    elif kind < 0.62:
        hue = rng.normal(0.25, 0.06)
    else:
        hue = rng.normal(0.58, 0.04) if kind < 0.88 else rng.random()
    return hsv(hue, saturation, 0.04 + 0.92 * rng.beta(1.5, 1.5))


def hsv(hue: float, saturation: float, value: float) -> Float64:
    """RGB of a hue (1 is the whole circle), saturation and value, all 0..1. Float64 [3]."""
    phase = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    colour: Float64 = value - value * saturation * np.clip(np.minimum(phase, 4 - phase), 0, 1)
    return colour


def random_palette(rng: np.random.Generator) -> Palette:
    """Four to nine colours that share a tint, so that a scene's surfaces belong together."""
    anchors = np.stack([natural_colour(rng) for _ in range(int(rng.integers(4, 10)))])
    tint = natural_colour(rng)
    return Palette(anchors + rng.uniform(0, 0.25) * (tint - anchors))


_LEVELS = np.linspace(0, 1, 256, dtype=np.float32)[:, None]


def colour_ramp(low: Float64, high: Float64, *, bend: float = 1.0) -> Float32:
    """Ramp [256, 3] from low to high; bend > 1 keeps to the low colour longer."""
    levels = _LEVELS if bend == 1 else _LEVELS**bend
    return np.float32(low) + np.float32(high - low) * levels


@dataclass(frozen=True, slots=True)
class MaterialShop:
    """Makes materials for one scene."""

    bank: TextureBank
    palette: Palette
    size: int

    def plain(self, rng: np.random.Generator, colour: Float64 | None = None) -> Material:
        """Nearly flat: paint, plastic, sky."""
        base = self.palette.pick(rng) if colour is None else colour
        return self._make(rng, self.bank.smooth, base, contrast=rng.uniform(0, 0.15), grain=rng.uniform(0, 0.05))

    def rough(self, rng: np.random.Generator, colour: Float64 | None = None) -> Material:
        """Natural surface of one colour in lighter and darker shades."""
        base = self.palette.pick(rng) if colour is None else colour
        return self._make(rng, self.bank.natural, base, contrast=rng.gamma(2, 0.2), grain=rng.uniform(0, 0.2))

    def patterned(self, rng: np.random.Generator, colour: Float64 | None = None) -> Material:
        """Two colours in a pattern: cloth, fur, brickwork, print."""
        base = self.palette.pick(rng) if colour is None else colour
        other = self.palette.pick(rng) if rng.random() < 0.5 else base * rng.uniform(0.2, 0.8)
        made = self._make(rng, self.bank.pattern, base, contrast=0.0, grain=rng.uniform(0, 0.12))
        return replace(made, ramp=colour_ramp(other, base, bend=np.exp(rng.normal(0, 0.5))))

    def any(self, rng: np.random.Generator, colour: Float64 | None = None) -> Material:
        """Plain, rough or patterned, as things in photographs are."""
        kind = rng.random()
        if kind < 0.35:
            return self.plain(rng, colour)
        return self.rough(rng, colour) if kind < 0.8 else self.patterned(rng, colour)

    def cloth(self, rng: np.random.Generator) -> Material:
        """Soft shades and folds, or a woven or printed pattern."""
        base = self.palette.pick(rng)
        if rng.random() < 0.3:
            return self.patterned(rng, base)
        return self._make(rng, self.bank.folds, base, contrast=rng.uniform(0.1, 0.8), grain=rng.uniform(0, 0.1))

    def _make(
        self, rng: np.random.Generator, fields: UInt8, base: Float64, *, contrast: float, grain: float
    ) -> Material:
        low = vary(base, rng, 0.03) * np.exp(-contrast)
        high = vary(base, rng, 0.03) * np.exp(0.6 * contrast)
        return Material(
            field=fields[int(rng.integers(len(fields)))],
            grain=self.bank.grain,
            grain_gain=grain,
            homography=lay(rng, scale=np.exp(rng.normal(0.1, 0.6)) * 256 / self.size),
            ramp=colour_ramp(low, high),
            colour=base,
        )


def lay(rng: np.random.Generator, scale: float) -> Float64:
    """Random turn and offset of a texture; scale in texels per px. Float64 [9]."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    u, v = rng.uniform(0, SIDE, 2)
    return np.array([c, -s, u, s, c, v, 0.0, 0.0, 1.0])
