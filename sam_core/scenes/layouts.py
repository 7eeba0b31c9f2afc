"""The scene kinds: which backdrop, which objects, where."""

from collections.abc import Callable

import numpy as np

from sam_core.scenes import backdrops, objects
from sam_core.scenes.config import SCENE_KINDS
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import Material
from sam_core.scenes.microscopy import microscopy
from sam_core.scenes.stage import Stage

Rng = np.random.Generator
Layout = Callable[[Rng, Stage], None]

_OUTDOOR = (
    objects.person, objects.person, objects.beast, objects.beast, objects.bird, objects.vehicle, objects.vehicle,
    objects.tree, objects.plant, objects.building, objects.crate, objects.signpost, objects.blob_thing,
    objects.compound, objects.furniture, objects.rope,
)  # fmt: skip
_INDOOR = (
    objects.furniture, objects.furniture, objects.crate, objects.crate, objects.bottle, objects.bottle, objects.plant,
    objects.person, objects.beast, objects.plate, objects.fruit, objects.compound, objects.patchwork,
    objects.blob_thing, objects.signpost,
)  # fmt: skip


def _tilted(rng: Rng, spread: float = 0.06) -> float:
    return float(rng.normal(0, spread))


def _maybe_blur(rng: Rng, stage: Stage) -> None:
    if rng.random() < 0.45:
        backdrops.defocus(stage, rng.gamma(1.5, 1.2) * stage.canvas.size / 256)


def _standing(rng: Rng, stage: Stage, ground: Material, far: float, families: tuple[objects.Family, ...]) -> None:
    """Objects on a ground plane: the lower their feet, the nearer and larger; drawn far to near."""
    size = stage.canvas.size
    count = int(np.clip(rng.geometric(0.16), 2, 24))
    tallest = rng.uniform(0.15, 0.55) * size
    feet = np.sort(far + (size * 1.12 - far) * rng.random(count) ** 1.3)
    chosen = [families[int(i)] for i in rng.integers(len(families), size=3)]
    for y in feet:
        depth = (y - far) / (size - far + 1)
        scale = tallest * (0.12 + 0.88 * depth) * float(np.exp(rng.normal(0, 0.35)))
        family = chosen[int(rng.integers(3))] if rng.random() < 0.6 else families[int(rng.integers(len(families)))]
        centre = np.array([rng.uniform(-0.05, 1.05) * size, y - scale])
        stage.put(rng, family(rng, stage.shop), centre, scale, angle=_tilted(rng), backdrop=ground)


def outdoor(rng: Rng, stage: Stage) -> None:
    """Landscape or street with things standing about."""
    ground, horizon = backdrops.landscape(rng, stage)
    _maybe_blur(rng, stage)
    _standing(rng, stage, ground, horizon, _OUTDOOR)


def indoor(rng: Rng, stage: Stage) -> None:
    """Room or table top with furniture and things."""
    floor, edge = backdrops.room(rng, stage)
    for _ in range(int(rng.integers(0, 4))):
        frame = objects.blob_thing if rng.random() < 0.5 else objects.crate
        centre = np.array([rng.uniform(0, 1) * stage.canvas.size, rng.uniform(0, 0.7) * edge])
        stage.put(rng, frame(rng, stage.shop), centre, stage.heavy_scale(rng, smallest=0.06, largest=0.25))
    _maybe_blur(rng, stage)
    _standing(rng, stage, floor, edge, _INDOOR)


def portrait(rng: Rng, stage: Stage) -> None:
    """One or two large things that fill the frame or are cut by it, before any backdrop, with small company."""
    size = stage.canvas.size
    backdrop = _any_backdrop(rng, stage)
    for _ in range(int(rng.integers(0, 6))):
        stage.put(rng, objects.random_object(rng, stage.shop), stage.anywhere(rng), stage.heavy_scale(rng, largest=0.2))
    if rng.random() < 0.6:
        backdrops.defocus(stage, rng.gamma(2, 1.5) * size / 256)
    for _ in range(1 if rng.random() < 0.65 else 2):
        scale = rng.uniform(0.25, 0.75) * size
        centre = (0.5 + rng.normal(0, 0.16, 2)) * size
        parts = objects.random_object(rng, stage.shop)
        stage.put(rng, parts, centre, scale, angle=_tilted(rng, 0.25), backdrop=backdrop)
    for _ in range(int(rng.integers(0, 3))):
        blur = rng.gamma(1, 1) * size / 256 if rng.random() < 0.4 else 0.0
        scale = stage.heavy_scale(rng, smallest=0.03, largest=0.3)
        stage.put(
            rng, objects.random_object(rng, stage.shop), stage.anywhere(rng), scale, angle=_tilted(rng, 0.5), blur=blur
        )


def _any_backdrop(rng: Rng, stage: Stage) -> Material:
    kind = rng.random()
    if kind < 0.35:
        return backdrops.wall(rng, stage)
    if kind < 0.6:
        return backdrops.landscape(rng, stage)[0]
    return backdrops.room(rng, stage)[0] if kind < 0.8 else backdrops.mosaic(rng, stage, int(rng.integers(1, 5)))


def pile(rng: Rng, stage: Stage) -> None:
    """Things heaped over the whole frame, large below, small on top."""
    backdrop = backdrops.wall(rng, stage)
    count = int(rng.integers(12, 40))
    scales = np.sort([stage.heavy_scale(rng, smallest=0.04, largest=0.4) for _ in range(count)])[::-1]
    families = tuple(objects.FAMILIES[int(i)] for i in rng.integers(len(objects.FAMILIES), size=4))
    for scale in scales:
        parts = objects.random_object(rng, stage.shop, families)
        stage.put(rng, parts, stage.anywhere(rng), float(scale), angle=rng.uniform(0, 6.3), backdrop=backdrop)


def cluster(rng: Rng, stage: Stage) -> None:
    """Many of a kind: rows, grids, heaps or flocks of similar things, touching or apart."""
    size = stage.canvas.size
    backdrop = _any_backdrop(rng, stage)
    backdrops.defocus(stage, rng.uniform(0, 2) * size / 256)
    family = objects.random_object if rng.random() < 0.2 else objects.FAMILIES[int(rng.integers(len(objects.FAMILIES)))]
    models = [family(rng, stage.shop) for _ in range(int(rng.integers(1, 5)))]
    group = 1
    places, radius = _arranged(rng, stage)
    turn = rng.uniform(0, 3.2) if rng.random() < 0.5 else 0.1
    for place in places:
        parts: list[Part] = models[int(rng.integers(len(models)))]
        scale = radius * float(np.exp(rng.normal(0, 0.12)))
        stage.put(rng, parts, place, scale, angle=rng.uniform(-turn, turn), group=group, backdrop=backdrop)


def _arranged(rng: Rng, stage: Stage) -> tuple[Float64, float]:
    """Places [n, 2] px of a cluster's members, back to front, and their half extent, px."""
    size = stage.canvas.size
    radius = size * float(np.exp(rng.uniform(np.log(0.035), np.log(0.14))))
    pitch = radius * rng.uniform(1.2, 2.6)
    limit = min(50, stage.config.max_objects)
    if rng.random() < 0.45:
        steps = np.arange(-size, size, pitch)
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2) + rng.normal(
            0, 0.08 * pitch, (len(steps) ** 2, 2)
        )
        grid = grid @ np.array([[1, rng.normal(0, 0.1)], [rng.normal(0, 0.1), 1]]) + rng.uniform(0.3, 0.7, 2) * size
        reach = rng.uniform(0.2, 0.7, 2) * size
        places = grid[(np.abs(grid - size / 2) < reach).all(1)]
    else:
        spread = rng.uniform(0.12, 0.45) * size
        places = rng.uniform(0.3, 0.7, 2) * size + rng.normal(0, spread, (int(rng.integers(5, limit + 1)), 2))
    places = places[rng.permutation(len(places))[:limit]]
    return places[np.argsort(places[:, 1])], radius


def mosaic(rng: Rng, stage: Stage) -> None:
    """Regions of texture side by side with few objects: what region segmentation is drawn from."""
    backdrop = backdrops.mosaic(rng, stage, int(rng.integers(3, 10)))
    for _ in range(int(rng.integers(0, 6))):
        stage.put(
            rng, objects.random_object(rng, stage.shop), stage.anywhere(rng), stage.heavy_scale(rng), backdrop=backdrop
        )


def abstract(rng: Rng, stage: Stage) -> None:
    """Simple and compound shapes of all sizes and any order on any backdrop."""
    backdrop = _any_backdrop(rng, stage)
    _maybe_blur(rng, stage)
    families = (objects.blob_thing, objects.patchwork, objects.compound, objects.rope, objects.fruit)
    for _ in range(int(np.clip(rng.geometric(0.1), 3, 30))):
        parts = objects.random_object(rng, stage.shop, families)
        stage.put(rng, parts, stage.anywhere(rng), stage.heavy_scale(rng), angle=rng.uniform(0, 6.3), backdrop=backdrop)


LAYOUTS: dict[str, Layout] = dict(
    zip(SCENE_KINDS, (outdoor, indoor, portrait, pile, cluster, mosaic, microscopy, abstract), strict=True)
)
