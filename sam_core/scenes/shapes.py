"""Outlines: closed contours as float64 [k, 2] xy arrays, about one unit in radius around the origin, y down."""

import cv2
import numpy as np

from sam_core.scenes.kernels import Float64

Contours = tuple[Float64, ...]
"""Closed contours filled by the even-odd rule: a second one inside the first is a hole."""


_ANGLES = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
_QUARTER = np.stack([np.cos(_ANGLES[:11:2]), np.sin(_ANGLES[:11:2])], 1)
_CAP = np.linspace(0, np.pi, 7)[1:-1, None]


def ellipse(
    rx: float = 1.0, ry: float = 1.0, *, centre: tuple[float, float] = (0.0, 0.0), tilt: float = 0.0
) -> Float64:
    """Ellipse with radii rx, ry, turned by tilt (radians)."""
    outline = _CIRCLE * (rx, ry)
    return np.asarray((turned(outline, tilt) if tilt else outline) + centre)


def turned(points: Float64, angle: float) -> Float64:
    """Points [k, 2] rotated by angle (radians) around the origin."""
    return points @ turn_matrix(angle)


def turn_matrix(angle: float) -> Float64:
    """[2, 2] matrix that turns row vectors by angle (radians): points @ matrix."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return np.array([[c, s], [-s, c]])


def blobs(rng: np.random.Generator, count: int, roughness: float = 0.3, *, points: int = 64) -> Float64:
    """Smooth random star-shaped outlines [count, points, 2]; log radius is a Fourier series falling like k^-1.4."""
    order = np.arange(1, 9)
    wave = rng.standard_normal((count, 8, 2)) @ (1, 1j) * (0.5 * roughness * order**-1.4)
    spectrum = np.zeros((count, points // 2 + 1), complex)
    spectrum[:, 1:9] = wave * (points / 2)
    radius = np.exp(np.clip(np.fft.irfft(spectrum, points), -1.2, 1.0))
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2)


def blob(rng: np.random.Generator, roughness: float = 0.3) -> Float64:
    """One smooth random outline [64, 2]."""
    outline: Float64 = blobs(rng, 1, roughness)[0]
    return outline


def bent(contours: Contours, amount: Float64, waves: Float64, phase: Float64) -> Contours:
    """Contours pushed about by a slow wave, so that no two things of a kind have the same outline.

    Args:
        amount: [2] how far x and y move. waves: [2] radians per unit of y and x. phase: [2] radians.
    """
    return tuple(c + amount * np.sin(c[:, ::-1] * waves + phase) for c in contours)


def superellipse(power: float, rx: float = 1.0, ry: float = 1.0) -> Float64:
    """|x/rx|^power + |y/ry|^power = 1: from diamonds (1) over ellipses (2) to boxes (8)."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([rx * np.sign(c) * abs(c) ** (2 / power), ry * np.sign(s) * abs(s) ** (2 / power)], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    """Axis-aligned rectangle."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def rounded_box(x0: float, y0: float, x1: float, y1: float, radius: float) -> Float64:
    """Rectangle with corners rounded by radius."""
    r = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    quarter = _QUARTER * r
    corners = [(x1 - r, y1 - r), (x0 + r, y1 - r), (x0 + r, y0 + r), (x1 - r, y0 + r)]
    return np.concatenate([turned(quarter, i * np.pi / 2) + c for i, c in enumerate(corners)])


def star(rng: np.random.Generator) -> Float64:
    """Star with sharp or blunt spikes, slightly irregular."""
    spikes = int(rng.integers(3, 12))
    angle = np.linspace(0, 2 * np.pi, 2 * spikes, endpoint=False) + rng.normal(0, 0.05, 2 * spikes)
    radius = np.where(np.arange(2 * spikes) % 2, rng.uniform(0.35, 0.85), 1.0) * rng.uniform(0.9, 1.1, 2 * spikes)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def hull(rng: np.random.Generator) -> Float64:
    """Convex hull of a few random points: triangles, quadrangles, stones."""
    points = rng.normal(0, 0.6, (int(rng.integers(3, 12)), 2)).astype(np.float32)
    return np.asarray(cv2.convexHull(points)[:, 0], float)


def zigzag(rng: np.random.Generator) -> Float64:
    """Irregular star-shaped polygon with straight edges: shards, mountains, torn paper."""
    corners = int(rng.integers(5, 14))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.4, 1.1, corners)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def crescent(rng: np.random.Generator) -> Float64:
    """Outer arc and a flatter inner arc: moons, bananas, slices."""
    half = rng.uniform(0.8, 2.6)
    angle = np.linspace(-half, half, 28)
    inner = rng.uniform(0.3, 0.85)
    outer = np.stack([np.cos(angle), np.sin(angle)], 1)
    back = np.stack([np.cos(half) + inner * (np.cos(angle) - np.cos(half)), np.sin(angle)], 1)[::-1]
    return np.concatenate([outer, back])


def ring(rng: np.random.Generator) -> Contours:
    """Outline with a hole."""
    outer = blob(rng, 0.1) if rng.random() < 0.4 else ellipse()
    return outer, outer * rng.uniform(0.35, 0.85)


def smooth(corners: Float64, *, steps: int = 6) -> Float64:
    """Closed Catmull-Rom curve through the corners [k, 2]."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    p0, p1, p2, p3 = (np.roll(corners, shift, 0)[None] for shift in (1, 0, -1, -2))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2))


def limb(path: Float64, widths: Float64) -> Float64:
    """Tapered ribbon with round ends around a polyline.

    Args:
        path: [k, 2] points, k >= 2.
        widths: [k] half width at each point.
    """
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.stack([-along[:, 1], along[:, 0]], 1)
    left, right = path + side * widths[:, None], path - side * widths[:, None]
    tip = path[-1] + widths[-1] * (np.cos(_CAP) * side[-1] + np.sin(_CAP) * along[-1])
    tail = path[0] - widths[0] * (np.cos(_CAP) * side[0] + np.sin(_CAP) * along[0])
    return np.concatenate([left, tip, right[::-1], tail])


def ragged(rng: np.random.Generator, contour: Float64, depth: float) -> Float64:
    """The contour with a rough edge: fur, hair, leaves.

    Args:
        contour: closed, [k, 2].
        depth: standard deviation of the roughness, in the contour's units.
    """
    fine = np.arange(0, len(contour), max(len(contour) / 200, 0.2))
    wrapped = np.concatenate([contour, contour[:1]])
    knots = np.arange(len(wrapped))
    dense = np.stack([np.interp(fine, knots, wrapped[:, axis]) for axis in (0, 1)], 1)
    rough: Float64 = dense + rng.normal(0, depth, dense.shape)
    return rough


def wander(rng: np.random.Generator, *, curl: float) -> Float64:
    """Open random path of about unit radius: a rope, a stem, a river. Float64 [12, 2]."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, curl, 12) + rng.normal(0, curl / 3))
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0)
    path -= path.mean(0)
    return np.asarray(path / np.abs(path).max())


def revolved(heights: Float64, radii: Float64) -> Float64:
    """Mirror-symmetric outline of a turned thing (bottle, vase, lamp): radii [k] at heights [k]."""
    right = np.stack([radii, heights], 1)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def random_outline(rng: np.random.Generator) -> Contours:
    """Any simple shape, with a random aspect ratio."""
    makers = (
        lambda: blob(rng, rng.uniform(0.1, 0.6)),
        lambda: blob(rng, rng.uniform(0.05, 0.3)),
        lambda: ellipse(),
        lambda: superellipse(rng.uniform(0.8, 8)),
        lambda: rounded_box(-1, -1, 1, 1, rng.uniform(0.02, 0.6)),
        lambda: box(-1, -1, 1, 1),
        lambda: hull(rng),
        lambda: smooth(hull(rng)),
        lambda: zigzag(rng),
        lambda: smooth(zigzag(rng)),
        lambda: star(rng),
        lambda: crescent(rng),
    )
    contours = ring(rng) if rng.random() < 0.06 else (makers[int(rng.integers(len(makers)))](),)
    aspect = np.exp(rng.normal(0, 0.35))
    return tuple(contour * (aspect**0.5, aspect**-0.5) for contour in contours)
