"""What a procedural scene may contain: the knobs of the renderer, validated once."""

from dataclasses import dataclass, field

SCENE_KINDS = ("outdoor", "indoor", "portrait", "pile", "cluster", "mosaic", "microscopy", "abstract")
"""Names of the scene kinds, in the order of their codes."""

_DEFAULT_WEIGHTS = (0.22, 0.13, 0.20, 0.07, 0.10, 0.05, 0.15, 0.08)


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """Size and statistics of procedural scenes.

    Attributes:
        size: side of the square image, px.
        kind_weights: relative frequency of each of `SCENE_KINDS`.
        camouflage: probability that an object wears the material of what lies behind it.
        grey: probability of a greyscale picture (microscopy: at least a half).
        cutouts: probability that an object is one cut out of a picture, where `render_scene` is given any.
        bank_seed: seed of the texture bank. Scenes of one seed share about 60 texture fields; vary it between workers.

    Raises:
        ValueError: a value is out of range.
    """

    size: int = 256
    kind_weights: tuple[float, ...] = field(default=_DEFAULT_WEIGHTS)
    camouflage: float = 0.08
    grey: float = 0.12
    cutouts: float = 0.8
    bank_seed: int = 0

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 2048:
            raise ValueError(f"SceneConfig.size is {self.size} px; choose 64 to 2048")
        if len(self.kind_weights) != len(SCENE_KINDS) or min(self.kind_weights) < 0 or sum(self.kind_weights) <= 0:
            raise ValueError(
                f"SceneConfig.kind_weights needs {len(SCENE_KINDS)} weights >= 0, not all zero, one for each of "
                f"{', '.join(SCENE_KINDS)}; got {self.kind_weights}"
            )
        for name in ("camouflage", "grey", "cutouts"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"SceneConfig.{name} is {getattr(self, name)}; a probability lies in 0..1")

    @property
    def smallest_label(self) -> int:
        """Least visible area of a labelled object or part, px."""
        return max(1, self.size // 128) ** 2
