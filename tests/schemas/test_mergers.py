"""Which saves count, beside a count by hand; and mergers that are not whole, or damaged."""

from __future__ import annotations

from random import Random

import pytest

from schemas.layout import SessionKey, annotations_key, events_key, merged_key, merger_key, session_key
from schemas.mergers import PartRange, as_document, counted, merged_ranges, ranges_of
from schemas.records import MergerRecord, from_json, to_json
from tests.schemas.rows import START

MASKS, EVENTS = merged_key("masks", "a" * 64), merged_key("events", "b" * 64)


def merger(parts: list[SessionKey], *, masks: str | None = MASKS, events: str | None = EVENTS) -> MergerRecord:
    return MergerRecord(created_at=START, masks=masks, events=events, parts=as_document(ranges_of(parts)))


def drawn(random: Random, chance: float) -> list[SessionKey]:
    return [
        SessionKey(table, session, part)  # type: ignore[arg-type]
        for table in ("masks", "events")
        for session in ("s", "t.1")
        for part in range(1, 40)
        if random.random() < chance
    ]


@pytest.mark.parametrize("seed", range(20))
def test_each_row_counts_once(seed: int) -> None:
    random = Random(seed)
    there = drawn(random, random.random())
    merged = [part for part in there if random.random() < 0.6]
    record = from_json(MergerRecord, to_json(merger(merged)), where="merger")
    keys = [*map(session_key, there), MASKS, EVENTS, "annotations/masks/notes.txt", merged_key("masks", "c" * 64)]
    random.shuffle(keys)
    found = counted(keys, {merger_key(1): record})
    apart = {session_key(part) for part in set(there) - set(merged)}
    assert found.keys == sorted({MASKS, EVENTS} | apart)
    expanded = [
        SessionKey(each.table, each.session, part) for each in found.merged for part in range(each.first, each.last + 1)
    ]
    assert sorted(map(session_key, expanded)) == sorted(map(session_key, merged))


def test_of_mergers_with_a_part_in_common_the_first_counts() -> None:
    parts = [SessionKey("masks", "s", part) for part in range(1, 8)]
    others = [merged_key("masks", letter * 64) for letter in "de"]
    own = [session_key(part) for part in parts]
    mergers = {
        merger_key(1): merger(parts[1:3], events=None),
        merger_key(2): merger(parts[2:5], masks=others[0], events=None),
        merger_key(10): merger(parts[4:6], masks=others[1], events=None),
    }
    found = counted([*own, MASKS, *others], mergers)
    assert found.keys == sorted([MASKS, others[1], own[0], own[3], own[6]])
    assert found.merged == [PartRange("masks", "s", 2, 3), PartRange("masks", "s", 5, 6)]
    assert counted([*own, *others], mergers).keys == sorted([others[0], own[0], own[1], own[5], own[6]])


def test_rows_without_gaps() -> None:
    parts = [SessionKey("masks", "s", part) for part in (5, 1, 2, 3, 7)]
    assert ranges_of([*parts, SessionKey("events", "s", 4)]) == [
        PartRange("events", "s", 4, 4),
        PartRange("masks", "s", 1, 3),
        PartRange("masks", "s", 5, 5),
        PartRange("masks", "s", 7, 7),
    ]
    assert ranges_of([]) == []


def test_a_merger_whose_files_are_not_all_there_does_not_count() -> None:
    parts = [SessionKey("masks", "s", 1), SessionKey("events", "s", 1)]
    own = [events_key("s", 1), annotations_key("s", 1)]
    for there in ([], [MASKS], [EVENTS]):
        assert counted([*own, *there], {merger_key(1): merger(parts)}).keys == own
    assert counted(own, {merger_key(1): merger(parts, masks=None, events=None)}).keys == own
    only_events = merger(parts[1:], masks=None)
    assert counted([*own, EVENTS], {merger_key(1): only_events}).keys == [EVENTS, annotations_key("s", 1)]


@pytest.mark.parametrize(
    "parts", [{"masks": {"s": [1, 2]}}, {"masks": [1]}, {"masks": {"s": [["a", 2]]}}, {"masks": 1}]
)
def test_a_damaged_merger_is_named(parts: dict[str, object]) -> None:
    record = MergerRecord(created_at=START, masks=MASKS, events=None, parts=parts)
    with pytest.raises(ValueError, match=r"mergers/00000001\.json: damaged; delete it") as caught:
        merged_ranges(record, merger_key(1))
    assert "\n" not in str(caught.value)
