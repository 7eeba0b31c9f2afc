"""The scene kinds: which backdrop, which objects, where."""

from collections.abc import Callable

import numpy as np

from sam_core.scenes import backdrops
from sam_core.scenes.config import SCENE_KINDS
from sam_core.scenes.kernels import Float64
from sam_core.scenes.materials import Material
from sam_core.scenes.microscopy import microscopy
from sam_core.scenes.objects import ABSTRACT, ALL, INDOOR, OUTDOOR, Family
from sam_core.scenes.stage import Stage

Rng = np.random.Generator
Layout = Callable[[Rng, Stage], None]


def _maybe_blur(rng: Rng, stage: Stage) -> None:
    if rng.random() < 0.45:
        backdrops.defocus(stage, rng.gamma(1.5, 1.2) * stage.canvas.size / 256)


def _some_of(rng: Rng, families: tuple[Family, ...], count: int) -> tuple[Family, ...]:
    """A few families that this scene has most of its things from."""
    return tuple(families[int(i)] for i in rng.integers(len(families), size=count))


def _standing(rng: Rng, stage: Stage, ground: Material, far: float, families: tuple[Family, ...]) -> None:
    """Objects on a ground plane: the lower their feet, the nearer and larger; drawn far to near, some in company."""
    size = stage.canvas.size
    count = int(np.clip(rng.geometric(0.12) + 1, 2, 24))
    tallest = rng.uniform(0.2, 0.65) * size
    favourites = _some_of(rng, families, 3)
    feet = far + (size * 1.15 - far) * rng.random(count) ** 1.2
    for number, y in enumerate(np.sort(feet).tolist(), start=1):
        depth = (y - far) / (size - far + 1)
        scale = tallest * (0.22 + 0.78 * depth) * float(np.exp(rng.normal(0, 0.35)))
        place = np.array([rng.uniform(-0.05, 1.05) * size, y - scale])
        company = number if rng.random() < 0.25 else 0
        thing = stage.thing(rng, favourites if rng.random() < 0.6 else families)
        stage.put(rng, thing, place, scale, angle=rng.normal(0, 0.06), group=company, backdrop=ground)
        if company:
            _companion(rng, stage, place, scale, company)


def _companion(rng: Rng, stage: Stage, place: Float64, scale: float, group: int) -> None:
    """Something held, ridden, worn or leaned on: a smaller object over the first."""
    offset = rng.normal(0, 0.35, 2) * scale
    thing = stage.thing(rng)
    stage.put(rng, thing, place + offset, scale * rng.uniform(0.15, 0.6), angle=rng.normal(0, 0.5), group=group)


def outdoor(rng: Rng, stage: Stage) -> None:
    """Landscape or street with things standing about."""
    ground, horizon = backdrops.landscape(rng, stage)
    _maybe_blur(rng, stage)
    _standing(rng, stage, ground, horizon, OUTDOOR)


def indoor(rng: Rng, stage: Stage) -> None:
    """Room or table top with things on the wall, furniture and things in front."""
    floor, edge = backdrops.room(rng, stage)
    for _ in range(int(rng.integers(0, 4))):
        place = np.array([rng.uniform(0, 1) * stage.canvas.size, rng.uniform(0, 0.7) * edge])
        stage.put(rng, stage.thing(rng), place, stage.heavy_scale(rng, smallest=0.06, largest=0.25))
    _maybe_blur(rng, stage)
    _standing(rng, stage, floor, edge, INDOOR)


def portrait(rng: Rng, stage: Stage) -> None:
    """One or two large things that fill the frame or are cut by it, before any backdrop, with small company."""
    size = stage.canvas.size
    backdrop = backdrops.anything(rng, stage)
    for _ in range(int(rng.integers(0, 8))):
        thing = stage.thing(rng)
        stage.put(rng, thing, stage.anywhere(rng), stage.heavy_scale(rng, smallest=0.06, largest=0.35))
    if rng.random() < 0.6:
        backdrops.defocus(stage, rng.gamma(2, 1.5) * size / 256)
    for number in range(1, 2 if rng.random() < 0.65 else 3):
        scale, place = rng.uniform(0.25, 0.75) * size, (0.5 + rng.normal(0, 0.16, 2)) * size
        company = number if rng.random() < 0.4 else 0
        angle = rng.normal(0, 0.25)
        stage.put(rng, stage.thing(rng), place, scale, angle=angle, group=company, backdrop=backdrop)
        if company:
            _companion(rng, stage, place, scale, company)
    for _ in range(int(rng.integers(0, 3))):
        blur = rng.gamma(1, 1) * size / 256 if rng.random() < 0.4 else 0.0
        scale = stage.heavy_scale(rng, smallest=0.05, largest=0.35)
        thing = stage.thing(rng)
        stage.put(rng, thing, stage.anywhere(rng), scale, angle=rng.normal(0, 0.5), blur=blur)


def pile(rng: Rng, stage: Stage) -> None:
    """Things heaped over the whole frame, large below, small on top."""
    backdrop = backdrops.wall(rng, stage)
    count = int(rng.integers(10, 28))
    scales = sorted((stage.heavy_scale(rng, smallest=0.05, largest=0.4) for _ in range(count)), reverse=True)
    families = _some_of(rng, ALL, 4)
    for scale in scales:
        thing = stage.thing(rng, families)
        stage.put(rng, thing, stage.anywhere(rng), scale, angle=rng.uniform(0, 6.3), backdrop=backdrop)


def cluster(rng: Rng, stage: Stage) -> None:
    """Many of a kind: rows, grids, heaps or flocks of similar things, touching or apart."""
    size = stage.canvas.size
    backdrop = backdrops.anything(rng, stage)
    backdrops.defocus(stage, rng.uniform(0, 2) * size / 256)
    families = ALL if rng.random() < 0.2 else _some_of(rng, ALL, 1)
    models = [stage.thing(rng, families) for _ in range(int(rng.integers(1, 5)))]
    radius = size * float(np.exp(rng.uniform(np.log(0.035), np.log(0.14))))
    turn = rng.uniform(0, 3.2) if rng.random() < 0.5 else 0.1
    for place in _arranged(rng, stage, radius):
        thing = models[int(rng.integers(len(models)))]
        scale = radius * float(np.exp(rng.normal(0, 0.12)))
        stage.put(rng, thing, place, scale, angle=rng.uniform(-turn, turn), group=1, backdrop=backdrop)


def _arranged(rng: Rng, stage: Stage, radius: float) -> Float64:
    """Places [n, 2] px of a cluster's members of that half extent (px), back to front."""
    size = stage.canvas.size
    pitch = radius * rng.uniform(1.3, 2.8)
    limit = 40
    if rng.random() < 0.45:
        steps = np.arange(-size, size, pitch)
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        skew = np.array([[1, rng.normal(0, 0.1)], [rng.normal(0, 0.1), 1]])
        grid = (grid + rng.normal(0, 0.08 * pitch, grid.shape)) @ skew + rng.uniform(0.3, 0.7, 2) * size
        places = grid[(np.abs(grid - size / 2) < rng.uniform(0.2, 0.7, 2) * size).all(1)]
    else:
        spread = rng.uniform(0.12, 0.45) * size
        places = rng.uniform(0.3, 0.7, 2) * size + rng.normal(0, spread, (int(rng.integers(4, limit + 4)), 2))
    places = places[rng.permutation(len(places))[:limit]]
    return np.asarray(places[np.argsort(places[:, 1])])


def mosaic(rng: Rng, stage: Stage) -> None:
    """Regions of texture side by side with few objects: what region segmentation is drawn from."""
    backdrop = backdrops.mosaic(rng, stage, int(rng.integers(3, 10)))
    for _ in range(int(rng.integers(0, 6))):
        thing = stage.thing(rng)
        stage.put(rng, thing, stage.anywhere(rng), stage.heavy_scale(rng, smallest=0.07), backdrop=backdrop)


def abstract(rng: Rng, stage: Stage) -> None:
    """Simple and compound shapes of all sizes and any order on any backdrop."""
    backdrop = backdrops.anything(rng, stage)
    _maybe_blur(rng, stage)
    for _ in range(int(np.clip(rng.geometric(0.08), 4, 30))):
        thing = stage.thing(rng, ABSTRACT)
        scale = stage.heavy_scale(rng, smallest=0.04)
        stage.put(rng, thing, stage.anywhere(rng), scale, angle=rng.uniform(0, 6.3), backdrop=backdrop)


LAYOUTS: dict[str, Layout] = dict(
    zip(SCENE_KINDS, (outdoor, indoor, portrait, pile, cluster, mosaic, microscopy, abstract), strict=True)
)
