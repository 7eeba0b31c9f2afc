"""The valid masks of a scene: whole objects, parts, groups, stuff."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sam_core.scenes.kernels import Bool, Int8, Int64
from sam_core.scenes.scene import Scene

SAME_AS_OBJECT = 0.95
"""A part that is more of its object than this is the same mask again."""


class MaskKind(IntEnum):
    """What a mask of a scene shows."""

    OBJECT = 0
    PART = 1
    GROUP = 2
    STUFF = 3


@dataclass(frozen=True, slots=True)
class SceneMasks:
    """The masks of a scene as an index; `pixels` makes the chosen ones.

    Attributes:
        scene: where they come from.
        kinds: int8 [N] codes of `MaskKind`.
        ids: int64 [N] id in the map of that kind (objects, parts, object_group, objects).
        areas: int64 [N] px.
    """

    scene: Scene
    kinds: Int8
    ids: Int64
    areas: Int64

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(self, chosen: NDArray[np.integer] | slice = slice(None)) -> Bool:
        """Bool masks [k, S, S] of the chosen rows (all by default)."""
        picked = [
            self._one(int(kind), int(key)) for kind, key in zip(self.kinds[chosen], self.ids[chosen], strict=True)
        ]
        return np.stack(picked) if picked else np.zeros((0, *self.scene.objects.shape), bool)

    def _one(self, kind: int, key: int) -> Bool:
        if kind == MaskKind.GROUP:
            return np.asarray((self.scene.object_group == key)[self.scene.objects])
        return np.asarray((self.scene.parts if kind == MaskKind.PART else self.scene.objects) == key)


def scene_masks(scene: Scene, min_area: int = 1) -> SceneMasks:
    """Index the masks of a scene with at least min_area visible px.

    A part that is nearly all (95 %) of its object is left out, and so is a group of a single object.
    """
    area = np.bincount(scene.objects.ravel(), minlength=len(scene.stuff))
    part_area = np.bincount(scene.parts.ravel(), minlength=len(scene.part_object))
    part_area = np.where(part_area < SAME_AS_OBJECT * area[scene.part_object], part_area, 0)
    members = np.bincount(scene.object_group)
    group_area = np.where(members > 1, np.bincount(scene.object_group, weights=area), 0).astype(np.int64)
    columns = (
        (MaskKind.OBJECT, np.where(scene.stuff, 0, area)),
        (MaskKind.PART, part_area),
        (MaskKind.GROUP, group_area),
        (MaskKind.STUFF, np.where(scene.stuff, area, 0)),
    )
    ids = [1 + np.flatnonzero(areas[1:] >= max(min_area, 1)) for _, areas in columns]
    return SceneMasks(
        scene=scene,
        kinds=np.concatenate([np.full(len(i), kind, np.int8) for (kind, _), i in zip(columns, ids, strict=True)]),
        ids=np.concatenate(ids),
        areas=np.concatenate([areas[i] for (_, areas), i in zip(columns, ids, strict=True)]),
    )
