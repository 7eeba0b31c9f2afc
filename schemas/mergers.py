"""Saves of annotators that were merged: which files count.

Each save is a file of masks and one of events, so that it is whole or absent; but whoever asks for a hundred thousand
of them waits for as many small files. A merger names two larger files and the parts whose rows they hold. The parts
stay, so that nothing is lost with a merger, and one whose files are not all there is as if it were not, either.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.layout import SavesTable, SessionKey, parse_session_key
from schemas.records import MergerRecord


class PartRange(NamedTuple):
    """Parts of a session, the first and the last of a row without gaps."""

    table: SavesTable
    session: str
    first: int
    last: int


def ranges_of(parts: Iterable[SessionKey]) -> list[PartRange]:
    """The same parts as rows without gaps, in order."""
    found: list[PartRange] = []
    for part in sorted(parts, key=lambda each: (each.table, each.session, each.part)):
        if found and found[-1][:2] == (part.table, part.session) and found[-1].last + 1 == part.part:
            found[-1] = found[-1]._replace(last=part.part)
        else:
            found.append(PartRange(part.table, part.session, part.part, part.part))
    return found


def as_document(ranges: Iterable[PartRange]) -> dict[str, object]:
    """`MergerRecord.parts`."""
    document: dict[str, dict[str, list[list[int]]]] = {}
    for each in ranges:
        document.setdefault(each.table, {}).setdefault(each.session, []).append([each.first, each.last])
    return dict(document)


def merged_ranges(merger: MergerRecord, where: str) -> list[PartRange]:
    """Inverse of `as_document`. Raises ValueError, which says where, for a document that is damaged."""
    try:
        return [
            PartRange(table, session, int(first), int(last))  # type: ignore[arg-type]
            for table, sessions in merger.parts.items()
            for session, rows in sessions.items()  # type: ignore[attr-defined]
            for first, last in rows
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: damaged; delete it, and the saves are read from files of their own") from error


class Saves(NamedTuple):
    """keys: of the files that count, in order: merged ones, and parts that none of these holds. merged: what these
    hold."""

    keys: list[str]
    merged: list[PartRange]


def counted(keys: Iterable[str], mergers: Mapping[str, MergerRecord]) -> Saves:
    """What of the files below `annotations/` counts.

    Whoever listed a merger before its files takes its parts for new ones and may merge them again. Of mergers that have
    a part in common the first counts, for every reader alike; what else another one holds is read from its parts.

    Args:
        keys: all that were listed, whatever they are.
        mergers: record by its key. Raises ValueError (one line) for a damaged one.
    """
    there, rows, files, merged = set(keys), _Rows(), set[str](), list[PartRange]()
    for key in sorted(mergers):
        own = {file for file in (mergers[key].masks, mergers[key].events) if file}
        ranges = merged_ranges(mergers[key], key)
        if own and own <= there and not any(map(rows.meet, ranges)):
            rows.add(ranges)
            files |= own
            merged += ranges
    return Saves(sorted(key for key in there if key in files or _is_apart(key, rows)), merged)


def _is_apart(key: str, rows: _Rows) -> bool:
    part = parse_session_key(key)
    return part is not None and not rows.meet(PartRange(part.table, part.session, part.part, part.part))


class _Rows:
    """Rows of parts, none of which is in two of them."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def add(self, ranges: Iterable[PartRange]) -> None:
        for each in ranges:
            insort(self._rows.setdefault(each[:2], []), each[2:])

    def meet(self, other: PartRange) -> bool:
        """Whether a part of another row is in one of them."""
        rows = self._rows.get(other[:2], [])
        at = bisect_right(rows, other.last, key=lambda row: row[0]) - 1
        return at >= 0 and rows[at][1] >= other.first
