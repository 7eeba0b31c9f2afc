"""Which model a run uses, and how a worker gets its generator."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam_core.device_settings import DeviceSettings
from sam_core.generator import MaskGenerator
from sam_core.masks.batch import Generation
from sam_core.model.checkpoint import (
    PACKAGED_WEIGHTS,
    CheckpointError,
    LoadedModel,
    configuration_name,
    file_sha256,
    find_checkpoint,
    load_model,
    read_checkpoint,
)
from sam_core.presets import MODEL_NAMES, ImageEncoderConfig
from sam_core.recipes import Recipe
from schemas.ids import model_id
from schemas.layout import model_card_key, model_weights_key
from schemas.records import ModelRecord, from_json, to_json
from workflows.commands import ModelsConfig
from workflows.scratch import scratch_folder
from workflows.storage import S3_SCHEME, Store, open_store

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Generator(Protocol):
    """Makes the masks of images, uint8 RGB [H, W, 3]."""

    @property
    def images_at_once(self) -> int:
        """Images worth having ready: as many may be worked on together."""

    def attempt_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Generation | Exception]:
        """For each image in order its masks, or why there are none; images may be taken ahead of answers."""


class GeneratorSource(Protocol):
    """What a worker is handed instead of a generator: small, can be pickled, and loads the real thing where it is."""

    def load(self, *, threads: int | None = None) -> Generator:
        """The generator, to use that many cores of a CPU."""


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint that was read and found whole: configuration name, SHA-256 of the file, and where it lies, which is
    `s3://bucket/key` in an object store."""

    name: str
    sha256: str
    path: str

    @property
    def model_id(self) -> str:
        return model_id(self.name, self.sha256)

    def here(self) -> Path:
        """The file on this machine, fetched out of an object store once; where another machine keeps it elsewhere, as
        this package in another folder, the one that goes by the model's name. Raises CheckpointError, StoreError."""
        if self.path.startswith(S3_SCHEME):
            return _fetched(self.path, self.sha256)
        return Path(self.path) if Path(self.path).is_file() else self._by_name()

    def _by_name(self) -> Path:
        found: Path | None = None
        with suppress(CheckpointError):
            found = find_checkpoint(self.name)
        if found is None or file_sha256(found) != self.sha256:
            raise CheckpointError(f"there is no checkpoint {self.path} on {socket.gethostname()}")
        return found

    def load(self, *, device: str = "cpu") -> LoadedModel:
        """The model itself, if its file is still the one that was found. Raises CheckpointError, StoreError."""
        loaded = load_model(self.here(), device=device)
        if loaded.sha256 != self.sha256:
            raise CheckpointError(f"{self.path} on this machine is not the checkpoint that the command began with")
        return loaded


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """The generator of a run: `model` is the checkpoint, `device` a torch device.

    With settings, which are resolved, images go through the device in batches; without, one by one in float32. See
    DeviceGenerator and MaskGenerator.
    """

    model: Model
    recipe: Recipe
    device: str
    exact_reference: bool = False
    settings: DeviceSettings | None = None

    @property
    def dtype(self) -> str:
        """Of the model's products."""
        return self.settings.dtype if self.settings else "float32"

    @property
    def kernels(self) -> str:
        """What the run record calls the implementation."""
        if self.settings:
            return self.settings.kernels
        return "exact-reference" if self.exact_reference else "fast"

    def load(self, *, threads: int | None = None) -> Generator:
        """Load the checkpoint on this machine. Raises CheckpointError when it is missing or another one."""
        sam = self.model.load(device=self.device).sam
        if self.settings:
            from sam_core.device_generator import DeviceGenerator  # torch's compilers take half a second to import

            return DeviceGenerator(sam, self.recipe, self.settings, threads=threads)
        return MaskGenerator(sam, self.recipe, exact_reference=self.exact_reference, threads=threads)


def settings_for(model: Model, device: str, wanted: DeviceSettings, *, exact_reference: bool) -> DeviceSettings | None:
    """How a run uses a device: on CUDA the wanted settings, resolved; None where images go one by one in float32.

    That is so on a CPU, for the plain path, and for encoders that cannot be batched, such as TinyViT.
    """
    if device != "cuda" or exact_reference:
        return None
    encoder = read_checkpoint(model.here()).config.image_encoder
    return wanted.resolve(device) if isinstance(encoder, ImageEncoderConfig) else None


def find_model(name_or_path: str) -> Model:
    """Find a model, by name, path or `s3://bucket/key`, and read it once, so that a broken checkpoint shows before any
    work. Raises CheckpointError, StoreError."""
    path = checkpoint_here(name_or_path)
    loaded = load_model(path)
    stored = name_or_path.startswith(S3_SCHEME)
    return Model(loaded.name, loaded.sha256, name_or_path if stored else str(path.absolute()))


def checkpoint_here(name_or_path: str) -> Path:
    """The file of a model on this machine, by name, path or `s3://bucket/key`. Raises CheckpointError, StoreError."""
    return _fetched(name_or_path) if name_or_path.startswith(S3_SCHEME) else find_checkpoint(name_or_path)


def name_of(name_or_path: str) -> str:
    """`configuration_name` of a model that may lie in an object store, from where a released file, which does not say,
    is not fetched to be asked."""
    if not name_or_path.startswith(S3_SCHEME):
        return configuration_name(name_or_path)
    if not name_or_path.endswith(".safetensors"):
        return name_or_path
    return configuration_name(_fetched(name_or_path))


def stored_model(store: Store, model_id: str) -> Model:
    """A model that training registered in a data set. Raises FileNotFoundError when its weights are not there."""
    card = from_json(ModelRecord, store.get(model_card_key(model_id)), where=f"{store.root}/{model_card_key(model_id)}")
    path = f"{store.root}/{model_weights_key(model_id)}"
    if not store.exists(model_weights_key(model_id)):
        raise FileNotFoundError(f"{path} is gone")
    return Model(card.name, card.sha256, path)


def _fetched(address: str, sha256: str | None = None) -> Path:
    """A checkpoint `s3://bucket/key` on this machine, under its own name in a folder that says what is in it; not asked
    for again where its SHA-256 is known. Raises CheckpointError when there is none, or another one, and OSError."""
    folder = _own_folder()
    root, _, name = address.rpartition("/")
    if sha256 and (kept := folder / sha256 / name).exists():
        return kept
    if root.count("/") < 2 or not name:
        raise CheckpointError(f"{address} names no checkpoint; give s3://bucket/key")
    try:
        data = open_store(root).get(name)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {address}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != (sha256 or found):
        raise CheckpointError(f"{address} is not the checkpoint any more that the command began with")
    path = folder / found / name
    with scratch_folder() as beside:
        partial = beside / name
        partial.write_bytes(data)
        path.parent.mkdir(exist_ok=True)
        partial.replace(path)
    return path


def _own_folder() -> Path:
    """A temporary folder that lasts, of this user alone. Raises PermissionError where another one made it, whose name
    anybody can guess: they could put other weights in the place of those that were fetched."""
    folder = Path(tempfile.gettempdir()) / f"sam-engine-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & _WRITABLE_BY_OTHERS:
        why = "is not this user's alone: remove it, or name another temporary folder by TMPDIR"
        raise PermissionError(errno.EACCES, why, str(folder))
    return folder


def register_model(store: Store, model: Model, created_at: datetime) -> None:
    """Note in the data set which model was used; the first note stays."""
    record = ModelRecord(
        model_id=model.model_id,
        name=model.name,
        sha256=model.sha256,
        created_at=created_at,
        parent=None,
        round=None,
        training={},
        metrics={},
    )
    store.put_if_absent(model_card_key(model.model_id), to_json(record).encode())


def keep_packaged(store: Store, model: Model, created_at: datetime) -> None:
    """Copy a model that came with this package into the data set, as another version may bring other weights. Any
    other model is left where its owner keeps it, as it may be of gigabytes."""
    if Path(model.path).parent != PACKAGED_WEIGHTS:
        return
    if not store.exists(model_weights_key(model.model_id)):
        store.put(model_weights_key(model.model_id), Path(model.path).read_bytes())
    register_model(store, model, created_at)


def models_command(config: ModelsConfig) -> int:
    """The subcommand: list the models, or fetch one."""
    if config.action == "fetch":
        from workflows.fetch import fetch

        print(fetch(config.name, config.folder))
        return 0
    return print_models()


def print_models() -> int:
    """For every known name the checkpoint file, or one line on how to get it."""
    for name in MODEL_NAMES:
        try:
            print(f"{name:8}  {find_checkpoint(name)}")
        except CheckpointError as error:
            print(f"{name:8}  {error}")
    return 0
