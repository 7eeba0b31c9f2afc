"""Recipes of the automatic generator: every number that decides which masks are kept, and nothing else.

A recipe is numbers and one enum, so that it can be hashed into a run id and turned into command line flags.
How the work is batched or on which device it runs is no part of it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from sam_core.presets import did_you_mean

_PIXELS = 1024
"""Along each side of the model's input: more points would ask twice for a pixel."""


class SmallMaskRule(StrEnum):
    """What happens to a mask whose every connected part is smaller than `min_region_area`."""

    KEEP_LARGEST = "keep_largest"
    """The largest part stays; holes are filled before parts are removed (released amg.py)."""
    DROP = "drop"
    """The mask goes; parts are removed before holes are filled (paper, appendix B)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Thresholds of the automatic generator; the defaults are those of the released SamAutomaticMaskGenerator.

    For min_predicted_iou, min_stability_score, full_image_fraction and min_region_area, 0 switches the rule off.
    Raises ValueError when a value is out of range.
    """

    points_per_side: int = 32
    """Point prompts along each side of the whole image."""
    crop_layers: int = 0
    """Layers of crops beside the whole image; layer i has 2^i by 2^i crops."""
    crop_points_downscale: int = 1
    """Points per side shrink by this factor with every layer of crops."""
    crop_overlap: float = 512 / 1500
    """Overlap of the first layer's crops, as a share of the image's short side; halved with every layer."""
    min_predicted_iou: float = 0.88
    """A mask is kept when the model's own IoU estimate is above this."""
    min_stability_score: float = 0.95
    """A mask is kept when its stability score is at least this."""
    stability_offset: float = 1.0
    """Stability is the IoU of the masks at logits above +offset and above -offset."""
    crop_edge_tolerance: int = 20
    """A mask is dropped when its box comes this close (px) to a crop border that is not an image border."""
    full_image_fraction: float = 0.0
    """A mask is dropped when it covers at least this share of the whole image."""
    nms_iou: float = 0.7
    """Box IoU above which the less confident of two masks of a crop is dropped."""
    crop_nms_iou: float = 0.7
    """Box IoU above which, of two masks of different crops, the one from the larger crop is dropped."""
    min_region_area: int = 0
    """Connected parts and holes smaller than this (px) are removed and filled."""
    small_masks: SmallMaskRule = SmallMaskRule.KEEP_LARGEST
    """What happens to a mask without any part of at least min_region_area."""

    def __post_init__(self) -> None:
        self._require("points_per_side", 1 <= self.points_per_side <= _PIXELS, f"between 1 and {_PIXELS}")
        self._require("crop_layers", 0 <= self.crop_layers <= 6, "between 0 and 6")
        self._require("crop_points_downscale", self.crop_points_downscale >= 1, "at least 1")
        smallest_grid = self.points_in_layer(self.crop_layers)
        self._require("crop_points_downscale", smallest_grid >= 1, "so small that every crop keeps a point")
        for share in ("crop_overlap", "min_predicted_iou", "min_stability_score", "full_image_fraction"):
            self._require(share, 0 <= getattr(self, share) <= 1, "between 0 and 1")
        self._require("stability_offset", 0 < self.stability_offset < float("inf"), "a positive number")
        self._require("crop_edge_tolerance", self.crop_edge_tolerance >= 0, "0 or more")
        for threshold in ("nms_iou", "crop_nms_iou"):
            self._require(threshold, 0 <= getattr(self, threshold) <= 1, "between 0 and 1")
        self._require("min_region_area", self.min_region_area >= 0, "0 or more")
        self._require("small_masks", isinstance(self.small_masks, SmallMaskRule), "a SmallMaskRule")

    def _require(self, field: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"recipe: {field} is {getattr(self, field)!r}; it must be {wanted}")

    def points_in_layer(self, layer: int) -> int:
        """Points per side in a crop of this layer; layer 0 is the whole image."""
        return int(self.points_per_side / self.crop_points_downscale**layer)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def reference() -> Recipe:
    """The defaults of the released SamAutomaticMaskGenerator: 32 x 32 points, one window."""
    return Recipe()


def sa1b() -> Recipe:
    """Stage 3 of the data engine (paper, appendix B): 3072 prompts in 21 windows, small parts cleaned."""
    return Recipe(
        crop_layers=2,
        crop_points_downscale=2,
        full_image_fraction=0.95,
        min_region_area=100,
        small_masks=SmallMaskRule.DROP,
    )


def edges() -> Recipe:
    """Zero-shot edge detection (paper, section 7.2): 16 x 16 points, nothing filtered, NMS at 0.7."""
    return Recipe(points_per_side=16, min_predicted_iou=0.0, min_stability_score=0.0)


def proposals() -> Recipe:
    """Zero-shot object proposals (paper, section 7.3): 64 x 64 points, nothing filtered, NMS at 0.9."""
    return Recipe(points_per_side=64, min_predicted_iou=0.0, min_stability_score=0.0, nms_iou=0.9)


def draft() -> Recipe:
    """For small models, whose estimates of their own masks are modest: `vit_n` passes few masks at 0.88.

    Of the thresholds that were tried these keep the recall of lower ones with half as many masks
    (`tests/benchmarks/LOG.md`).
    """
    return Recipe(min_predicted_iou=0.35, min_stability_score=0.65)


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (reference, sa1b, edges, proposals, draft)}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError that suggests the nearest name when there is none."""
    if name in RECIPES:
        return RECIPES[name]()
    raise ValueError(f"no recipe is called {name!r}; {did_you_mean(name, RECIPES)}")


def stored_recipe(values: Mapping[str, object]) -> Recipe:
    """The recipe that `to_json` wrote; a value that is not there is the default. Raises ValueError for one that no
    recipe has."""
    known = {field.name for field in fields(Recipe)}
    if foreign := sorted(values.keys() - known):
        raise ValueError(f"no recipe has {', '.join(foreign)}")
    rule = SmallMaskRule(str(values.get("small_masks", SmallMaskRule.KEEP_LARGEST)))
    return Recipe(**{**values, "small_masks": rule})  # type: ignore[arg-type]


def recommended_recipe(model: str) -> str:
    """Name of the recipe that suits a model, by the name of its configuration, when one only wants its masks."""
    return "draft" if model == "vit_n" or model.startswith("vit_n_") else "reference"
