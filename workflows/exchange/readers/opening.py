"""Which kind of source it is, and its reader."""

from __future__ import annotations

import json
from pathlib import Path

from workflows.exchange.commands import ImportConfig
from workflows.exchange.readers import IncomingSource
from workflows.exchange.readers.coco import CocoSource
from workflows.exchange.readers.cvat import CvatSource
from workflows.exchange.readers.cvat import is_export as is_cvat
from workflows.exchange.readers.label_studio import LabelStudioSource
from workflows.exchange.readers.label_studio import is_export as is_label_studio
from workflows.exchange.readers.names import PictureFolder, picture_folder
from workflows.exchange.readers.sa1b import Sa1bSource
from workflows.exchange.readers.sa1b import is_document as is_sa1b
from workflows.redact import require_no_secrets
from workflows.storage import S3_SCHEME, lies_in, open_store
from workflows.uris import UriReader

_MOST_BYTES = 16 << 30
_FILES = (".json", ".xml")


def open_source(config: ImportConfig) -> IncomingSource:
    """The reader of a source. Raises ValueError or OSError (one line) when it is missing or of no known kind."""
    name = config.source
    require_no_secrets(name)
    if "://" in name and not name.startswith(S3_SCHEME):
        raise ValueError(f"{name}: masks are read from local paths and s3:// only")
    if not name.lower().endswith(_FILES):
        if config.kind not in ("auto", "sa1b"):
            raise ValueError(f"{name}: {config.kind} is a file, .json or .xml")
        if not name.startswith(S3_SCHEME) and not Path(name).is_dir():
            there = "no folder" if Path(name).exists() else "no such folder"
            raise ValueError(f"{name}: {there}; a source is a folder of SA-1B, a .json or an .xml")
        if open_store(name).exists("instances.json"):
            raise ValueError(f"{name}: a folder with COCO; import {name.rstrip('/')}/instances.json")
        if lies_in(config.dataset, name):
            raise ValueError(f"{config.dataset} lies in {name}, whose documents those of the data set would be, too")
        return Sa1bSource(name, PictureFolder(config.image_folder) if config.image_folder else None)
    if not name.startswith(S3_SCHEME):
        name = str(Path(name).absolute())
    return _file(name, UriReader(max_bytes=_MOST_BYTES).read(name), config)


def _file(name: str, data: bytes, config: ImportConfig) -> IncomingSource:
    if config.kind == "cvat" or (config.kind == "auto" and is_cvat(data)):
        return CvatSource(name, data, _pictures(name, config), max_pixels=config.max_pixels)
    tasks = _label_studio_tasks(name, data, config)
    if tasks is not None:
        return LabelStudioSource(name, data, tasks, _pictures(name, config), max_pixels=config.max_pixels)
    if config.kind == "sa1b" or (config.kind == "auto" and is_sa1b(data)):
        raise ValueError(f"{name}: SA-1B is imported as the folder that holds its documents")
    return CocoSource(name, data, image_folder=config.image_folder, crowds=config.crowds)


def _label_studio_tasks(name: str, data: bytes, config: ImportConfig) -> object:
    """The tasks of a Label Studio export; None when it is something else."""
    if config.kind not in ("auto", "label-studio") or (config.kind == "auto" and data.lstrip()[:1] != b"["):
        return None
    try:
        tasks = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if config.kind == "auto" and not is_label_studio(tasks):
        raise ValueError(f"{name}: a list that is no Label Studio export; --kind says what it is")
    return tasks


def _pictures(name: str, config: ImportConfig) -> PictureFolder:
    return PictureFolder(picture_folder(name, config.image_folder))
