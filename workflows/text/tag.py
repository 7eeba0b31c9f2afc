"""`sam-engine tag`: the words of a list that CLIP finds nearest to each mask of a data set, as a table of its own.

A row of work is one shard; a shard's tags are one file under a fixed name, by one atomic put. What is to be done
is asked by SQL: shards with masks that this list and this CLIP have not named. Nothing else is state, so the command
can be killed and repeated, and another list or CLIP replaces the tags.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from sam_core.clip_masks import embed_masks, nearness
from sam_core.phrases import embed_phrases
from schemas.ids import canonical_json, content_hash
from schemas.layout import masks_key, tags_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import TAGS
from workflows.devices import choose_device
from workflows.failures import one_line, tell_left_out
from workflows.image_limits import byte_limit
from workflows.images import ImageError
from workflows.originals import StoredImage, read_pixels
from workflows.progress import Progress
from workflows.report.scope import read_runs
from workflows.runs import require_here
from workflows.sql import connect
from workflows.storage import open_store
from workflows.stored_tables import get_table
from workflows.text.clips import ClipSource, clip_id, cut_off, find_clip
from workflows.text.commands import TagConfig
from workflows.uris import UriReader, read_manifest

SHARPNESS = 100.0
"""Factor on cosines before the softmax; the largest that CLIP's own training allows (Radford et al. 2021, 2.5)."""
_ID_DIGITS = 12
_SHARDS_AT_ONCE = 64
_PENDING = """
SELECT outcomes.run_id AS run_id, outcomes.shard AS shard,
    list(images.image_id ORDER BY images.image_id) AS image_ids, list(images.uris ORDER BY images.image_id) AS uris
FROM outcomes JOIN images USING (image_id)
LEFT JOIN (
    SELECT run_id, image_id, count(*) AS masks FROM tags
    WHERE rank = 1 AND ends_with(clip_id, $clip) AND words_id = $words
    GROUP BY run_id, image_id
) AS done ON done.run_id = outcomes.run_id AND done.image_id = outcomes.image_id
WHERE outcomes.n_masks > 0 AND list_contains($runs, outcomes.run_id)
GROUP BY outcomes.run_id, outcomes.shard
HAVING sum(outcomes.n_masks) > coalesce(sum(done.masks), 0)
ORDER BY run_id, shard
"""
_IMAGES_PENDING = f"SELECT coalesce(sum(len(image_ids)), 0)::BIGINT FROM ({_PENDING})"
_TALLY = """
SELECT count(*), count(DISTINCT word) FROM tags
WHERE rank = 1 AND ends_with(clip_id, $clip) AND words_id = $words AND list_contains($runs, run_id)
"""


@dataclass(frozen=True, slots=True)
class WordList:
    """Words, their embeddings float32 [W, C], how many are kept per mask, and a hash of what decides the result."""

    words: tuple[str, ...]
    vectors: NDArray[np.float32]
    top: int
    words_id: str


@dataclass(frozen=True, slots=True)
class TagJob:
    """What every worker is told."""

    dataset: str
    words: WordList
    clip: ClipSource
    device: str
    threads: int
    max_pixels: int


Pool = Callable[[TagJob, Iterator[dict[str, Any]], TagConfig], Iterator[dict[str, Any]]]
"""Works on shards of a job; what each of them tells, as they end."""


def tag_command(config: TagConfig) -> int:
    """The subcommand: exit status 0, or 1 when some images cannot be read."""
    return tag(config, pool=on_ray)


def tag(config: TagConfig, *, pool: Pool) -> int:
    """Name the masks of a data set; the exit status. `pool` works on the shards.

    Raises ValueError or OSError (one line) when there is no data set, no mask, no word or no CLIP.
    """
    connection = connect(config.dataset)
    runs = [run.run_id for run in read_runs(connection, run=config.run) if run.masks]
    if not runs:
        raise ValueError(f"{config.dataset}: no masks to name; `sam-engine generate` makes some")
    words, clip = read_words(config.words), find_clip(config.clip)
    listed = embed_words(words, clip, config)
    asked: dict[str, object] = {"clip": _mark(clip), "words": listed.words_id, "runs": runs}
    ((pending,),) = connection.execute(_IMAGES_PENDING, asked).fetchall()
    job = TagJob(open_store(config.dataset).root, listed, clip, "cpu", config.threads or 2, config.max_pixels)
    left_out: list[str] = []
    if pending:
        # Before the progress, since Ray takes over standard error.
        answers = pool(job, _rows(connection, asked), config)
        with Progress("tagging", pending) as progress:
            for done in answers:
                left_out += done["left_out"]
                progress.add(images=done["images"], masks=done["masks"], errors=len(done["left_out"]))
    tell_left_out(left_out)
    _tell(config, asked)
    return 1 if left_out else 0


def _rows(connection: duckdb.DuckDBPyConnection, asked: dict[str, object]) -> Iterator[dict[str, Any]]:
    """The shards that are to be done as rows of work, one after the other."""
    for batch in connection.sql(_PENDING, params=asked).to_arrow_reader(_SHARDS_AT_ONCE):
        for number in range(len(batch)):
            yield batch.slice(number, 1).to_pylist()[0]


def read_words(path: str) -> tuple[str, ...]:
    """The lines of a text file, each once. Raises ValueError or OSError (one line) when there are none."""
    try:
        lines = read_manifest(path).decode("utf-8-sig").splitlines()  # some editors put a mark before the text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8") from error
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(words) < 2:
        raise ValueError(f"{path} has {len(words)} words; tagging chooses among at least two, one per line")
    return words


def embed_words(words: tuple[str, ...], clip: ClipSource, config: TagConfig) -> WordList:
    """The embeddings of a list; says which words are longer than CLIP reads."""
    loaded = clip.load()
    embedded = embed_phrases(loaded, words, config.templates)
    tell_left_out([cut_off(word, loaded.context) for word, cut in zip(words, embedded.truncated, strict=True) if cut])
    top = min(config.top, len(words))
    decided = canonical_json({"words": list(words), "templates": list(config.templates), "top": top})
    return WordList(words, embedded.vectors.numpy(), top, content_hash(decided.encode())[:_ID_DIGITS])


def on_ray(job: TagJob, rows: Iterator[dict[str, Any]], config: TagConfig) -> Iterator[dict[str, Any]]:
    """Work on shards with as many workers as the machine or cluster holds."""
    from workflows.ray_session import choose_pool, map_actors, start_ray

    start_ray()
    device = choose_device(config.device)
    pool = choose_pool(workers=config.workers, threads=config.threads, on_gpu=device == "cuda")
    return map_actors(TagWorker, replace(job, device=device, threads=pool.threads), rows, pool)


class TagWorker:
    """Names the masks of one shard after another; CLIP is loaded once."""

    def __init__(self, job: TagJob) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._store = open_store(job.dataset)
        self._clip = job.clip.load(device=job.device)
        self._reader = UriReader(max_bytes=byte_limit(job.max_pixels))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of work: run_id, shard, image_ids and uris in; images, masks and what was left out, or a `failure`."""
        try:
            return self.work(row)
        except (OSError, ValueError) as error:
            return {"failure": one_line(error)}

    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        """Name and commit the masks of a shard. Raises OSError when the store is at fault."""
        require_here(self._store)
        masks = get_table(self._store, masks_key(row["run_id"], row["shard"]))
        known = self._known(tags_key(row["run_id"], row["shard"]))
        tables, left_out = [TAGS.empty_table()], []
        for image in map(StoredImage, row["image_ids"], map(tuple, row["uris"])):
            own, named = (table.filter(pc.equal(table["image_id"], image.image_id)) for table in (masks, known))
            try:
                tables.append(named if _is_named(own, named) else self._tags(image, own))
            except ImageError as error:
                left_out.append(str(error))
        tags = pa.concat_tables(tables)
        self._store.put(tags_key(row["run_id"], row["shard"]), to_parquet_bytes(tags))
        named = len(tags) // self._job.words.top
        return {"images": len(row["image_ids"]), "masks": named, "left_out": left_out}

    def _known(self, key: str) -> pa.Table:
        """What an earlier command has found with these words and this CLIP, where a picture was away; its own may be
        away now."""
        try:
            found = get_table(self._store, key)
        except FileNotFoundError:
            return TAGS.empty_table()
        same_words = pc.equal(found["words_id"], self._job.words.words_id)
        return found.filter(pc.and_(same_words, pc.ends_with(found["clip_id"], _mark(self._job.clip))))

    def _tags(self, image: StoredImage, masks: pa.Table) -> pa.Table:
        pixels = read_pixels(self._reader, image, max_pixels=self._job.max_pixels)
        with torch.inference_mode():
            crops = embed_masks(self._clip, pixels, masks["rle"].to_pylist())
        return tag_rows(masks, crops.numpy(), self._job.words, self._job.clip.clip_id)


def _mark(clip: ClipSource) -> str:
    """What a `clip_id` ends with: a CLIP is its hash, wherever its folder lies."""
    return clip_id("", clip.sha256)


def _is_named(masks: pa.Table, tags: pa.Table) -> bool:
    """Whether these are the tags of all of an image's masks."""
    return set(tags["mask_id"].to_pylist()) == set(masks["mask_id"].to_pylist())


def tag_rows(masks: pa.Table, crops: NDArray[np.float32], listed: WordList, clip_id: str) -> pa.Table:
    """Rows of TAGS for rows of MASKS, whose embedded crops are float32 [N, C]."""
    scores = nearness(torch.from_numpy(crops), torch.from_numpy(listed.vectors)).T
    shares = (SHARPNESS * scores).softmax(1)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, : listed.top]
    each = np.repeat(np.arange(len(masks)), listed.top)
    columns = {name: masks[name].take(pa.array(each)) for name in ("mask_id", "image_id", "run_id")} | {
        "rank": np.tile(np.arange(1, listed.top + 1, dtype=np.int32), len(masks)),
        "word": pa.array([listed.words[place] for place in best.flatten().tolist()], pa.string()),
        "score": scores.gather(1, best).flatten().numpy(),
        "share": shares.gather(1, best).flatten().numpy(),
        "clip_id": pa.array([clip_id] * len(each), pa.string()),
        "words_id": pa.array([listed.words_id] * len(each), pa.string()),
    }
    return pa.table([columns[field.name] for field in TAGS], schema=TAGS)


def _tell(config: TagConfig, asked: dict[str, object]) -> None:
    ((masks, words),) = connect(config.dataset).execute(_TALLY, asked).fetchall()
    print(f"{config.dataset}: {masks:,} masks have a word of {config.words}; {words:,} different words come first")
    query = "SELECT tag, count(*) FROM tagged_masks GROUP BY tag ORDER BY 2 DESC"
    print("try:")
    print(f'  sam-engine sql {shlex.quote(config.dataset)} "{query}"')
