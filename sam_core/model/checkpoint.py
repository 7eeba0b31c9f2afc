"""Models on disk: our own safetensors files, and the released `.pth` files by their official names.

Nothing is ever unpickled beyond tensors, and no file that is wrong ends in a
traceback: every refusal is a CheckpointError of one line.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam_core.model.sam import Sam
from sam_core.model.skeleton import skeleton
from sam_core.presets import ImageEncoderConfig, SamConfig, preset

CHECKPOINTS_VARIABLE = "SAM_ENGINE_CHECKPOINTS"
RELEASED_FILES = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
    "vit_t": "mobile_sam.pt",
}
_TINY_MARK = "image_encoder.layers.0.blocks.0.conv1.c.weight"
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""What MobileSAM's file keeps of ImageNet training and nothing uses."""
PACKAGED_WEIGHTS = Path(__file__).parent.parent / "weights"
HEADER_KEY = "sam_data_engine"
_REAL_NUMBERS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


class CheckpointError(ValueError):
    """A checkpoint that cannot be found, read or fitted to its model."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use.

    name: of its configuration. sha256: of the checkpoint file, in hexadecimal. metadata: as given to `save_model`.
    """

    sam: Sam
    name: str
    sha256: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds."""

    config: SamConfig
    state: dict[str, Tensor]
    metadata: Mapping[str, str]


def load_model(name_or_path: str | Path, *, device: torch.device | str = "cpu") -> LoadedModel:
    """The model in a file, or the one known by a name, in float32 and evaluation mode.

    Names are looked up in the folder that the environment variable SAM_ENGINE_CHECKPOINTS names (`RELEASED_FILES` by
    their official names, else `NAME.safetensors`), then among the weights inside this package. Raises CheckpointError.
    """
    path = find_checkpoint(name_or_path)
    checkpoint = read_checkpoint(path)
    sam = skeleton(checkpoint.config)
    _require_fit(sam, checkpoint.state, path)
    sam.load_state_dict({name: _in_float32(tensor) for name, tensor in checkpoint.state.items()}, assign=True)
    return LoadedModel(sam.to(device).eval(), checkpoint.config.name, file_sha256(path), checkpoint.metadata)


def save_model(
    sam: Sam, path: str | Path, metadata: Mapping[str, str] | None = None, *, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a safetensors file with the configuration and `metadata` in its header.

    dtype: of the stored parameters (buffers stay as they are); float16 halves the file, and `load_model` goes back to
    float32.
    The file appears whole or not at all, and the same arguments give the same bytes.
    """
    path = Path(path)
    state = {name: tensor.cpu().contiguous() for name, tensor in sam.state_dict().items()}
    state |= {name: state[name].to(dtype) for name, _ in sam.named_parameters()}
    partial = path.with_name(f"{path.name}.partial")
    # One entry, because safetensors writes several in any order.
    header = {"config": sam.config.to_json(), "metadata": dict(metadata or {})}
    save_file(state, partial, metadata={HEADER_KEY: json.dumps(header, sort_keys=True)})
    partial.replace(path)


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Where the checkpoint lies. Raises CheckpointError saying where it was looked for."""
    if str(name_or_path).startswith("s3://"):
        raise CheckpointError(f"{name_or_path}: models are read from disks here; commands fetch them")
    path = Path(name_or_path)
    if path.suffix in (".safetensors", ".pth", ".pt") or path.is_file():
        if path.is_file():
            return path
        raise CheckpointError(f"there is no checkpoint {path}")
    name = str(name_or_path)
    for candidate in _candidates(name):
        if candidate.is_file():
            return candidate
    raise CheckpointError(_where_to_get(name))


def read_checkpoint(path: Path) -> Checkpoint:
    """The contents of a file: safetensors written by `save_model`, or a released `.pth`. Raises CheckpointError."""
    return _read_safetensors(path) if _is_safetensors(path) else _read_released(path)


def configuration_name(name_or_path: str | Path) -> str:
    """Name of a model's configuration, from the header of its file alone.

    What was given where there is no such file, or a released one, which says nothing but its name. Raises
    CheckpointError for a file that should say and does not.
    """
    try:
        path = find_checkpoint(name_or_path)
    except CheckpointError:  # which is said when the model is loaded
        return str(name_or_path)
    if not _is_safetensors(path):
        return str(name_or_path)
    return _read_safetensors(path, weights=False).config.name


def _is_safetensors(path: Path) -> bool:
    """By its name or, as files are renamed, by its header, which is JSON behind its length in eight bytes."""
    try:
        with path.open("rb") as file:
            return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"
    except OSError as error:
        raise _unreadable(path, error) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _candidates(name: str) -> list[Path]:
    file_name = RELEASED_FILES.get(name, f"{name}.safetensors")
    folder = os.environ.get(CHECKPOINTS_VARIABLE)
    folders = [Path(folder), PACKAGED_WEIGHTS] if folder else [PACKAGED_WEIGHTS]
    return [place / file_name for place in folders]


def _where_to_get(name: str) -> str:
    try:
        preset(name)
    except ValueError as error:
        return f"{error}; or give the path of a checkpoint, as `sam-engine train` prints it"
    file_name = RELEASED_FILES.get(name, f"{name}.safetensors")
    folder = os.environ.get(CHECKPOINTS_VARIABLE, "unset")
    place = f"put {file_name} into the folder ${CHECKPOINTS_VARIABLE} (now {folder})"
    ways = f"`sam-engine models fetch {name}` gets them, or {place}" if name in RELEASED_FILES else place
    return f"{name} has no weights here: {ways}"


def _read_safetensors(path: Path, *, weights: bool = True) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in (file.keys() if weights else ())}
    except Exception as error:  # whatever the parser trips over
        raise _unreadable(path, error) from error
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path} does not say which model it holds; write it with save_model")
    try:
        header = json.loads(metadata[HEADER_KEY])
        return Checkpoint(SamConfig.from_json(header["config"]), state, dict(header["metadata"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} has an unknown header: {error}") from error


def _read_released(path: Path) -> Checkpoint:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # whatever the parser trips over
        raise _unreadable(path, error) from error
    if isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        if _TINY_MARK in state:
            return Checkpoint(preset("vit_t"), {k: v for k, v in state.items() if not k.startswith(_CLASSIFIER)}, {})
        width = state.get("image_encoder.pos_embed", torch.empty(0)).shape[-1:]
        for config in map(preset, RELEASED_FILES):
            if isinstance(config.image_encoder, ImageEncoderConfig) and width == (config.image_encoder.embed_dim,):
                return Checkpoint(config, state, {})
    raise CheckpointError(f"{path} is not a released checkpoint of {', '.join(RELEASED_FILES)}")


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, OSError) and error.strerror:
        return CheckpointError(f"{path} cannot be read: {error.strerror}")
    return CheckpointError(f"{path} is damaged, or holds more than tensors; fetch or copy it again")


def _in_float32(tensor: Tensor) -> Tensor:
    """Weights become float32; what counts the batches of a normalisation stays a whole number."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _all_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity in it. No sum with one of them is finite, and a sum takes a tenth of
    the time of looking at each; of large numbers it may be infinite all the same."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _require_fit(sam: Sam, state: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless names and shapes are the model's, and its weights real numbers, stored as such."""
    wanted = {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if wrong:
        first = f"{wrong[0]} has shape {found.get(wrong[0], 'none')} where {wanted.get(wrong[0], 'none')} is needed"
        raise CheckpointError(f"{path} does not fit {sam.config.name}: {first}; {len(wrong)} parameters differ")
    parameters = dict(sam.named_parameters())
    if integral := [name for name in sorted(parameters) if state[name].dtype not in _REAL_NUMBERS]:
        raise CheckpointError(f"{path} holds {integral[0]} as {state[integral[0]].dtype}, which are no weights")
    if lost := [name for name in sorted(state) if not _all_finite(state[name])]:
        raise CheckpointError(
            f"{path} holds NaN or infinity in {lost[0]}, {len(lost)} of {len(state)} tensors: it is damaged, or "
            "its training went astray"
        )
