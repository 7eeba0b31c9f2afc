"""What an export holds: committed masks in pages of whole images, in the order of image_id, one page in memory at once.

A mask that a person accepted, changed or deleted is left out where that person's own stands for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.catalog import query
from schemas.ids import content_hash
from schemas.layout import ANNOTATIONS_PREFIX, IMAGES_PREFIX, MASKS_PREFIX, OUTCOMES_PREFIX, parse_merged_key
from schemas.tables import MASKS, Stage
from schemas.window import SCHEME
from workflows.exchange.commands import ExportConfig
from workflows.report.queries import licence_condition, literal
from workflows.sql import connect, require_run
from workflows.storage import open_store, split_place

IMPORT_ACTION = "import"
"""Action of the event that keeps what the source of an imported mask said of it."""

_TABLES = ("", "masks", "annotations")
_ALL = "(true)"
"""The condition that leaves no mask out."""
_COLUMNS = ", ".join(MASKS.names)
_FILES = f"""
SELECT file FROM glob('{SCHEME}://*')
UNION ALL
SELECT format('{SCHEME}://{ANNOTATIONS_PREFIX}session={{}}/part-{{:08d}}.parquet', session, part)
FROM (SELECT *, unnest(range(first, last + 1)) AS part FROM merged_parts) WHERE "table" = 'masks'
ORDER BY file"""
"""Saves by the names that they had before they were merged, as that changes nothing in what is exported."""
_AUTOMATIC = f"""
SELECT {_COLUMNS} FROM masks_in('dataset://masks/*.parquet{{files}}')
WHERE {{run}} AND {{span}} AND mask_id NOT IN (
    SELECT source_mask_id FROM revisions_in('dataset://annotations/masks/*.parquet{{files}}')
    WHERE {{settled}} AND {{span}} AND source_mask_id IS NOT NULL AND stage <> '{Stage.AUDIT}'
)"""
_HUMAN = f"""
SELECT mask_id, image_id, NULL::VARCHAR AS run_id, round, stage, height, width, rle, bbox_x, bbox_y, bbox_w, bbox_h,
    area, predicted_iou, stability_score, point_x, point_y, NULL::INTEGER AS crop_x, NULL::INTEGER AS crop_y,
    NULL::INTEGER AS crop_w, NULL::INTEGER AS crop_h, model_id, annotator, created_at
FROM annotations_in('dataset://annotations/masks/*.parquet{{files}}') WHERE {{span}} AND stage <> '{Stage.AUDIT}'"""
_NO_COPY = """
AND mask_id NOT IN (
    SELECT mask_id FROM relations_in('dataset://relations/*.parquet{files}') WHERE {span} AND duplicate_of IS NOT NULL
)"""
# By itself first: a column that it does not return would else be that of the question around it.
_ASKED_IMAGES = "CREATE TABLE asked_images AS SELECT DISTINCT image_id FROM ({sql}\n)"
# Asked once, as the files of all masks and outcomes are opened for it.
_CHOOSE_IMAGES = """
CREATE TABLE chosen_images AS
WITH counted AS (
    SELECT image_id, count(*) AS masks, count(*) FILTER (crop_x IS NULL) AS unscored,
        any_value(height) AS height, any_value(width) AS width
    FROM ({masks}) WHERE {where} GROUP BY image_id
),
finished AS (
    SELECT DISTINCT image_id FROM outcomes WHERE status = 'ok' AND {run} AND {automatic}
    UNION SELECT image_id FROM ({empty}) WHERE {human}
)
SELECT image_id, uris, coalesce(images.height, counted.height) AS height,
    coalesce(images.width, counted.width) AS width, format, exif_orientation, licence,
    coalesce(masks, 0) AS n_masks, coalesce(unscored, 0) AS unscored
FROM images LEFT JOIN counted USING (image_id)
WHERE (masks > 0 OR image_id IN (SELECT image_id FROM finished)) AND {licence} AND {asked}"""
_PAGES = "SELECT * EXCLUDE (unscored) FROM chosen_images WHERE height IS NOT NULL ORDER BY image_id"
# The place of all pictures begins as the first and the last of them do.
_COUNTS = """
SELECT count(*) FILTER (height IS NOT NULL) AS images, count(*) FILTER (height IS NULL) AS unsized,
    sum(n_masks)::BIGINT AS masks, sum(unscored)::BIGINT AS unscored, list(DISTINCT licence) AS licences,
    min(uris[1]) AS first, max(uris[1]) AS last
FROM chosen_images"""
_SHARDS = """
SELECT regexp_extract(file, 'run=([^/]+)/', 1) AS run_id, parse_filename(file) AS shard
FROM glob('dataset://{table}/*.parquet')"""
_NOT_RELATED = f"""
SELECT count(*) AS shards
FROM (FROM ({_SHARDS.format(table="masks")}) EXCEPT FROM ({_SHARDS.format(table="relations")})) WHERE {{run}}"""
LOOKED_AT = f"""
SELECT DISTINCT image_id FROM events
WHERE image_id IS NOT NULL AND stage NOT IN ('{Stage.AUDIT}', '{Stage.AUTOMATIC}') AND (
    action = 'finish' OR (action = '{IMPORT_ACTION}' AND mask_id IS NULL AND (details::JSON->>'empty') = 'true')
)"""
"""Images that people have finished, or of which a file of theirs says that there is nothing on them."""
# One of which a condition leaves out all that people drew is none of these.
_EMPTY = f"FROM ({LOOKED_AT}) ANTI JOIN (FROM annotations WHERE stage <> '{Stage.AUDIT}') USING (image_id)"
_SEEN = "SELECT count(*) AS images, bit_xor(md5_number_lower(image_id)) AS which FROM ({empty}) HAVING count(*) > 0"
_CHOSEN = "SELECT count(*) AS masks, bit_xor(md5_number_lower(mask_id)) AS which FROM ({masks}) WHERE {where}"
_WHICH = "SELECT bit_xor(md5_number_lower(image_id)) AS images FROM chosen_images"
_NAMED = "SELECT count(*) AS masks, bit_xor(md5_number_lower(concat(mask_id, category, crowd))) AS names FROM ({said})"
# The newest word as a whole: of single fields one that is not said any more would stay.
_SAID = f"""
SELECT mask_id, said->>'category' AS category, said->>'iscrowd' AS crowd
FROM (
    SELECT mask_id, arg_max(details::JSON, happened_at) AS said
    FROM events_in('dataset://annotations/events/*.parquet{{files}}')
    WHERE action = '{IMPORT_ACTION}' AND mask_id IS NOT NULL AND {{span}} GROUP BY mask_id
)"""


class _Span(NamedTuple):
    """A row of images: the condition on image_id, and what behind a pattern keeps files closed that have none of them.
    A page that opened every file would make an export's time grow with the square of the data set."""

    span: str = "true"
    files: str = ""


_EVERYTHING = _Span()


@dataclass(frozen=True, slots=True)
class ExportImage:
    """One image and its chosen masks.

    number      from 1, in the order of image_id; the whole number that formats want as an identifier
    first_mask  number of its first mask, from 1 through the whole export
    masks       rows of the columns of MASKS, `category` and `crowd` ("1" for one), in the order of mask_id; what human
                masks lack is null
    """

    number: int
    first_mask: int
    image_id: str
    uris: tuple[str, ...]
    height: int
    width: int
    format: str | None
    orientation: int | None
    licence: str | None
    masks: pa.Table


@dataclass(frozen=True, slots=True)
class Page:
    """Images that are written together; pages count from 0. `rows` are of the listing, without masks."""

    number: int
    rows: tuple[dict[str, Any], ...]
    first_image: int
    first_mask: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How much an export holds. `unscored` masks lack what only a model says: people drew them. `unsized` images are
    left out, as nobody has read them and no mask says how large they are. `folder` is where all pictures lie."""

    images: int
    unsized: int
    masks: int
    unscored: int
    categories: tuple[str, ...]
    licences: tuple[str, ...]
    folder: str


class Selection:
    """The masks that an export was asked for, as they were committed when it began.

    Raises ValueError (one line): no data set, no such run, SQL that DuckDB refuses, nothing chosen, or copies
    to be left out that nobody has looked for.
    """

    def __init__(self, config: ExportConfig) -> None:
        self.dataset, table = split_place(config.dataset)
        self.name = "@".join(filter(None, (open_store(self.dataset).root, table)))  # however the place is spelt
        self._connection = connect(self.dataset)
        self._condition, self._distinct = f"({config.where})", False
        run_id = None if table in _TABLES else require_run(self._connection, self.dataset, table)
        self._run = "true" if run_id is None else f"run_id = {literal(run_id)}"
        self._of_run = "" if run_id is None else f"run={run_id}/"
        self._tables = _tables(table)
        self._settled = "true" if len(self._tables) == 2 else "false"
        self._asked = "true" if config.images is None else "image_id IN (FROM asked_images)"
        if config.images is not None:
            query(self._connection, _ASKED_IMAGES.format(sql=config.images))
        self._licence = licence_condition(self._connection, config.licences, "image_licences")
        if config.distinct and _AUTOMATIC in self._tables:
            self._require_related()
            self._distinct = True
        self._choose_images()

    def fingerprint(self) -> str:
        """Of the committed files that its masks and images come from, the names that imports gave, and which masks or
        images a condition chooses: another one means that the data set has changed, in what is asked for."""
        listed = query(self._connection, _FILES)["file"].to_pylist()
        read = filter(self._reads, (file.removeprefix(f"{SCHEME}://") for file in listed))
        found = self._rows(_NAMED.format(said=_SAID.format(**_EVERYTHING._asdict())))
        if _HUMAN in self._tables:
            found += self._rows(_SEEN.format(empty=_EMPTY))
        if (where := self._where(_EVERYTHING)) != _ALL:
            found += self._rows(_CHOSEN.format(masks=self._masks(_EVERYTHING), where=where))
        if self._asked != "true":
            found += self._rows(_WHICH)
        return content_hash("\0".join([*read, *map(repr, found)]).encode())

    def totals(self) -> Totals:
        """Counts over everything, and the names that occur in it. Raises ValueError when nothing is chosen."""
        counted = self._rows(_COUNTS)[0]
        if not counted["images"]:
            raise ValueError(f"{self.dataset}: no image or mask is chosen; nothing to export")
        names = self._rows(f"SELECT DISTINCT category FROM ({_SAID.format(**_EVERYTHING._asdict())}) ORDER BY 1")
        return Totals(
            counted["images"],
            counted["unsized"],
            counted["masks"],
            counted["unscored"],
            tuple(row["category"] for row in names if row["category"]),
            tuple(sorted(name for name in counted["licences"] or [] if name)),
            _common_folder(counted["first"], counted["last"]),
        )

    def pages(self, size: int) -> Iterator[Page]:
        """All images, so many at once, without their masks."""
        reader = self._connection.cursor().sql(_PAGES).to_arrow_reader(size)
        number = first_image = first_mask = 0
        waiting: list[dict[str, Any]] = []
        for batch in reader:
            waiting += batch.to_pylist()
            while len(waiting) >= size:
                rows, waiting = tuple(waiting[:size]), waiting[size:]
                yield Page(number, rows, first_image, first_mask)
                number, first_image = number + 1, first_image + len(rows)
                first_mask += sum(row["n_masks"] for row in rows)
        if waiting:
            yield Page(number, tuple(waiting), first_image, first_mask)

    def load(self, page: Page) -> list[ExportImage]:
        """The images of a page with their masks."""
        first, last = page.rows[0]["image_id"], page.rows[-1]["image_id"]
        span = _Span(f"image_id BETWEEN '{first}' AND '{last}'", f"#{first}-{last}")
        masks = query(
            self._connection,
            f"SELECT chosen.*, category, crowd FROM (FROM ({self._masks(span)}) WHERE {self._where(span)}) AS chosen "
            f"LEFT JOIN ({_SAID.format(**span._asdict())}) USING (mask_id) ORDER BY image_id, mask_id",
        )
        starts = _starts(masks)
        images: list[ExportImage] = []
        first_mask = page.first_mask + 1
        for index, row in enumerate(page.rows):
            images.append(
                ExportImage(
                    number=page.first_image + index + 1,
                    first_mask=first_mask,
                    image_id=row["image_id"],
                    uris=tuple(row["uris"]),
                    height=row["height"],
                    width=row["width"],
                    format=row["format"],
                    orientation=row["exif_orientation"],
                    licence=row["licence"],
                    masks=masks.slice(*starts.get(row["image_id"], (0, 0))),
                )
            )
            first_mask += row["n_masks"]
        return images

    def _reads(self, key: str) -> bool:
        """Whether a file decides by itself. What `relate`, `tag` and `crops` write, also anew under the same names,
        does not: an export has of it what a condition makes of it."""
        if key.startswith((MASKS_PREFIX, OUTCOMES_PREFIX)):
            return _AUTOMATIC in self._tables and self._of_run in key
        if key.startswith(ANNOTATIONS_PREFIX):
            return _HUMAN in self._tables and not parse_merged_key(key)
        return key.startswith(IMAGES_PREFIX)

    def _require_related(self) -> None:
        """Masks that were not compared, or by another measure than others, may be copies of each other."""
        (missing,) = self._rows(_NOT_RELATED.format(run=self._run))
        (used,) = self._rows(f"SELECT count(DISTINCT duplicate_threshold) AS n FROM relations WHERE {self._run}")
        relate = f"`sam-engine relate {shlex.quote(self.dataset)}`"
        if missing["shards"]:
            raise ValueError(
                f"--distinct: {missing['shards']:,} shards of masks are not compared yet; {relate} does it"
            )
        if used["n"] > 1:
            raise ValueError(f"--distinct: masks are compared by several thresholds; {relate} takes one for all")

    def _masks(self, span: _Span) -> str:
        parts = [part.format(run=self._run, settled=self._settled, **span._asdict()) for part in self._tables]
        return " UNION ALL BY NAME ".join(parts)

    def _where(self, span: _Span) -> str:
        """The condition on masks of a row of images."""
        return self._condition + (_NO_COPY.format(**span._asdict()) if self._distinct else "")

    def _choose_images(self) -> None:
        automatic, human = (str(table in self._tables).lower() for table in (_AUTOMATIC, _HUMAN))
        asked = {"masks": self._masks(_EVERYTHING), "where": self._where(_EVERYTHING), "run": self._run}
        asked |= {"licence": self._licence, "asked": self._asked, "empty": _EMPTY}
        asked |= {"automatic": automatic, "human": human}
        query(self._connection, _CHOOSE_IMAGES.format(**asked))

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        return list(query(self._connection, sql).to_pylist())


def _tables(table: str) -> list[str]:
    """The queries for what stands after @: both for nothing, automatic masks alone for a run."""
    if not table:
        return [_AUTOMATIC, _HUMAN]
    return [_HUMAN] if table == "annotations" else [_AUTOMATIC]


def _starts(masks: pa.Table) -> dict[str, tuple[int, int]]:
    """Where the masks of each image begin in a table ordered by image, and how many they are."""
    counts = masks["image_id"].value_counts().to_pylist()
    found, start = {}, 0
    for count in sorted(counts, key=lambda row: row["values"]):
        found[count["values"]] = (start, count["counts"])
        start += count["counts"]
    return found


def _common_folder(first: str, last: str) -> str:
    """The folder that holds all addresses of a sorted list, by its first and its last."""
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same].rpartition("/")[0]
