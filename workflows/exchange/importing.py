"""`sam-engine import`: masks of others into the tables, where they are as all other masks are.

    read the source -> note its pictures -> shards of images -> annotations and events, masks and outcomes

Where a model made masks the import is a run with a plan, as if this program had made them, and outcomes commit each
shard. A part of events commits the annotations before it, and says, mask by mask, what else the source said: its own
id, the category. The same command adds nothing; a corrected source follows itself (succession.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import content_hash
from schemas.layout import annotations_key, events_key, masks_key, outcomes_key
from schemas.parquet import to_parquet_bytes
from schemas.records import RunRecord
from schemas.tables import ANNOTATIONS, Stage, Status
from schemas.validate import RowError, check_outcomes
from workflows.convert import ImageResult, checked, mask_table, outcome_table
from workflows.exchange.commands import ImportConfig
from workflows.exchange.imported_run import imported_run
from workflows.exchange.incoming_rows import (
    BEGUN_PART,
    EVENTS_PER_SHARD,
    Rules,
    Taken,
    annotation_rows,
    automatic_result,
    begun_rows,
    event_rows,
    take,
)
from workflows.exchange.readers import IncomingSource, merged
from workflows.exchange.readers.opening import open_source
from workflows.exchange.succession import Row, follow, moment_of, note_earlier, session_of, standing_before
from workflows.failures import is_of_the_machine, one_line, tell_left_out
from workflows.images import UNREADABLE
from workflows.ingest import ingest
from workflows.plans import finished_shards, read_plan, settle_plan
from workflows.progress import Progress
from workflows.runs import open_dataset, settle_run
from workflows.scratch import open_scratch
from workflows.sql import connect
from workflows.storage import Store, open_store
from workflows.stored_tables import get_table
from workflows.uris import ImageRef

IMAGES_PER_SHARD = 256
_READERS = 16
_LEFT_OUT = "LeftOut"
_ROWS_AT_ONCE = 8192
_IMAGES = "SELECT DISTINCT image_id FROM places ORDER BY image_id"
_SIZED = "SELECT image_id, height, width FROM images WHERE height > 0"
_UNREAD_BY_RUN = f"SELECT DISTINCT shard FROM outcomes WHERE run_id = ? AND error_class = '{UNREADABLE}'"
_UNREAD_BY_SESSION = f"""
SELECT DISTINCT (sequence - 1) // {EVENTS_PER_SHARD} FROM events
WHERE session = ? AND mask_id IS NULL AND details::JSON->>'unread' = 'true'"""
_REFUSED = f"""
SELECT unnest(details::JSON->>'$.left_out[*]') FROM events
WHERE session = ? AND mask_id IS NULL AND NOT list_contains(?::BIGINT[], (sequence - 1) // {EVENTS_PER_SHARD})
ORDER BY sequence"""

Refused = defaultdict[str, list[str]]
"""By image_id, lines about what was left out."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Images that are written together; shards count from 0. `run_lacks` says whether the run, if any, lacks any."""

    number: int
    image_ids: tuple[str, ...]
    run_lacks: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read of a shard: images that can be used, a line about each of the others by image_id, and which of
    these have a document that cannot be read now. It may be later, without another content that would make another
    import."""

    taken: list[Taken]
    lines: dict[str, str]
    unread: list[str]

    def refused(self) -> Refused:
        """What was left out so far."""
        lines = Refused(list, {image_id: [line] for image_id, line in self.lines.items()})
        lines.update((image.image_id, list(image.refused)) for image in self.taken if image.refused)
        return lines


@dataclass(frozen=True, slots=True)
class Written:
    """How many masks were new or changed, and how many removed that the source no longer holds; a line for all left
    out."""

    masks: int
    removed: int
    refused: list[str]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where masks go. `run` is there when models made some of them; `tables` knows the places and the size of
    each image and what earlier imports brought. `unread` shards are committed without a document that could not be
    read, and are done again."""

    store: Store
    run: RunRecord | None
    rules: Rules
    tables: duckdb.DuckDBPyConnection
    unread: frozenset[int]


def import_command(config: ImportConfig) -> int:
    """The subcommand: exit status 0, or 1 when masks or images were left out, which lines on standard error tell.

    Raises ValueError or OSError (one line) when the source, or a picture that it names, cannot be used at all.
    """
    source = open_source(config)
    references = _some(source)
    store = open_store(config.dataset)
    open_dataset(store)
    with ingest(references, store, max_pixels=config.max_pixels) as listing, open_scratch() as tables:
        _note_places(tables, listing.images())
        stage = None if config.stage == "as-stated" else Stage(config.stage.replace("-", "_"))
        automatic = stage == Stage.AUTOMATIC or (stage is None and source.automatic)
        run = settle_run(store, imported_run(source)) if automatic else None
        with closing(connect(config.dataset)) as catalog:
            rules = _rules(config, source, stage, tables, catalog)
            note_earlier(tables, catalog, store, rules.session)
            _note_sizes(tables, catalog)
            destination = Destination(store, run, rules, tables, _unread(catalog, rules, run))
            shards = _pending(destination)
            before = _refused_before(catalog, rules, shards)
            _begin(destination, shards)
            done = _take_all(source, destination, shards)
            unreadable = _unreadable(tables)
    left_out = [*source.lost, *unreadable, *before, *done.refused]
    tell_left_out(left_out)
    removed = f", {done.removed:,} removed that it no longer holds" if done.removed else ""
    print(f"{store.root}: {done.masks:,} masks imported from {source.name}, {len(left_out):,} left out{removed}")
    return 1 if left_out else 0


def _some(source: IncomingSource) -> Iterator[ImageRef]:
    """The pictures of a source. Raises ValueError when there are none, before a data set is begun for them."""
    references = source.references()
    first = next(references, None)
    if first is None:
        raise ValueError(f"{source.name}: no pictures with masks")
    return chain([first], references)


def _note_places(tables: duckdb.DuckDBPyConnection, images: pa.RecordBatchReader) -> None:
    """Fills the table `places`: every image and place of the source. This table and the two others that are asked shard
    by shard lie in the order of image_id, as shards do: else each question would look at every row."""
    tables.register("incoming", images)
    tables.execute("CREATE TABLE places AS SELECT image_id, uri FROM incoming ORDER BY image_id")
    tables.unregister("incoming")


def _note_sizes(tables: duckdb.DuckDBPyConnection, catalog: duckdb.DuckDBPyConnection) -> None:
    """Fills the table `sizes`: height and width of every image in `places` that could be read. The data set is asked
    once, as its view goes through all of its images whichever are wanted."""
    tables.register("sized", catalog.sql(_SIZED).to_arrow_reader(_ROWS_AT_ONCE))
    tables.execute("CREATE TABLE sizes AS FROM sized SEMI JOIN places USING (image_id) ORDER BY image_id")
    tables.unregister("sized")


def _unreadable(tables: duckdb.DuckDBPyConnection) -> list[str]:
    """A line for each picture that cannot be read now, whenever its masks were left out."""
    found = tables.execute("SELECT min(uri) FROM places ANTI JOIN sizes USING (image_id) GROUP BY image_id ORDER BY 1")
    return [f"{uri}: cannot be read as an image" for (uri,) in found.fetchall()]


def _rules(
    config: ImportConfig,
    source: IncomingSource,
    stage: Stage | None,
    tables: duckdb.DuckDBPyConnection,
    catalog: duckdb.DuckDBPyConnection,
) -> Rules:
    images = [image for (image,) in tables.execute(_IMAGES).fetchall()]
    what = [source.digest, stage, config.annotator, config.crowds, content_hash("".join(images).encode())]
    session = session_of(catalog, source.name, what)
    default = Stage.AUTOMATIC if source.kind == "sa1b" else Stage.ASSISTED_MANUAL
    return Rules(source.name, session, stage, default, config.annotator, moment_of(catalog, source.name))


def _unread(catalog: duckdb.DuckDBPyConnection, rules: Rules, run: RunRecord | None) -> frozenset[int]:
    """The shards of the run, else of the session, that lack a document which could not be read."""
    asked, whose = (_UNREAD_BY_RUN, run.run_id) if run else (_UNREAD_BY_SESSION, rules.session)
    return frozenset(number for (number,) in catalog.execute(asked, [whose]).fetchall())


def _refused_before(catalog: duckdb.DuckDBPyConnection, rules: Rules, pending: Sequence[Shard]) -> list[str]:
    """What this import has left out of the shards that are done."""
    found = catalog.execute(_REFUSED, [rules.session, [shard.number for shard in pending]]).fetchall()
    return [line for (line,) in found]


def _pending(destination: Destination) -> list[Shard]:
    """The shards that are not committed yet, in the run or in the session, or lack a document. The session is listed,
    as to look for each of its files is a request for every 256 images, one after the other."""
    store, session, unread = destination.store, destination.rules.session, destination.unread
    written = {entry.key for entry in store.list(events_key(session, 1).rpartition("/")[0])}
    shards = _planned(destination) if destination.run else _chunks(destination.tables)
    return [
        shard
        for shard in shards
        if shard.run_lacks or shard.number in unread or events_key(session, shard.number + 1) not in written
    ]


def _begin(destination: Destination, shards: Sequence[Shard]) -> None:
    """Note an import that follows others. One that is killed before it commits a shard may have put revisions of that
    one already: they are taken back where its source is turned back only if it is known."""
    if shards and destination.tables.execute("FROM earlier LIMIT 1").fetchone():
        rules = destination.rules
        destination.store.put(events_key(rules.session, BEGUN_PART), to_parquet_bytes(begun_rows(rules)))


def _planned(destination: Destination) -> Iterator[Shard]:
    """The shards of the run's plan."""
    store, run = destination.store, destination.run
    assert run is not None
    images = destination.tables.sql("SELECT image_id, uri FROM places").to_arrow_table()
    tasks = settle_plan(store, run.run_id, images, shard_size=IMAGES_PER_SHARD)
    rows = {part.number: part.table["image_id"].to_pylist() for part in read_plan(store, run.run_id)}
    done = finished_shards(store, run.run_id) - destination.unread
    for task in tasks:
        yield Shard(task.shard, tuple(rows[task.part][task.start : task.stop]), task.shard not in done)


def _chunks(tables: duckdb.DuckDBPyConnection) -> Iterator[Shard]:
    images = [image for (image,) in tables.execute(_IMAGES).fetchall()]
    for number, start in enumerate(range(0, len(images), IMAGES_PER_SHARD)):
        yield Shard(number, tuple(images[start : start + IMAGES_PER_SHARD]), False)


def _take_all(source: IncomingSource, destination: Destination, shards: Sequence[Shard]) -> Written:
    """Work on the shards."""
    masks, removed, refused = 0, 0, list[str]()
    with Progress("importing", sum(len(shard.image_ids) for shard in shards)) as progress:
        for shard in shards:
            written = _write(destination, shard, _load(source, destination, shard))
            masks, removed = masks + written.masks, removed + written.removed
            refused += written.refused
            progress.add(images=len(shard.image_ids), masks=written.masks, errors=len(written.refused))
    return Written(masks, removed, refused)


def _load(source: IncomingSource, destination: Destination, shard: Shard) -> Loaded:
    """Read a shard. Raises OSError when a store or the machine, not a document, is at fault."""
    places = _places(destination.tables, shard)
    sizes = _sizes(destination.tables, shard)
    unread: list[str] = []

    def read(image_id: str) -> Taken | str:
        if image_id not in places:
            return f"image {image_id} is not in {source.name} any more"
        try:
            place = places[image_id][0]
            found = merged([source.load(uri) for uri in places[image_id]])
            height, width = sizes[image_id]
            if found.masks and (found.height, found.width) != (height, width):
                return f"{place} is {width}x{height} px, its masks {found.width}x{found.height} px"
            return take(image_id, place, replace(found, height=height, width=width), destination.rules)
        except (ValueError, OSError) as error:
            if is_of_the_machine(error):
                raise
            if isinstance(error, OSError):
                unread.append(image_id)
            return one_line(error)

    # Pictures that are there without a size are told of by themselves, whether their shard is done or not.
    wanted = [image for image in shard.image_ids if image in sizes or (image not in places and shard.run_lacks)]
    with ThreadPoolExecutor(_READERS) as readers:
        answers = list(readers.map(read, wanted))
    taken = [answer for answer in answers if isinstance(answer, Taken)]
    lines = {image: answer for image, answer in zip(wanted, answers, strict=True) if isinstance(answer, str)}
    return Loaded(taken, lines, sorted(unread))


def _write(destination: Destination, shard: Shard, loaded: Loaded) -> Written:
    """Write one shard, what commits it last; a line is refused for each image whose rows break a rule."""
    store, rules, run, taken = destination.store, destination.rules, destination.run, loaded.taken
    refused = loaded.refused()
    before = standing_before(destination.tables, shard.image_ids, rules)
    human = [_annotations(image, rules, before[image.image_id], refused) for image in taken]
    rows = pa.concat_tables([ANNOTATIONS.empty_table(), *human])
    results = _checked(shard, loaded, run, refused) if run is not None and shard.run_lacks else []
    removed = pc.sum(rows["deleted"]).as_py() or 0
    part, written = shard.number + 1, len(rows) - removed
    key = annotations_key(rules.session, part)
    if len(rows):
        store.put(key, to_parquet_bytes(pa.concat_tables([rows, _overtaken(store, key, rows)])))
    events = event_rows(taken, rules, run.run_id if run else None, shard.number, refused=refused, unread=loaded.unread)
    store.put(events_key(rules.session, part), to_parquet_bytes(events))
    if run is not None and shard.run_lacks:
        written += _write_run(store, run, shard.number, results)
    return Written(written, removed, [line for lines in refused.values() for line in lines])


def _write_run(store: Store, run: RunRecord, shard: int, results: Sequence[ImageResult]) -> int:
    """Masks and outcomes of one shard of a run; how many masks these are."""
    outcomes, made = outcome_table(run.run_id, shard, results), mask_table(run, results)
    check_outcomes(outcomes)
    store.put(masks_key(run.run_id, shard), to_parquet_bytes(made))
    store.put(outcomes_key(run.run_id, shard), to_parquet_bytes(outcomes))
    return len(made)


def _overtaken(store: Store, key: str, rows: pa.Table) -> pa.Table:
    """What an attempt before this one, that was killed or could not read a document, wrote there of masks that people
    have changed since: their revisions follow those, and no revision is taken back."""
    try:
        before = get_table(store, key)
    except FileNotFoundError:
        return ANNOTATIONS.empty_table()
    return before.filter(pc.invert(pc.is_in(before["mask_id"], rows["mask_id"].combine_chunks())))


def _annotations(image: Taken, rules: Rules, before: Sequence[Row], refused: Refused) -> pa.Table:
    """What is written of the human masks of an image; nothing, and a line, when one of them breaks a rule."""
    try:
        return follow(annotation_rows(image, rules), before, rules, is_whole=not image.refused)
    except RowError as error:
        refused[image.image_id].append(one_line(error))
        return ANNOTATIONS.empty_table()


def _checked(shard: Shard, loaded: Loaded, run: RunRecord, refused: Refused) -> list[ImageResult]:
    """As `_results`, with a line for each image whose masks break a rule, which ends as an error."""
    results = checked(run, _results(shard, loaded, run))
    for result in results:
        if result.error_class not in (None, _LEFT_OUT, UNREADABLE):
            refused[result.image_id].append(str(result.error_message))
    return results


def _results(shard: Shard, loaded: Loaded, run: RunRecord) -> list[ImageResult]:
    """How each image of the shard ended in the run; one that lost all of its masks is not one that shows nothing."""
    found = {image.image_id: image for image in loaded.taken if image.masks or not image.refused}
    now = run.created_at

    def left_out(image_id: str) -> ImageResult:
        why = UNREADABLE if image_id in loaded.unread else _LEFT_OUT
        return ImageResult(
            image_id, Status.ERROR, now, now, error_class=why, error_message="its masks could not be imported"
        )

    return [
        automatic_result(found[image_id], now) if image_id in found else left_out(image_id)
        for image_id in shard.image_ids
    ]


def _places(tables: duckdb.DuckDBPyConnection, shard: Shard) -> dict[str, list[str]]:
    """Every place of each image of a shard."""
    sql = "SELECT image_id, list(DISTINCT uri ORDER BY uri) FROM places WHERE image_id IN (SELECT unnest(?)) GROUP BY 1"
    return dict(tables.execute(sql, [list(shard.image_ids)]).fetchall())


def _sizes(tables: duckdb.DuckDBPyConnection, shard: Shard) -> dict[str, tuple[int, int]]:
    """(height, width) px of the images of a shard that could be read."""
    found = tables.execute("FROM sizes WHERE image_id IN (SELECT unnest(?))", [list(shard.image_ids)]).fetchall()
    return {image: (height, width) for image, height, width in found}
