"""The job behind `sam-engine crops`: every mask of a data set that one CLIP has not seen yet, once.

A row of work is a chunk of masks on whole images; each becomes one file by one atomic put, named by the masks in
it. What is done is what the files list, so a killed job goes on, and masks that come later are all that is done then.
What is drawn at random for a mask follows from its identifier.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sam_core.clip import Clip
from sam_core.clip_crops import CropDraw, crop, crop_batch, draw_crops
from sam_core.masks import rle
from schemas.ids import content_hash
from schemas.layout import crops_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import CROPS
from workflows.crops.commands import CropsConfig
from workflows.devices import choose_device
from workflows.failures import one_line, tell_left_out
from workflows.image_limits import byte_limit
from workflows.images import ImageError
from workflows.originals import StoredImage, read_pixels
from workflows.progress import Progress
from workflows.runs import require_here
from workflows.sizes import tell_unread
from workflows.sql import BESIDE_OTHERS, connect
from workflows.storage import open_store
from workflows.text.clips import ClipSource, find_clip
from workflows.uris import UriReader

MASKS_PER_CHUNK = 256
MASKS_AT_ONCE = 65_536
"""Masks that the driver holds at a time."""
_WANTED = """
FROM (
    SELECT mask_id, 0 AS revision, image_id, height, width, rle, area FROM masks
    UNION ALL
    SELECT mask_id, revision, image_id, height, width, rle, area FROM annotations
) AS drawn
JOIN (SELECT image_id, uris FROM images WHERE height IS NOT NULL) AS readable USING (image_id)
WHERE area >= $least
"""
# The first crop of a mask stands for all of them, which lie in one file: each would be held while the rest is sought.
_MISSING = f"""
FROM (SELECT * {_WANTED})
ANTI JOIN (SELECT mask_id, revision FROM crops WHERE clip_sha256 = $clip AND draw = 0) USING (mask_id, revision)
"""
_IMAGES_MISSING = f"SELECT count(DISTINCT image_id) {_MISSING}"
_MASKS_MISSING = f"""
SELECT image_id, uris, mask_id, revision, height, width, rle, area {_MISSING} ORDER BY image_id, mask_id
"""


@dataclass(frozen=True, slots=True)
class CropsJob:
    """What every worker is told."""

    dataset: str
    clip: ClipSource
    draws: int
    device: str
    threads: int
    max_pixels: int


def crops(config: CropsConfig) -> int:
    """The subcommand: exit status 0, or 1 when some images cannot be read, or have not been.

    Raises ValueError or OSError, one line each, when there is nothing to embed, or other crops than these are there.
    """
    clip = find_clip(config.clip)
    connection = connect(config.dataset, memory=BESIDE_OTHERS)
    unread = tell_unread(connection)
    asked = {"least": config.min_area, "clip": clip.sha256}
    ((total,),) = connection.execute(f"SELECT count(*) {_WANTED}", {"least": config.min_area}).fetchall()
    if not total:
        least = f"{config.min_area:,} px or more; --min-area says how small they may be"
        raise ValueError(f"{config.dataset}: no readable image has a mask of {least}")
    _require_same_draws(connection, config, clip)
    ((images,),) = connection.execute(_IMAGES_MISSING, asked).fetchall()
    failures: list[str] = []
    if images:
        missing = connection.sql(_MASKS_MISSING, params=asked).to_arrow_reader(MASKS_AT_ONCE)
        failures = _work(config, clip, images, missing)
    tell_left_out(failures)
    ((done,),) = (
        connect(config.dataset)
        .execute("SELECT count(DISTINCT mask_id) FROM crops WHERE clip_sha256 = $clip", {"clip": clip.sha256})
        .fetchall()
    )
    print(f"{config.dataset}: crops of {done:,} masks embedded by {clip.name} ({clip.sha256[:12]})")
    return 1 if failures or unread else 0


def _require_same_draws(connection: duckdb.DuckDBPyConnection, config: CropsConfig, clip: ClipSource) -> None:
    """Raises ValueError where crops of this CLIP are there, of another number for each mask."""
    asked = "SELECT max(draw) + 1 FROM crops WHERE clip_sha256 = $clip"
    ((known,),) = connection.execute(asked, {"clip": clip.sha256}).fetchall()
    if known not in (None, config.draws):
        folder = f"{config.dataset}/crops/clip={clip.sha256[:12]}"
        raise ValueError(f"{folder} has {known} crops of each mask: say --draws {known}, or delete it to begin anew")


class CropsWorker:
    """Embeds chunks of masks; CLIP is loaded once."""

    def __init__(self, job: CropsJob) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._store = open_store(job.dataset)
        self._clip = job.clip.load(device=job.device)
        self._reader = UriReader(max_bytes=byte_limit(job.max_pixels))

    def __call__(self, row: dict[str, Any]) -> dict[str, object]:
        """A row of work: masks in; how many were embedded and what went wrong out, or a `failure`."""
        failures: list[str] = []
        try:
            require_here(self._store)
            rows = [made for image in row["images"] for made in self._image(image, failures)]
            if rows:
                table = pa.Table.from_pylist(rows, schema=CROPS)
                self._store.put(crops_key(self._clip.sha256, part_name(table)), to_parquet_bytes(table))
        except (OSError, ValueError) as error:
            return {"failure": one_line(error)}
        return {"masks": len(rows) // self._job.draws, "images": len(row["images"]), "failures": failures}

    def _image(self, image: dict[str, Any], failures: list[str]) -> list[dict[str, Any]]:
        """Rows of CROPS of one image; none, and one line more in `failures`, where it has no pixels."""
        stored = StoredImage(image["image_id"], tuple(image["uris"]))
        try:
            pixels = read_pixels(self._reader, stored, max_pixels=self._job.max_pixels)
        except ImageError as error:
            failures.append(str(error))
            return []
        found = []
        for mask in image["masks"]:
            draws = draws_of(mask["mask_id"], mask["revision"], self._job.draws)
            region = rle.decode(mask["rle"], (mask["height"], mask["width"]))
            if region.shape != pixels.shape[:2]:
                raise ValueError(f"{stored.uri}: mask {mask['mask_id']} is of another size than the image")
            found += _rows(mask, stored.image_id, self._clip, draws, embed_crops(self._clip, pixels, region, draws))
        return found


def draws_of(mask_id: str, revision: int, count: int) -> tuple[CropDraw, ...]:
    """What is drawn at random for the crops of a mask."""
    seed = int(content_hash(f"{mask_id}.{revision}".encode())[:16], 16)
    return draw_crops(np.random.default_rng(seed), count)


def embed_crops(
    clip: Clip, image: NDArray[np.uint8], mask: NDArray[np.bool_], draws: Iterable[CropDraw]
) -> NDArray[np.float16]:
    """Embeddings [D, width] of one mask's crops; image uint8 RGB [H, W, 3], mask bool [H, W]."""
    batch = crop_batch([crop(image, mask, draw, clip.image_size) for draw in draws])
    return clip.embed_images(batch.pixels, batch.inside).cpu().numpy().astype("<f2")


def part_name(table: pa.Table) -> str:
    """Name of the file with these rows of CROPS: follows from which masks they are of."""
    ids = sorted({f"{mask}.{revision}" for mask, revision in zip(table["mask_id"], table["revision"], strict=True)})
    return content_hash("\n".join(ids).encode())[:32]


def _rows(
    mask: dict[str, Any],
    image_id: str,
    clip: Clip,
    draws: tuple[CropDraw, ...],
    vectors: NDArray[np.float16],
) -> list[dict[str, Any]]:
    shared = {
        "mask_id": mask["mask_id"],
        "revision": mask["revision"],
        "image_id": image_id,
        "clip_sha256": clip.sha256,
        "area": mask["area"],
    }
    return [
        shared | {"draw": number, "grow": draw.grow, "background": draw.background, "vector": vectors[number].tobytes()}
        for number, draw in enumerate(draws)
    ]


def _work(config: CropsConfig, clip: ClipSource, images: int, missing: pa.RecordBatchReader) -> list[str]:
    """Embed masks of so many images on the cluster; one line for every image that cannot be read."""
    from workflows.ray_session import choose_pool, map_actors, start_ray

    start_ray()
    device = choose_device(config.device)
    pool = choose_pool(workers=config.workers, threads=config.threads, on_gpu=device == "cuda")
    root = open_store(config.dataset).root
    job = CropsJob(root, clip, config.draws, device, pool.threads, config.max_pixels)
    chunks = _chunks(row for batch in missing for row in batch.to_pylist())
    failures: list[str] = []
    with Progress("embedding crops", images) as progress:
        for done in map_actors(CropsWorker, job, chunks, pool):
            failures += done["failures"]
            progress.add(images=done["images"], masks=done["masks"], errors=len(done["failures"]))
    return failures


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of masks, in the order of images, as rows for workers: some images with all their masks each."""
    images: list[dict[str, Any]] = []
    count = 0
    for (image_id, uris), masks in itertools.groupby(rows, key=lambda row: (row["image_id"], row["uris"])):
        images.append({"image_id": image_id, "uris": uris, "masks": list(masks)})
        count += len(images[-1]["masks"])
        if count >= MASKS_PER_CHUNK:
            yield {"images": images}
            images, count = [], 0
    if images:
        yield {"images": images}
