"""Per-pixel loops of the renderer, compiled: texturing, compositing, shadows, and the sensor."""

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import cached

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
Int16 = NDArray[np.int16]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


_compiled = cached(fastmath=True)


@_compiled
def paint_part(
    colour: Float32,
    alpha: Float32,
    parts: Int16,
    coverage: UInt8,
    corner: tuple[int, int],
    origin: tuple[int, int],
    field: UInt8,
    grain: UInt8,
    grain_gain: float,
    homography: Float64,
    ramp: Float32,
    shade: Float64,
    relief: Float32,
    relief_gain: float,
    part_id: int,
    clip_id: int,
) -> None:
    """Texture one covered region into a layer, in place.

    Args:
        colour, alpha, parts: the layer, [H, W, 3] premultiplied 0..1, [H, W] 0..1, [H, W] part ids.
        coverage: [h, w] 0..255, how much of each pixel the region covers.
        corner: (x, y) of the coverage in the layer, px.
        origin: (x, y) of the layer in the canvas, px: textures and shades live in the canvas frame.
        field, grain: [T, T] texture values, T a power of two; both wrap.
        grain_gain: relative brightness amplitude of the grain.
        homography: [9] canvas (x, y, 1) px -> texture (u, v, w) texels.
        ramp: [256, 3] colour of each texture value.
        shade: [3] brightness = shade[0] + shade[1] x + shade[2] y, canvas px.
        relief: [h, w] extra brightness -1..1 of the region, or [1, 1] for none; times relief_gain.
        part_id: id written where coverage is at least a half. Ignored for marks.
        clip_id: >= 0 makes the region a mark: it colours only pixels of that part, and gets no id.
    """
    height, width = coverage.shape
    side = field.shape[0]
    wrap = side - 1
    seen_from_aside = homography[6] != 0.0 or homography[7] != 0.0 or homography[8] != 1.0
    has_relief = relief.shape[0] == height and relief.shape[1] == width
    for row in range(height):
        y = row + corner[1]
        for column in range(width):
            cover = coverage[row, column]
            if cover == 0:
                continue
            x = column + corner[0]
            if clip_id >= 0 and parts[y, x] != clip_id:
                continue
            a = cover / np.float32(255.0)
            px, py = float(x + origin[0]), float(y + origin[1])
            u = homography[0] * px + homography[1] * py + homography[2]
            v = homography[3] * px + homography[4] * py + homography[5]
            if seen_from_aside:
                w = 1.0 / max(homography[6] * px + homography[7] * py + homography[8], 1e-4)
                u, v = u * w, v * w
            iu, iv = int(np.floor(u)), int(np.floor(v))
            fu, fv = np.float32(u - iu), np.float32(v - iv)
            u0, v0 = iu & wrap, iv & wrap
            u1, v1 = (iu + 1) & wrap, (iv + 1) & wrap
            top = field[v0, u0] + fu * (np.float32(field[v0, u1]) - field[v0, u0])
            bottom = field[v1, u0] + fu * (np.float32(field[v1, u1]) - field[v1, u0])
            value = int(top + fv * (bottom - top))
            light = shade[0] + shade[1] * px + shade[2] * py
            light *= 1.0 + grain_gain * (np.float32(grain[v0, u0]) - 128.0) / 128.0
            if has_relief:
                light *= 1.0 + relief_gain * relief[row, column]
            if light < 0.02:
                light = 0.02
            under = np.float32(1.0) - a
            over = a * np.float32(light)
            if clip_id >= 0:
                over *= alpha[y, x]
            else:
                alpha[y, x] = alpha[y, x] * under + a
                if cover >= 128:
                    parts[y, x] = part_id
            for channel in range(3):
                colour[y, x, channel] = colour[y, x, channel] * under + over * ramp[value, channel]


@_compiled
def composite(
    canvas: Float32,
    objects: Int16,
    part_map: Int16,
    colour: Float32,
    alpha: Float32,
    parts: Int16,
    origin: tuple[int, int],
    object_id: int,
    part_base: int,
    opacity: float,
) -> None:
    """Lay a layer over the canvas, in place; labels change where the layer covers at least half of a pixel.

    Args:
        canvas, objects, part_map: [S, S, 3] 0..1, [S, S] object ids, [S, S] part ids.
        colour, alpha, parts: the layer, [h, w, 3] premultiplied, [h, w], [h, w]; it lies inside the canvas.
        origin: (x, y) of the layer, px.
        object_id: id of the layer's object; part_base is added to its non-zero part ids.
        opacity: 0..1, glass lets the canvas through while its label stays whole.
    """
    height, width = alpha.shape
    share = np.float32(opacity)
    for row in range(height):
        y = row + origin[1]
        for column in range(width):
            a = alpha[row, column]
            if a <= 0:
                continue
            x = column + origin[0]
            keep = np.float32(1.0) - a * share
            for channel in range(3):
                canvas[y, x, channel] = canvas[y, x, channel] * keep + colour[row, column, channel] * share
            if a >= 0.5:
                objects[y, x] = object_id
                part = parts[row, column]
                part_map[y, x] = part + part_base if part > 0 else 0


@_compiled
def darken(canvas: Float32, shadow: Float32, origin: tuple[int, int], strength: float) -> None:
    """Multiply the canvas [S, S, 3] by 1 - strength * shadow [h, w] (0..1) at origin (x, y), in place."""
    height, width = shadow.shape
    for row in range(height):
        for column in range(width):
            keep = np.float32(1.0 - strength * shadow[row, column])
            for channel in range(3):
                canvas[row + origin[1], column + origin[0], channel] *= keep


@_compiled
def relief_light(height_map: Float32, light: Float64) -> Float32:
    """Lambert shading of a height map, relative to a flat surface.

    Args:
        height_map: [h, w] heights, px.
        light: [3] unit vector to the light (x right, y down, z to the viewer).

    Returns:
        [h, w] float32, 0 for a flat surface, about -1..1.
    """
    height, width = height_map.shape
    out = np.empty((height, width), np.float32)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            gx = 0.5 * (height_map[y, right] - height_map[y, left])
            gy = 0.5 * (height_map[down, x] - height_map[up, x])
            lit = (light[2] - gx * light[0] - gy * light[1]) / np.sqrt(1.0 + gx * gx + gy * gy)
            out[y, x] = max(lit, 0.0) / light[2] - 1.0
    return out


@_compiled
def _level(value: float) -> int:
    """Index of a brightness in a curve of 1024 levels."""
    return int(min(max(value, 0.0), 1023.0))


@_compiled
def _byte(value: float) -> int:
    """A grey level as the file stores it."""
    return int(min(max(value, 0.0), 255.0))


@_compiled
def expose(
    canvas: Float32,
    gain: Float64,
    vignette: float,
    haze: Float64,
    dapple: UInt8,
    dapple_gain: Float32,
    dapple_affine: Float64,
    curve: UInt8,
    noise: Int8,
    noise_at: tuple[int, int],
    noise_gain: float,
    grey: bool,
) -> UInt8:
    """What the light and the sensor make of the canvas.

    Args:
        canvas: [S, S, 3] colour, 0..1 and above.
        gain: [3] white balance and exposure.
        vignette: brightness lost in the corners, 0..1.
        haze: [4] colour of the haze and its amount at the top row; it fades to the bottom.
        dapple: [T, T] light and shade over the whole scene, T a power of two; wraps.
        dapple_gain: [256] brightness of each of its values.
        dapple_affine: [6] canvas (x, y, 1) px -> texels, rows u and v.
        curve: [1024] response from 0..1 to 0..255.
        noise: [T, T, 3] standard noise in units of 1/32, read from noise_at (x, y) on; wraps.
        noise_gain: noise amplitude in grey levels.
        grey: one channel for all.

    Returns:
        [S, S, 3] uint8.
    """
    side = canvas.shape[0]
    wrap = noise.shape[0] - 1
    out = np.empty((side, side, 3), np.uint8)
    red, green, blue = np.float32(gain[0] * 1023), np.float32(gain[1] * 1023), np.float32(gain[2] * 1023)
    grit = np.float32(noise_gain / 32.0)
    for y in range(side):
        veil = np.float32(haze[3] * (1.0 - y / side))
        dy = 2.0 * y / side - 1.0
        for x in range(side):
            dx = 2.0 * x / side - 1.0
            u = int(dapple_affine[0] * x + dapple_affine[1] * y + dapple_affine[2]) & wrap
            v = int(dapple_affine[3] * x + dapple_affine[4] * y + dapple_affine[5]) & wrap
            light = np.float32(1.0 - vignette * 0.5 * (dx * dx + dy * dy)) * dapple_gain[dapple[v, u]] * (1 - veil)
            row, column = (y + noise_at[1]) & wrap, (x + noise_at[0]) & wrap
            r = (canvas[y, x, 0] * light + np.float32(haze[0]) * veil) * red
            g = (canvas[y, x, 1] * light + np.float32(haze[1]) * veil) * green
            b = (canvas[y, x, 2] * light + np.float32(haze[2]) * veil) * blue
            r = curve[_level(r)] + noise[row, column, 0] * grit
            g = curve[_level(g)] + noise[row, column, 1] * grit
            b = curve[_level(b)] + noise[row, column, 2] * grit
            if grey:
                r = g = b = (r + g + b) / np.float32(3.0)
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = _byte(r), _byte(g), _byte(b)
    return out


@_compiled
def census(labels: Int16, count: int) -> Int64:
    """Pixels of every id 0..count - 1 in a label map: int64 [count]."""
    out = np.zeros(count, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            out[labels[y, x]] += 1
    return out
