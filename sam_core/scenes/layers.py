"""Parts become a layer, a layer casts its shadow and lands on the canvas with exact labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from sam_core.scenes.cutouts import CutOut, warped
from sam_core.scenes.dressing import Dress
from sam_core.scenes.kernels import Float32, Float64, Int16, Int32, UInt8, composite, darken, paint_part, relief_light
from sam_core.scenes.materials import Material
from sam_core.scenes.shapes import Contours

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws with."""
_FLAT = np.zeros((1, 1), np.float32)
_LEAST_RELIEF = 12
"""Smaller regions are not shaded round, px: nobody would see it."""


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

    def reshaped(self, contours: Contours, *, scale: float = 1.0) -> "Part":
        """The same part along other contours, its strokes scaled."""
        return Part(contours, self.material, self.relief, self.brightness, self.mark, self.stroke * scale)


@dataclass(frozen=True, slots=True)
class Layer:
    """An object before it lands: premultiplied colour [h, w, 3], alpha [h, w], part ids [h, w] from 1, origin xy px."""

    colour: Float32
    alpha: Float32
    parts: Int16
    origin: tuple[int, int] = (0, 0)
    part_count: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """The picture in the making, and who owns what in it.

    Attributes:
        colour, alpha: float32 [S, S, 3] and [S, S]; the canvas is opaque.
        objects, parts: int16 [S, S] ids, 0 for none.
        part_object: owner object of every part id; stuff and group describe every object id. Entry 0 is nobody's.
    """

    colour: Float32
    alpha: Float32
    objects: Int16
    parts: Int16
    part_object: list[int] = field(default_factory=lambda: [0])
    stuff: list[bool] = field(default_factory=lambda: [True])
    group: list[int] = field(default_factory=lambda: [0])

    @property
    def size(self) -> int:
        """Side of the canvas, px."""
        return int(self.objects.shape[0])

    @classmethod
    def blank(cls, size: int) -> "Canvas":
        """A black canvas without objects."""
        shape = (size, size)
        return cls(
            colour=np.zeros((*shape, 3), np.float32),
            alpha=np.ones(shape, np.float32),
            objects=np.zeros(shape, np.int16),
            parts=np.zeros(shape, np.int16),
        )

    def new_object(self, *, stuff: bool, group: int = 0) -> int:
        """Register an object and return its id."""
        self.stuff.append(stuff)
        self.group.append(group)
        return len(self.stuff) - 1


@dataclass(frozen=True, slots=True)
class _Outline:
    """A part's contours in fixed point, canvas frame, and the px box x0, y0, x1, y1 (end exclusive) they touch."""

    fixed: list[Int32]
    box: tuple[int, int, int, int]


def placed(parts: Sequence[Part], turn: Float64, centre: Float64) -> list[Part]:
    """Parts from the unit frame to canvas px by a [2, 2] matrix (x_canvas = x_unit @ turn) and a shift [2]."""
    scale = float(abs(turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0])) ** 0.5
    return [part.reshaped(tuple(c @ turn + centre for c in part.contours), scale=scale) for part in parts]


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
    outlines = [_outline(part) for part in parts]
    x0, y0, x1, y1 = _union(
        [o.box for o, part in zip(outlines, parts, strict=True) if not part.mark], size, int(3 * blur)
    )
    if x1 <= x0 or y1 <= y0:
        return None
    blank = _blank((x0, y0, x1, y1))
    shade = _shade(tilt, 0.5 * (x0 + x1), 0.5 * (y0 + y1))
    part_id = 0
    for part, outline in zip(parts, outlines, strict=True):
        part_id += not part.mark
        _paint(blank, part, outline, part_id, light, shade)
    return replace(_defocused(blank, blur), part_count=part_id)


def _blank(box: tuple[int, int, int, int]) -> Layer:
    """An empty layer over x0, y0, x1, y1 px of the canvas."""
    x0, y0, x1, y1 = box
    shape = (y1 - y0, x1 - x0)
    return Layer(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int16), (x0, y0))


def _defocused(layer: Layer, blur: float) -> Layer:
    """The layer, softened in place by a sigma in px."""
    if blur > 0.3:
        cv2.GaussianBlur(layer.colour, (0, 0), blur, dst=layer.colour)
        cv2.GaussianBlur(layer.alpha, (0, 0), blur, dst=layer.alpha)
    return layer


def cutout_layer(
    picture: CutOut,
    dress: Dress,
    matrix: Float64,
    size: int,
    light: Float64,
    *,
    tilt: Float64 | None = None,
    blur: float = 0.0,
) -> Layer | None:
    """Draw a cut-out into a layer that fits it, as one part.

    Args:
        dress: what it is made of.
        matrix: [2, 3] affine from the cut-out's px to canvas px.
        size, light, tilt, blur: as of `render_layer`.

    Returns:
        The layer, or None when nothing of it lies in the canvas.
    """
    height, width = picture.alpha.shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ matrix.T
    (left, top), (right, bottom) = np.floor(corners.min(0)).tolist(), corners.max(0).tolist()
    x0, y0, x1, y1 = _union([(int(left), int(top), int(right) + 2, int(bottom) + 2)], size, int(3 * blur))
    if x1 <= x0 or y1 <= y0:
        return None
    local = matrix - np.array([[0, 0, x0], [0, 0, y0]])
    window = (x1 - x0, y1 - y0)
    layer = _blank((x0, y0, x1, y1))
    alpha = warped(picture.alpha, local, window)
    shade = _shade(tilt, 0.5 * (x0 + x1), 0.5 * (y0 + y1))
    relief = _relief(alpha, light) if dress.relief > 0 else _FLAT
    for number, surface in enumerate(dress.materials):
        # The first lies below all others, so that no seam between two of them is transparent.
        share = np.minimum(warped(dress.share(number), local, window), alpha) if number else alpha
        _texture(layer, share, (0, 0), surface, shade, relief, dress.relief, part_id=1)
    if dress.print is not None:
        layer.colour[:] *= warped(dress.print, local, window) / np.float32(255)
    return replace(_defocused(layer, blur), part_count=1)


def stamp(
    canvas: Canvas,
    parts: Sequence[Part],
    light: Float64,
    *,
    object_id: int,
    tilt: Float64 | None = None,
    blur: float = 0.0,
) -> None:
    """Draw regions (canvas px) straight onto the canvas as one object without parts: backdrops and cells.

    Args:
        blur: sigma that softens the outline alone, px.
    """
    ground = Layer(canvas.colour, canvas.alpha, canvas.objects)
    for part in parts:
        outline = _outline(part)
        x0, y0, x1, y1 = outline.box
        shade = _shade(tilt, 0.5 * (x0 + x1), 0.5 * (y0 + y1))
        _paint(ground, part, outline, object_id, light, shade, blur=blur)


def _outline(part: Part) -> _Outline:
    fixed = [np.rint(c * (1 << _SHIFT)).astype(np.int32) for c in part.contours]
    x, y, width, height = cv2.boundingRect(fixed[0] if len(fixed) == 1 else np.concatenate(fixed))
    reach = 2 + int(part.stroke / 2 + 0.5)
    low_x, low_y = (x >> _SHIFT) - reach, (y >> _SHIFT) - reach
    return _Outline(fixed, (low_x, low_y, (x + width >> _SHIFT) + reach + 1, (y + height >> _SHIFT) + reach + 1))


def _union(boxes: Sequence[tuple[int, int, int, int]], size: int, margin: int) -> tuple[int, int, int, int]:
    """Box around boxes, widened by the margin and cut to the canvas; empty when it misses the canvas."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return (
        max(min(left) - margin, 0),
        max(min(top) - margin, 0),
        min(max(right) + margin, size),
        min(max(bottom) + margin, size),
    )


def _shade(tilt: Float64 | None, x: float, y: float) -> Float64:
    """Brightness plane [3] that is 1 at (x, y) and changes by tilt per px."""
    if tilt is None:
        return np.array([1.0, 0.0, 0.0])
    return np.array([1 - tilt[0] * x - tilt[1] * y, tilt[0], tilt[1]])


def _paint(
    layer: Layer, part: Part, outline: _Outline, part_id: int, light: Float64, shade: Float64, *, blur: float = 0.0
) -> None:
    height, width = layer.alpha.shape
    left, top = layer.origin
    margin = int(3 * blur)
    x0, y0 = max(outline.box[0] - left - margin, 0), max(outline.box[1] - top - margin, 0)
    x1, y1 = min(outline.box[2] - left + margin, width), min(outline.box[3] - top + margin, height)
    if x1 <= x0 or y1 <= y0:
        return
    coverage = _coverage(part, outline, (y1 - y0, x1 - x0), (x0 + left, y0 + top))
    if blur > 0.3:
        cv2.GaussianBlur(coverage, (0, 0), blur, dst=coverage)
    relief = _relief(coverage, light) if part.relief > 0 else _FLAT
    clip_id = part_id if part.mark else -1
    bright = shade * part.brightness
    _texture(layer, coverage, (x0, y0), part.material, bright, relief, part.relief, part_id=part_id, clip_id=clip_id)


def _texture(
    layer: Layer,
    coverage: UInt8,
    corner: tuple[int, int],
    surface: Material,
    shade: Float64,
    relief: Float32,
    relief_gain: float,
    *,
    part_id: int,
    clip_id: int = -1,
) -> None:
    """`kernels.paint_part` with a layer and a material."""
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
        relief_gain,
        part_id,
        clip_id,
    )


def _coverage(part: Part, outline: _Outline, shape: tuple[int, int], corner: tuple[int, int]) -> UInt8:
    """Antialiased coverage 0..255 of a part in a window of the canvas whose corner is (x, y)."""
    coverage = np.zeros(shape, np.uint8)
    shift = (-corner[0] << _SHIFT, -corner[1] << _SHIFT)
    if part.stroke:
        lines = [points + np.array(shift, np.int32) for points in outline.fixed]
        cv2.polylines(coverage, lines, False, 255, max(1, round(part.stroke)), cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(coverage, outline.fixed, 255, cv2.LINE_AA, _SHIFT, shift)
    return coverage


def _relief(coverage: UInt8, light: Float64) -> Float32:
    """Shading of the region inflated like a cushion, from a distance transform at low resolution."""
    height, width = coverage.shape
    if max(height, width) < _LEAST_RELIEF:
        return _FLAT
    shrink = max(1.0, max(height, width) / 48)
    small = (max(3, round(width / shrink)), max(3, round(height / shrink)))
    mask = cv2.resize(coverage, small, interpolation=cv2.INTER_AREA) if shrink > 1 else coverage
    inside = cv2.threshold(mask, 96, 1, cv2.THRESH_BINARY)[1]
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    peak = min(max(float(cv2.minMaxLoc(depth)[1]), 1.0), 24.0)
    depth = np.minimum(depth, peak)
    cushion = cv2.GaussianBlur(np.sqrt(depth * (2 * peak - depth)), (0, 0), 0.5 + 0.12 * peak)
    lit = relief_light(cushion, light)
    return np.asarray(cv2.resize(lit, (width, height)) if shrink > 1 else lit, np.float32)


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
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    box = (int(left), int(top), int(right) + 1, int(bottom) + 1)
    x0, y0, x1, y1 = _union([box], canvas.size, 2 + int(2.5 * softness))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    shrink = min(max(softness / 1.5, 1.0), 8.0)
    small = (max(2, round((x1 - x0) / shrink)), max(2, round((y1 - y0) / shrink)))
    local = warp.copy()
    local[:, 2] += warp[:, :2] @ (x, y) - (x0, y0)
    local *= np.array([[small[0] / (x1 - x0)], [small[1] / (y1 - y0)]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(layer.alpha, local, small), (0, 0), max(0.4, softness / shrink))
    darken(canvas.colour, np.asarray(cv2.resize(shadow, (x1 - x0, y1 - y0)), np.float32), (x0, y0), strength)


def land(canvas: Canvas, layer: Layer, *, group: int = 0, opacity: float = 1.0) -> int:
    """Composite the layer as a new object and return its id."""
    object_id = canvas.new_object(stuff=False, group=group)
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
    return object_id
