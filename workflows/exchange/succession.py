"""How an import follows earlier ones of the same source: picture by picture, the newest word of a source stands.

Nothing written is taken back. A mask that a corrected source has changed gets a revision more, one that it no longer
holds a last revision that deletes it, and every reader sees what it sees after an annotator's corrections; one that is
as it was gets none. What a person has changed or deleted since it was imported stays as that person left it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from schemas.ids import canonical_json, content_hash
from schemas.layout import ANNOTATIONS_PREFIX, is_import, parse_session_key
from schemas.tables import ANNOTATIONS
from workflows.exchange.incoming_rows import Rules, id_prefix
from workflows.exchange.selection import IMPORT_ACTION
from workflows.image_rows import after
from workflows.redact import redact
from workflows.storage import Store

Row = dict[str, Any]

_ROWS_AT_ONCE = 8192
_OF_SOURCE = f"action = '{IMPORT_ACTION}' AND mask_id IS NULL AND details::JSON->>'source' = ?"
_SESSIONS = f"SELECT session FROM events WHERE {_OF_SOURCE} GROUP BY session ORDER BY max(happened_at), session"
_LAST = f"SELECT max(happened_at) FROM events WHERE {_OF_SOURCE}"
# An import that was killed does not follow itself.
_REVISIONS = "FROM annotation_revisions WHERE session <> ? AND starts_with(mask_id, 'import-')"
_EARLIER = "CREATE TABLE earlier AS FROM revisions SEMI JOIN places USING (image_id) ORDER BY image_id"
_LATEST = """
FROM earlier WHERE image_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY mask_id ORDER BY revision DESC, created_at DESC, session DESC) = 1"""


def moment_of(catalog: duckdb.DuckDBPyConnection, source: str) -> datetime:
    """When an import happens, UTC without a zone: now, and after every import of the source, also of those that a
    machine wrote whose clock is ahead; else theirs would be the newest word still."""
    ((said,),) = catalog.execute(_LAST, [redact(source)]).fetchall()
    return after(said)


def session_of(catalog: duckdb.DuckDBPyConnection, source: str, what: Sequence[object]) -> str:
    """The session of an import, `what` being all that makes it the same one: that of the newest import of this source
    where that is the same, which then goes on or is done already; else a new one, also where an older one is the same.
    """
    earlier = [session for (session,) in catalog.execute(_SESSIONS, [redact(source)]).fetchall()]
    if earlier and earlier[-1] == _named(what, len(earlier)):
        return str(earlier[-1])
    return _named(what, len(earlier) + 1)


def _named(what: Sequence[object], generation: int) -> str:
    """The first import of a source is named by what it holds alone."""
    full = what if generation == 1 else [*what, generation]
    return f"import-{content_hash(canonical_json(full).encode())[:16]}"


def note_earlier(
    tables: duckdb.DuckDBPyConnection, catalog: duckdb.DuckDBPyConnection, store: Store, session: str
) -> None:
    """Fills the table `earlier`: every revision, by whoever, of what other imports brought of the images in `places`,
    in the order of image_id.

    The data set is asked once, and not at all where it has no other import.
    """
    if _has_other_imports(store, session):
        revisions = catalog.sql(_REVISIONS, params=[session]).to_arrow_reader(_ROWS_AT_ONCE)
    else:
        revisions = pa.RecordBatchReader.from_batches(ANNOTATIONS, [])
    tables.register("revisions", revisions)
    tables.execute(_EARLIER)
    tables.unregister("revisions")


def _has_other_imports(store: Store, session: str) -> bool:
    """Whether masks of another import are there, also of one that was killed before it wrote an event."""
    keys = (parse_session_key(entry.key) for entry in store.list(ANNOTATIONS_PREFIX.rstrip("/")))
    return any(key and key.session != session and is_import(key.session) for key in keys)


def standing_before(
    tables: duckdb.DuckDBPyConnection, images: Sequence[str], rules: Rules
) -> defaultdict[str, list[Row]]:
    """The latest state of every mask that earlier imports of this source brought, by image: rows of ANNOTATIONS, from
    the table of `note_earlier`."""
    found = tables.sql(_LATEST, params=[list(images)]).to_arrow_table().select(ANNOTATIONS.names)
    before = defaultdict[str, list[Row]](list)
    for row in found.to_pylist():
        if row["mask_id"].startswith(id_prefix(rules, row["image_id"])):
            before[row["image_id"]].append(row)
    return before


def follow(incoming: pa.Table, before: Sequence[Row], rules: Rules, *, is_whole: bool) -> pa.Table:
    """What an import writes of an image: rows of ANNOTATIONS, those that stand already aside.

    Args:
        incoming: rows of ANNOTATIONS, the masks that the source holds.
        before: of `standing_before`.
        is_whole: whether nothing was left out of the image. Else masks may be missing by mistake, and none is removed;
            nor is one where a source is imported as a model's, whose masks are a run and no annotations.
    """
    held = incoming.to_pylist()
    latest = {row["mask_id"]: row for row in before}
    settled = {name for name, row in latest.items() if not is_import(row["session"])}
    changed = [
        row for row in held if row["mask_id"] not in settled and not _stands(row, latest.get(row["mask_id"]), rules)
    ]
    written = [row | {"revision": _next(latest.get(row["mask_id"]))} for row in changed]
    names = settled | {row["mask_id"] for row in held}
    gone = [row for row in before if not row["deleted"] and row["mask_id"] not in names]
    if is_whole and not rules.is_automatic:
        written += [_removed(row, rules) for row in gone]
    return pa.Table.from_pylist(written, schema=ANNOTATIONS)


def _stands(row: Row, before: Row | None, rules: Rules) -> bool:
    """Whether a mask is what its latest revision says, whichever import wrote that, and when if no time is stated."""
    if before is None:
        return False
    same = {"session": before["session"], "revision": before["revision"]}
    if row["created_at"] == rules.now:
        same["created_at"] = before["created_at"]
    return row | same == before


def _next(before: Row | None) -> int:
    return 1 if before is None else int(before["revision"]) + 1


def _removed(row: Row, rules: Rules) -> Row:
    new = {"session": rules.session, "annotator": rules.annotator, "created_at": rules.now, "seconds": 0.0}
    return row | new | {"revision": _next(row), "deleted": True, "clicks": 0, "brushed": 0}
