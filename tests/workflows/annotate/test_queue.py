"""Who gets which image, step by step."""

from datetime import UTC, datetime, timedelta

import pytest

from workflows.annotate.journal import PastEvent
from workflows.annotate.queue import HeldError, Queue

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORK = [("open", 150), ("save_mask", 100), ("save_mask", 30)]
"""What was done, and how many seconds ago; a lease is 60."""


def queue() -> Queue:
    return Queue(["a", "b", "c"], lease_seconds=60)


def past(image: str, action: str, annotator: str, note: str = "", at: datetime = NOW) -> PastEvent:
    return PastEvent(image, action, annotator, at, note)


def test_every_annotator_gets_an_image_of_their_own_and_keeps_it() -> None:
    q = queue()
    assert [q.next(name, NOW) for name in ("Ada", "Bob", "Ada", "Cleo", "Dan")] == ["a", "b", "a", "c", None]


def test_a_finished_or_skipped_image_makes_place_for_the_next() -> None:
    q = queue()
    q.next("Ada", NOW)
    q.note(past("a", "finish", "Ada"))
    assert q.next("Ada", NOW) == "b"
    q.note(past("b", "skip", "Ada"))
    assert q.next("Ada", NOW) == "c"
    assert q.next("Bob", NOW) == "b"


def test_a_silent_annotator_loses_the_image_after_the_lease() -> None:
    q = queue()
    q.next("Ada", NOW)
    with pytest.raises(HeldError, match="Ada is working"):
        q.hold("a", "Bob", NOW + timedelta(seconds=59))
    q.hold("a", "Bob", NOW + timedelta(seconds=61))
    with pytest.raises(HeldError, match="Bob"):
        q.hold("a", "Ada", NOW + timedelta(seconds=62))


def test_an_image_whose_masks_were_just_imported_is_free() -> None:
    q = queue()
    q.next("Bob", NOW)
    q.replay([past("a", "import", "Bob"), past("b", "import", "imported")])
    assert q.standing("b", NOW) == ("open", None, False, "")
    assert [q.next(name, NOW) for name in ("Ada", "Bob", "Cleo")] == ["b", "a", "c"]


def test_what_is_sent_back_goes_to_who_drew_it_before_anything_new() -> None:
    q = queue()
    for image in "ab":
        q.note(past(image, "finish", "Ada"))
    q.note(past("b", "send_back", "Rita", "too coarse"))
    assert q.standing("b", NOW) == ("sent_back", "Ada", False, "too coarse")
    assert q.next("Bob", NOW) == "c"
    assert q.next("Ada", NOW) == "b"
    q.note(past("b", "skip", "Ada"))
    assert q.next("Ada", NOW) is None
    assert q.next("Cleo", NOW) == "b"  # who drew it will not: then anybody
    q.release("b", "Cleo")
    q.note(past("b", "finish", "Ada"))
    q.note(past("b", "accept", "Rita"))
    assert q.standing("b", NOW).status == "accepted"


def test_what_was_skipped_before_it_was_finished_comes_back_too() -> None:
    q = queue()
    for action in ("skip", "finish"):
        q.note(past("b", action, "Ada"))
    q.note(past("b", "send_back", "Rita", "too coarse"))
    assert q.next("Ada", NOW) == "b"


def test_late_news_of_an_opening_takes_nothing_from_who_holds_the_image() -> None:
    now = datetime.now(UTC)
    q = queue()
    assert q.next("Bob", now) == "a"
    q.note(past("a", "open", "Ada", at=now - timedelta(seconds=30)))
    assert q.standing("a", now).person == "Bob"
    q.note(past("a", "open", "Bob", at=now - timedelta(seconds=30)))  # nor does his own shorten his time
    with pytest.raises(HeldError, match="Bob"):
        q.hold("a", "Cleo", now + timedelta(seconds=50))


def test_a_restart_remembers_who_was_at_work() -> None:
    now = datetime.now(UTC)
    q = queue()
    q.replay([past("a", "open", "Ada", at=now), past("b", "open", "Bob", at=now - timedelta(seconds=90))])
    assert q.next("Cleo", now) == "b"
    assert q.next("Ada", now) == "a"


def test_a_restart_takes_nothing_from_who_has_been_at_one_image_for_long() -> None:
    """Pages hold images by heartbeats, which are nowhere on disk; what was saved meanwhile is."""
    now = datetime.now(UTC)
    q = queue()
    q.replay(past("a", action, "Ada", at=now - timedelta(seconds=ago)) for action, ago in WORK)
    assert q.next("Bob", now) == "b"
    assert q.next("Ada", now) == "a"


def test_who_saves_and_has_no_heart_that_beats_is_not_silent() -> None:
    now = datetime.now(UTC)
    q = queue()
    q.next("Ada", now - timedelta(seconds=59))
    q.note(past("a", "save_mask", "Ada", at=now))
    with pytest.raises(HeldError, match="Ada"):
        q.hold("a", "Bob", now + timedelta(seconds=59))


def test_what_a_browser_kept_for_long_overrules_nothing_since() -> None:
    """As a restart has it, which reads events in the order in which they happened."""
    story = [
        past("a", "finish", "Ada", at=NOW),
        past("a", "finish", "Bob", at=NOW + timedelta(hours=1)),
        past("a", "send_back", "Rita", "too coarse", at=NOW + timedelta(hours=2)),
    ]
    later = NOW + timedelta(hours=3)
    for order in (story, story[1:] + story[:1]):
        q = queue()
        for event in order:
            q.note(event)
        assert q.standing("a", later) == ("sent_back", "Bob", False, "too coarse")
        assert q.next("Bob", later) == "a"


def test_a_clock_that_is_ahead_holds_no_image_for_longer() -> None:
    now = datetime.now(UTC)
    q = queue()
    q.note(past("a", "open", "Ada", at=now + timedelta(hours=5)))
    assert q.next("Bob", now + timedelta(seconds=59)) == "b"
    assert q.next("Cleo", now + timedelta(seconds=90)) == "a"


def test_who_looks_at_a_finished_image_again_goes_on_with_another() -> None:
    q = queue()
    q.note(past("a", "finish", "Ada"))
    q.hold("a", "Ada", NOW)
    assert q.next("Ada", NOW) == "b"


def test_who_holds_an_image_goes_on_and_others_events_do_not_free_it() -> None:
    q = queue()
    assert q.next("Bob", NOW) == "a"
    for action in ("finish", "skip", "leave"):
        q.note(past("a", action, "Ada"))
    q.hold("a", "Bob", NOW + timedelta(seconds=50))
    with pytest.raises(HeldError, match="Bob"):
        q.hold("a", "Cleo", NOW + timedelta(seconds=100))


def test_what_was_sent_back_waits_while_somebody_else_is_at_it() -> None:
    q = queue()
    q.note(past("b", "finish", "Ada"))
    q.note(past("b", "send_back", "Rita"))
    q.hold("b", "Rita", NOW)
    assert q.next("Ada", NOW) == "a"
    q.release("a", "Ada")
    q.release("b", "Rita")
    assert q.next("Ada", NOW) == "b"


def test_leaving_gives_back_and_strangers_give_back_nothing() -> None:
    q = queue()
    q.next("Ada", NOW)
    q.release("a", "Bob")
    assert q.standing("a", NOW).held
    q.release("a", "Ada")
    assert q.next("Bob", NOW) == "a"
    q.note(past("elsewhere", "finish", "Ada"))
