"""Puts objects into a scene: one light, one style of shadow, sizes with a heavy tail."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.config import SceneConfig
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Canvas, Part, cast_shadow, land, placed, render_layer
from sam_core.scenes.materials import Material, MaterialShop


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene under construction.

    Attributes:
        light: [3] unit vector to the light.
        shadow: strength of cast shadows, 0..1; shadow_soft is their softness relative to the object.
        grounded: things stand on a ground, so shadows lie flat; else they fall on a wall behind.
    """

    config: SceneConfig
    canvas: Canvas
    shop: MaterialShop
    light: Float64
    shadow: float
    shadow_soft: float
    grounded: bool = False

    def put(
        self,
        rng: np.random.Generator,
        parts: Sequence[Part],
        centre: Float64,
        scale: float,
        *,
        angle: float = 0.0,
        blur: float = 0.0,
        group: int = 0,
        backdrop: Material | None = None,
    ) -> int:
        """Place an object (fitted to -1..1) and return its id, 0 when it misses the canvas.

        Args:
            centre: [2] xy of its origin, canvas px.
            scale: half extent of its longer side, px.
            angle: turn, radians.
            blur: sigma of its defocus, px.
            group: objects of one group belong together; 0 for none.
            backdrop: what lies behind; the object may wear it as camouflage.
        """
        outfit = deformed(rng, parts)
        if backdrop is not None and rng.random() < self.config.camouflage:
            outfit = _camouflaged(rng, outfit, backdrop)
        turn = np.diag([scale if rng.random() < 0.5 else -scale, scale]) @ shapes.turn_matrix(angle)
        slope = rng.uniform(0, 0.45) / max(scale, 1.0)
        shaped = placed(outfit, turn, centre)
        layer = render_layer(shaped, self.canvas.size, self.light, tilt=self.light[:2] * slope, blur=blur)
        if layer is None:
            return 0
        if self.shadow > 0.02:
            cast_shadow(
                self.canvas, layer, self._shadow_warp(centre, scale), 0.6 + blur + self.shadow_soft * scale, self.shadow
            )
        glass = rng.uniform(0.55, 0.9) if rng.random() < 0.03 else 1.0
        return land(self.canvas, layer, group=group, opacity=glass)

    def _shadow_warp(self, centre: Float64, scale: float) -> Float64:
        """Affine from silhouette to shadow: flattened about the feet, or shifted away from the light."""
        away = -self.light[:2] / self.light[2]
        if not self.grounded:
            shift = away * scale * 0.18
            return np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        foot = centre[1] + 0.97 * scale
        lean, squash = -0.7 * away[0], 0.35
        return np.array([[1, lean, -lean * foot], [0, squash, foot * (1 - squash)]])

    def heavy_scale(self, rng: np.random.Generator, *, smallest: float = 0.02, largest: float = 0.6) -> float:
        """Half extent of an object, px: density falls like scale^-2, from specks to more than half the frame."""
        u = rng.random()
        return float(self.canvas.size / (1 / smallest + u * (1 / largest - 1 / smallest)))

    def anywhere(self, rng: np.random.Generator, *, beyond: float = 0.08) -> Float64:
        """A place in the canvas or slightly outside, px."""
        return rng.uniform(-beyond, 1 + beyond, 2) * self.canvas.size


def deformed(rng: np.random.Generator, parts: Sequence[Part]) -> list[Part]:
    """The parts stretched, sheared and bent together: the same thing of another build, from another side."""
    stretch = float(np.exp(rng.normal(0, 0.15)))
    matrix = np.array([[stretch, 0], [rng.normal(0, 0.08), 1 / stretch]])
    amount, waves = rng.normal(0, 0.035, 2), rng.uniform(1, 4, 2)
    phase = rng.uniform(0, 2 * np.pi, 2)
    return [
        part.reshaped(tuple(c @ matrix for c in shapes.bent(part.contours, amount, waves, phase))) for part in parts
    ]


def _camouflaged(rng: np.random.Generator, parts: list[Part], backdrop: Material) -> list[Part]:
    """The parts in the material that lies behind them, told apart by shading and a little brightness."""
    bright = float(np.exp(rng.normal(0, 0.15)))
    return [
        part if part.mark else replace(part, material=backdrop, brightness=part.brightness * bright) for part in parts
    ]
