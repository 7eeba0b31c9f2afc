"""Puts objects into a scene: one light, one style of shadow, sizes with a heavy tail."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.config import SceneConfig
from sam_core.scenes.cutouts import CutOut, CutOuts, shrunk
from sam_core.scenes.dressing import dressed
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Canvas, Layer, Part, cast_shadow, cutout_layer, land, placed, render_layer
from sam_core.scenes.materials import Material, MaterialShop
from sam_core.scenes.objects import ALL, Family, random_object

Thing = Sequence[Part] | CutOut
"""What `Stage.put` takes: an object made of parts, or one cut out of a picture."""
_LEAST_DRESSED = 32
"""Cut-outs are not brought below so many px before they are dressed, and not much above their size in the scene."""
_TRIES = 20
"""Cut-outs drawn until one is a solid thing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene under construction.

    Attributes:
        light: [3] unit vector to the light.
        cutouts: things cut out of pictures, or None.
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
    cutouts: CutOuts | None = None

    def thing(self, rng: np.random.Generator, families: tuple[Family, ...] = ALL) -> Thing:
        """An object of one of the families, or a cut-out in its place."""
        if self.cutouts is not None and rng.random() < self.config.cutouts:
            for _ in range(_TRIES):
                picture = self.cutouts[int(rng.integers(len(self.cutouts)))]
                if picture is not None:
                    return picture
        return random_object(rng, self.shop, families)

    def put(
        self,
        rng: np.random.Generator,
        thing: Thing,
        centre: Float64,
        scale: float,
        *,
        angle: float = 0.0,
        blur: float = 0.0,
        group: int = 0,
        backdrop: Material | None = None,
    ) -> int:
        """Place an object (parts fitted to -1..1, or a cut-out) and return its id, 0 when it misses the canvas.

        Args:
            centre: [2] xy of its origin, canvas px.
            scale: half extent of its longer side, px.
            angle: turn, radians.
            blur: sigma of its defocus, px.
            group: objects of one group belong together; 0 for none.
            backdrop: what lies behind; parts may wear it as camouflage.
        """
        outfit = thing if isinstance(thing, CutOut) else self._worn(rng, thing, backdrop)
        turn = np.diag([scale if rng.random() < 0.5 else -scale, scale]) @ shapes.turn_matrix(angle)
        tilt = self.light[:2] * (rng.uniform(0, 0.45) / max(scale, 1.0))
        if isinstance(outfit, CutOut):
            layer = self._cutout_layer(rng, outfit, turn, centre, tilt, blur)
        else:
            layer = render_layer(placed(outfit, turn, centre), self.canvas.size, self.light, tilt=tilt, blur=blur)
        if layer is None:
            return 0
        if self.shadow > 0.02:
            cast_shadow(
                self.canvas, layer, self._shadow_warp(centre, scale), 0.6 + blur + self.shadow_soft * scale, self.shadow
            )
        glass = rng.uniform(0.55, 0.9) if rng.random() < 0.03 else 1.0
        return land(self.canvas, layer, group=group, opacity=glass)

    def _worn(self, rng: np.random.Generator, parts: Sequence[Part], backdrop: Material | None) -> list[Part]:
        """The parts as this one of their kind has them, perhaps in camouflage."""
        outfit = deformed(rng, parts)
        if backdrop is not None and rng.random() < self.config.camouflage:
            return _camouflaged(rng, outfit, backdrop)
        return outfit

    def _cutout_layer(
        self, rng: np.random.Generator, picture: CutOut, turn: Float64, centre: Float64, tilt: Float64, blur: float
    ) -> Layer | None:
        """The cut-out in a dress of its own, its feet where those of an object made of parts are."""
        extent = float(abs(np.linalg.det(turn))) ** 0.5
        picture = shrunk(picture, max(_LEAST_DRESSED, round(2.5 * extent)))
        height, width = picture.alpha.shape
        unit = 2 / max(height, width)
        shape = unit * stretched(rng) @ turn
        feet = np.array([width / 2, height - 1 / unit])
        matrix = np.column_stack([shape.T, centre - feet @ shape])
        return cutout_layer(
            picture, dressed(rng, picture, self.shop), matrix, self.canvas.size, self.light, tilt=tilt, blur=blur
        )

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

    def anywhere(self, rng: np.random.Generator) -> Float64:
        """A place in the canvas or slightly outside, xy px."""
        return rng.uniform(-0.08, 1.08, 2) * self.canvas.size


def deformed(rng: np.random.Generator, parts: Sequence[Part]) -> list[Part]:
    """The parts stretched, sheared and bent together: the same thing of another build, from another side."""
    matrix = stretched(rng)
    amount, waves = rng.normal(0, 0.035, 2), rng.uniform(1, 4, 2)
    phase = rng.uniform(0, 2 * np.pi, 2)
    return [
        part.reshaped(tuple(c @ matrix for c in shapes.bent(part.contours, amount, waves, phase))) for part in parts
    ]


def stretched(rng: np.random.Generator) -> Float64:
    """A little wider or taller, and sheared: [2, 2], for points xy as rows."""
    stretch = float(np.exp(rng.normal(0, 0.15)))
    return np.array([[stretch, 0], [rng.normal(0, 0.08), 1 / stretch]])


def _camouflaged(rng: np.random.Generator, parts: list[Part], backdrop: Material) -> list[Part]:
    """The parts in the material that lies behind them, told apart by shading and a little brightness."""
    bright = float(np.exp(rng.normal(0, 0.15)))
    return [
        part if part.mark else replace(part, material=backdrop, brightness=part.brightness * bright) for part in parts
    ]
