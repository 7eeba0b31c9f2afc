"""Parts become a layer, a layer casts its shadow and lands on the canvas with exact labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from sam_core.scenes.kernels import Float32, Float64, Int16, UInt8, composite, darken, paint_part, relief_light
from sam_core.scenes.materials import Material
from sam_core.scenes.shapes import Contours

_SHIFT = 4
_FLAT = np.zeros((1, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Part:
    """One region of an object.

    Attributes:
        contours: closed contours [k, 2] xy (object or canvas frame), even-odd.
        material: its surface.
        relief: 0 flat .. 1 round like a ball.
        brightness: factor on its colour.
        mark: a stain, stripe, window or print on the part before it: coloured, clipped to it, never labelled.
        stroke: > 0 draws the contours as open lines this wide (same frame) instead of filling them.
    """

    contours: Contours
    material: Material
    relief: float = 0.0
    brightness: float = 1.0
    mark: bool = False
    stroke: float = 0.0


@dataclass(frozen=True, slots=True)
class Layer:
    """An object before it lands: premultiplied colour [h, w, 3], alpha [h, w], part ids [h, w] from 1, origin xy px."""

    colour: Float32
    alpha: Float32
    parts: Int16
    origin: tuple[int, int]
    part_count: int


@dataclass(slots=True)
class Canvas:
    """The picture in the making, and who owns what in it. Owner lists start with the background's entry."""

    colour: Float32
    objects: Int16
    parts: Int16
    part_object: list[int] = field(default_factory=lambda: [0])
    stuff: list[bool] = field(default_factory=lambda: [True])
    group: list[int] = field(default_factory=lambda: [0])

    @property
    def size(self) -> int:
        """Side of the canvas, px."""
        return self.objects.shape[0]

    @classmethod
    def blank(cls, size: int) -> "Canvas":
        """A black canvas without objects."""
        shape = (size, size)
        return cls(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.int16), np.zeros(shape, np.int16))


def placed(parts: Sequence[Part], scale: float, angle: float, centre: Float64, *, flip: bool = False) -> list[Part]:
    """Parts from the unit frame to canvas px: mirrored, scaled, turned (radians), moved."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[-c, -s] if flip else [c, s], [-s, c]])
    return [
        Part(
            tuple(contour @ turn + centre for contour in part.contours),
            part.material,
            part.relief,
            part.brightness,
            part.mark,
            part.stroke * scale,
        )
        for part in parts
    ]


def render_layer(
    parts: Sequence[Part], size: int, light: Float64, *, tilt: Float64 | None = None, blur: float = 0.0
) -> Layer | None:
    """Draw parts (canvas px, back to front) into a layer that fits them.

    Args:
        size: side of the canvas, px; what lies outside is cut off.
        light: [3] unit vector to the light.
        tilt: [2] brightness change per px across the object, or None.
        blur: sigma of the defocus, px.

    Returns:
        The layer, or None when nothing of it lies in the canvas.
    """
    margin = 2 + int(3 * blur)
    bounds = _bounds(parts, size, margin)
    if bounds is None:
        return None
    x0, y0, x1, y1 = bounds
    shape = (y1 - y0, x1 - x0)
    layer = Layer(
        np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int16), (x0, y0), 0
    )
    middle = np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1)])
    gradient = np.zeros(2) if tilt is None else tilt
    part_id = 0
    for part in parts:
        part_id += not part.mark
        _paint(layer, part, part_id, light, gradient, middle)
    if blur > 0.3:
        cv2.GaussianBlur(layer.colour, (0, 0), blur, dst=layer.colour)
        cv2.GaussianBlur(layer.alpha, (0, 0), blur, dst=layer.alpha)
    return Layer(layer.colour, layer.alpha, layer.parts, layer.origin, part_id)


def _bounds(parts: Sequence[Part], size: int, margin: int) -> tuple[int, int, int, int] | None:
    """Box x0, y0, x1, y1 (end exclusive) around the parts, cut to the canvas; None when empty."""
    points = np.concatenate([c for part in parts if not part.mark for c in part.contours])
    extra = margin + max(part.stroke for part in parts) / 2
    x0, y0 = np.clip(np.floor(points.min(0) - extra), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(0) + extra + 1), 0, size).astype(int)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None


def _paint(layer: Layer, part: Part, part_id: int, light: Float64, tilt: Float64, middle: Float64) -> None:
    height, width = layer.alpha.shape
    points = np.concatenate(part.contours) - layer.origin
    reach = 2 + part.stroke / 2
    x0, y0 = np.clip(np.floor(points.min(0) - reach), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(0) + reach + 1), 0, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    corner = (int(x0), int(y0))
    coverage = _coverage(part, (int(y1 - y0), int(x1 - x0)), np.add(layer.origin, corner))
    relief = _relief(coverage, light) if part.relief > 0 else _FLAT
    shade = part.brightness * np.array([1 - tilt @ middle, tilt[0], tilt[1]])
    surface = part.material
    paint_part(
        layer.colour,
        layer.alpha,
        layer.parts,
        coverage,
        corner,
        layer.origin,
        surface.field,
        surface.grain,
        surface.grain_gain,
        surface.homography,
        surface.ramp,
        shade,
        relief,
        part.relief,
        part_id,
        part_id if part.mark else -1,
    )


def _coverage(part: Part, shape: tuple[int, int], offset: Float64) -> UInt8:
    """Antialiased coverage 0..255 of a part in a window of the canvas."""
    coverage = np.zeros(shape, np.uint8)
    fixed = [np.round((c - offset) * (1 << _SHIFT)).astype(np.int32) for c in part.contours]
    if part.stroke:
        cv2.polylines(coverage, fixed, False, 255, max(1, round(part.stroke)), cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(coverage, fixed, 255, cv2.LINE_AA, _SHIFT)
    return coverage


def _relief(coverage: UInt8, light: Float64) -> Float32:
    """Shading of the region inflated like a cushion, from a distance transform at low resolution."""
    height, width = coverage.shape
    shrink = max(1.0, max(height, width) / 64)
    small = (max(3, round(width / shrink)), max(3, round(height / shrink)))
    mask = cv2.resize(coverage, small, interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder((mask > 96).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    peak = max(float(depth.max()), 1.0)
    cushion = cv2.GaussianBlur(np.sqrt(depth * (2 * peak - depth)), (0, 0), 0.5 + 0.12 * peak)
    lit = relief_light(cushion, light)[1:-1, 1:-1]
    return np.asarray(cv2.resize(lit, (width, height), interpolation=cv2.INTER_LINEAR))


def cast_shadow(canvas: Canvas, layer: Layer, warp: Float64, softness: float, strength: float) -> None:
    """Darken the canvas by the layer's silhouette.

    Args:
        warp: [2, 3] affine from the layer's place to the shadow's place, canvas px.
        softness: sigma of the penumbra, px.
        strength: 0..1.
    """
    height, width = layer.alpha.shape
    x, y = layer.origin
    corners = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1], [x + width, y + height, 1]]) @ warp.T
    margin = 2 + 2.5 * softness
    x0, y0 = np.clip(np.floor(corners.min(0) - margin), 0, canvas.size).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0) + margin), 0, canvas.size).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    shrink = float(np.clip(softness / 1.5, 1, 8))
    small = (max(2, round((x1 - x0) / shrink)), max(2, round((y1 - y0) / shrink)))
    local = warp.copy()
    local[:, 2] += warp[:, :2] @ (x, y) - (x0, y0)
    local *= np.array([[small[0] / (x1 - x0)], [small[1] / (y1 - y0)]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(layer.alpha, local, small), (0, 0), max(0.4, softness / shrink))
    full = cv2.resize(shadow, (int(x1 - x0), int(y1 - y0)))
    darken(canvas.colour, full, (int(x0), int(y0)), strength)


def land(canvas: Canvas, layer: Layer, *, stuff: bool = False, group: int = 0, opacity: float = 1.0) -> int:
    """Composite the layer as a new object (or stuff region) and return its id."""
    object_id = len(canvas.stuff)
    composite(
        canvas.colour,
        canvas.objects,
        canvas.parts,
        layer.colour,
        layer.alpha,
        layer.parts,
        layer.origin,
        object_id,
        len(canvas.part_object) - 1,
        opacity,
    )
    canvas.part_object.extend([object_id] * layer.part_count)
    canvas.stuff.append(stuff)
    canvas.group.append(group)
    return object_id
