"""Saves of annotators that were merged: which files count.

Each save is a file of masks and one of events, so that it is whole or absent; but whoever asks for a hundred thousand
of them waits for as many small files. A merger names two larger files and the parts whose rows they hold. The parts
stay, so that nothing is lost with a merger, and one whose files are not all there is as if it were not, either.
"""

from __future__ import annotations

from bisect import bisect_right
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

    Args:
        keys: all that were listed, whatever they are.
        mergers: record by its key. Raises ValueError (one line) for a damaged one.
    """
    there = set(keys)
    whole = {key: each for key, each in mergers.items() if {each.masks, each.events} - {None} <= there}
    files = {each.masks for each in whole.values()} | {each.events for each in whole.values()}
    merged = [each for key in sorted(whole) for each in merged_ranges(whole[key], key)]
    rows = _Rows(merged)
    return Saves(sorted(key for key in there if key in files or _is_apart(key, rows)), merged)


def _is_apart(key: str, rows: _Rows) -> bool:
    part = parse_session_key(key)
    return part is not None and part not in rows


class _Rows:
    """Whether a part is in one of many rows of parts."""

    def __init__(self, ranges: Iterable[PartRange]) -> None:
        self._firsts: dict[tuple[str, str], list[int]] = {}
        self._lasts: dict[tuple[str, str], list[int]] = {}
        for each in sorted(ranges):
            self._firsts.setdefault(each[:2], []).append(each.first)
            self._lasts.setdefault(each[:2], []).append(each.last)

    def __contains__(self, part: SessionKey) -> bool:
        place = (part.table, part.session)
        at = bisect_right(self._firsts.get(place, ()), part.part) - 1
        return at >= 0 and part.part <= self._lasts[place][at]
