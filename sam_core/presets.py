"""Whole, typed model configurations: the released sizes, the model in the box, and one for tests.

A configuration says everything that shapes a model's parameters; it is stored with the weights as JSON.
Sizes of ViT-B, L and H: Kirillov et al. 2023, section A, and `build_sam.py` of the released code.
"""

import difflib
import json
import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (123.675, 116.28, 103.53)
IMAGENET_STD: RGB = (58.395, 57.12, 57.375)
STAGE_THREE = "_stage3"
"""What the names of models with the three-layer decoder end in."""
_LARGEST_SIZE, _DEEPEST, _WIDEST = 1 << 14, 256, 64
"""No model is larger; a checkpoint that says so would keep the machine busy before it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoderConfig:
    """A plain ViT with windowed and global attention.

    image_size: side of the square model input, px. window_size: side of an attention window, in patches.
    global_attn_indexes: blocks (from 0) that attend over the whole grid. out_chans: channels of the embedding.
    stem: "patch" is the released linear patch embedding; "conv" also yields fine features for the mask decoder.
    drop_path: rate of the last block in training, growing linearly from 0 at the first.
    """

    image_size: int
    patch_size: int = 16
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    window_size: int
    global_attn_indexes: tuple[int, ...]
    out_chans: int
    stem: Literal["patch", "conv"] = "patch"
    absolute_positions: bool = True
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.image_size, self.patch_size, self.embed_dim, self.num_heads, self.window_size, self.out_chans)
        _require(_all_within(sizes, 1, _LARGEST_SIZE), f"a size is not in 1..{_LARGEST_SIZE}", self)
        _require(_all_within((self.depth,), 1, _DEEPEST), f"depth is not in 1..{_DEEPEST}", self)
        _require(0.0 < self.mlp_ratio <= _WIDEST, f"mlp_ratio is not in (0, {_WIDEST}]", self)
        patches = f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
        _require(self.image_size % self.patch_size == 0, patches, self)
        _require(self.embed_dim % self.num_heads == 0, "embed_dim is not a multiple of num_heads", self)
        _require(all(0 <= i < self.depth for i in self.global_attn_indexes), "no such global_attn_indexes", self)
        _require(self.stem in ("patch", "conv"), 'stem is neither "patch" nor "conv"', self)
        _require(self.stem == "patch" or self.patch_size == 16, 'stem "conv" has patches of 16 px', self)
        _require(0.0 <= self.drop_path < 1.0, "drop_path is not in [0, 1)", self)

    @property
    def grid(self) -> int:
        """Patches along one side of the model input."""
        return self.image_size // self.patch_size

    def attention_side(self, block: int) -> int:
        """Patches along one side of the square that `block` attends over."""
        return self.grid if block in self.global_attn_indexes else self.window_size


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyEncoderConfig:
    """TinyViT as MobileSAM has it: one convolutional stage, then three with windowed attention (window_sizes, patches).

    Per stage: embed_dims, depths, num_heads and window_sizes; the first stage has neither heads nor windows.
    """

    image_size: int
    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window_sizes: tuple[int, int, int, int]
    out_chans: int
    mlp_ratio: float = 4.0
    stem: Literal["tiny"] = "tiny"

    def __post_init__(self) -> None:
        stages = (self.embed_dims, self.depths, self.num_heads, self.window_sizes)
        _require(all(len(each) == 4 for each in stages), "there are not four stages", self)
        sizes = (self.image_size, self.out_chans, *self.embed_dims, *self.num_heads, *self.window_sizes)
        _require(_all_within(sizes, 1, _LARGEST_SIZE), f"a size is not in 1..{_LARGEST_SIZE}", self)
        _require(_all_within(self.depths, 1, _DEEPEST), f"a depth is not in 1..{_DEEPEST}", self)
        _require(0.0 < self.mlp_ratio <= _WIDEST, f"mlp_ratio is not in (0, {_WIDEST}]", self)
        _require(self.image_size % 16 == 0, "image_size is not a multiple of 16", self)
        heads = zip(self.embed_dims, self.num_heads, strict=True)
        _require(all(dim % count == 0 for dim, count in heads), "an embed_dim is not a multiple of its heads", self)

    @property
    def grid(self) -> int:
        """Positions along one side of the embedding."""
        return self.image_size // 16


EncoderConfig = ImageEncoderConfig | TinyEncoderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDecoderConfig:
    """The two-way decoder. depth: two-way layers; 2 as released, 3 in the paper's fully automatic stage."""

    transformer_dim: int = 256
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    num_multimask_outputs: int = 3
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256

    def __post_init__(self) -> None:
        sizes = (self.transformer_dim, self.num_heads, self.mlp_dim, self.iou_head_hidden_dim)
        counts = (self.depth, self.num_multimask_outputs, self.iou_head_depth)
        _require(_all_within(sizes, 1, _LARGEST_SIZE), f"a size is not in 1..{_LARGEST_SIZE}", self)
        _require(_all_within(counts, 1, _DEEPEST), f"a count is not in 1..{_DEEPEST}", self)
        _require(self.transformer_dim % (2 * self.num_heads) == 0, "transformer_dim / 2 needs whole heads", self)
        _require(self.transformer_dim % 8 == 0, "transformer_dim is not a multiple of 8", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig:
    """Everything that shapes a model.

    pixel_mean, pixel_std: RGB in 0..255. text_width: size of the CLIP embeddings that it takes as prompts, 0 for none.
    """

    name: str
    image_encoder: EncoderConfig
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    pixel_mean: RGB = IMAGENET_MEAN
    pixel_std: RGB = IMAGENET_STD
    text_width: int = 0

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), "name is no text", self)
        same = self.image_encoder.out_chans == self.mask_decoder.transformer_dim
        _require(same, "out_chans of the encoder differs from transformer_dim of the decoder", self)
        _require(len(self.pixel_mean) == len(self.pixel_std) == 3, "pixel_mean and pixel_std need 3 values", self)
        pixels = (*self.pixel_mean, *self.pixel_std)
        finite = all(isinstance(value, int | float) and math.isfinite(value) for value in pixels)
        _require(finite, "pixel_mean or pixel_std is no number", self)
        _require(min(self.pixel_std) > 0, "pixel_std is not positive", self)
        _require(_all_within((self.text_width,), 0, _LARGEST_SIZE), f"text_width is not in 0..{_LARGEST_SIZE}", self)

    @property
    def image_size(self) -> int:
        """Side of the square model input, px."""
        return self.image_encoder.image_size

    @property
    def low_res_size(self) -> int:
        """Side of the low-resolution logits, px: four per patch."""
        return 4 * self.image_encoder.grid

    def to_json(self) -> str:
        """One line of JSON, the same for equal configurations; models without text prompts do not mention them."""
        fields = asdict(self)
        if not self.text_width:
            del fields["text_width"]
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "SamConfig":
        """The configuration that `to_json` wrote. Raises ValueError when the text is anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            encoder = _with_tuples(fields.pop("image_encoder"))
            kind = TinyEncoderConfig if encoder.get("stem") == "tiny" else ImageEncoderConfig
            decoder = fields.pop("mask_decoder")
            return SamConfig(
                image_encoder=kind(**encoder),
                mask_decoder=MaskDecoderConfig(**decoder),
                **_with_tuples(fields),
            )
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a model configuration: {error}") from error


def vit_b() -> SamConfig:
    """ViT-B as released."""
    return _released("vit_b", embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11))


def vit_l() -> SamConfig:
    """ViT-L as released."""
    return _released("vit_l", embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23))


def vit_h() -> SamConfig:
    """ViT-H as released."""
    return _released("vit_h", embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31))


def vit_t() -> SamConfig:
    """TinyViT of 5 million parameters with the released decoder: MobileSAM, for CPUs."""
    return SamConfig(
        name="vit_t",
        image_encoder=TinyEncoderConfig(
            image_size=1024,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            out_chans=256,
        ),
    )


def vit_n() -> SamConfig:
    """The model in the box: 384 px, about 6 million parameters, fine features from a convolutional stem."""
    return SamConfig(
        name="vit_n",
        image_encoder=ImageEncoderConfig(
            image_size=384,
            embed_dim=256,
            depth=6,
            num_heads=8,
            window_size=8,
            global_attn_indexes=(2, 5),
            out_chans=128,
            stem="conv",
        ),
        mask_decoder=MaskDecoderConfig(transformer_dim=128, num_heads=4, mlp_dim=512, iou_head_hidden_dim=128),
    )


def vit_test() -> SamConfig:
    """Milliseconds on a CPU: 64 px, two blocks, a 4x4 grid that its windows of 3 do not divide."""
    return SamConfig(
        name="vit_test",
        image_encoder=ImageEncoderConfig(
            image_size=64,
            embed_dim=32,
            depth=2,
            num_heads=2,
            window_size=3,
            global_attn_indexes=(1,),
            out_chans=32,
        ),
        mask_decoder=MaskDecoderConfig(transformer_dim=32, num_heads=2, mlp_dim=64, iou_head_hidden_dim=32),
    )


PRESETS: dict[str, Callable[[], SamConfig]] = {f.__name__: f for f in (vit_b, vit_l, vit_h, vit_t, vit_n, vit_test)}
MODEL_NAMES = tuple(name for name in PRESETS if name != vit_test.__name__)
"""Those that people are told of: vit_test is for tests, and has no weights."""


def preset(name: str) -> SamConfig:
    """The configuration called `name`. Raises ValueError, with the nearest name, when there is none."""
    if name in PRESETS:
        return PRESETS[name]()
    raise ValueError(f"no model is called {name!r}; {did_you_mean(name, MODEL_NAMES)}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of an error line about an unknown `name`: the nearest known one, or all of them."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"


def stage_three(config: SamConfig) -> SamConfig:
    """The three-layer decoder of the fully automatic stage (paper, section B), on the same encoder."""
    decoder = replace(config.mask_decoder, depth=3)
    return replace(config, name=f"{config.name}{STAGE_THREE}", mask_decoder=decoder)


def at_image_size(config: SamConfig, image_size: int) -> SamConfig:
    """The same model for square inputs of `image_size` px; its position tables change shape."""
    return replace(config, image_encoder=replace(config.image_encoder, image_size=image_size))


def with_text(config: SamConfig, text_width: int) -> SamConfig:
    """The same model with prompts that are CLIP embeddings of this width, 0 for none."""
    return replace(config, text_width=text_width)


def _released(
    name: str, *, embed_dim: int, depth: int, num_heads: int, global_attn_indexes: tuple[int, ...]
) -> SamConfig:
    encoder = ImageEncoderConfig(
        image_size=1024,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        window_size=14,
        global_attn_indexes=global_attn_indexes,
        out_chans=256,
    )
    return SamConfig(name=name, image_encoder=encoder)


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where configurations have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _require(holds: bool, complaint: str, config: object) -> None:
    if not holds:
        raise ValueError(f"{complaint} in {type(config).__name__}")


def _all_within(values: Collection[object], least: int, most: int) -> bool:
    """Whether all values are whole numbers from `least` to `most`; a configuration may come from a hostile file."""
    return all(type(value) is int and least <= value <= most for value in values)
