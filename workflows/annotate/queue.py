"""Who works on which image: how far it is follows from events on disk, who holds it now from leases in memory."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from workflows.annotate.contract import Status
from workflows.annotate.journal import PastEvent
from workflows.exchange.selection import IMPORT_ACTION

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_DECISIVE = ("finish", "skip", "accept", "send_back")


class HeldError(ValueError):
    """An image that another annotator holds."""


class Standing(NamedTuple):
    """How far an image is: `person` holds it now if `held`, else finished it last; `note` is the reviewer's."""

    status: Status
    person: str | None
    held: bool
    note: str


@dataclass(slots=True)
class Place:
    """One image of the queue. `owner` finished it last, or was sent it back; `past` decided so, the oldest first."""

    past: list[PastEvent] = field(default_factory=list)
    status: Status = "open"
    owner: str | None = None
    note: str = ""
    skipped_by: set[str] = field(default_factory=set)
    holder: str | None = None
    held_until: datetime = _LONG_AGO

    def decide(self, event: PastEvent) -> None:
        """Let an event count at the time when it happened: what a browser kept for hours overrules nothing since."""
        insort(self.past, event, key=lambda each: each.happened_at)
        self.status, self.owner, self.note, self.skipped_by = "open", None, "", set()
        for each in self.past:
            self._follow(each)

    def _follow(self, event: PastEvent) -> None:
        match event.action:
            case "finish":
                self.status, self.owner, self.note = "done", event.annotator, ""
                self.skipped_by.discard(event.annotator)
            case "skip":
                self.skipped_by.add(event.annotator)
            case "accept":
                self.status, self.note = "accepted", ""
            case "send_back":
                self.status, self.note = "sent_back", event.note


class Queue:
    """The images of a task in order. Safe to use from several threads.

    An image goes to the first who asks, and stays with them until they finish or skip it, or are silent for longer than
    the lease. An image that a reviewer sends back goes to the one who drew it, before anything new; when they skip it,
    to anybody else. A skipped image is not offered to the same person again, unless it is sent back to them.
    """

    def __init__(self, images: Iterable[str], *, lease_seconds: float) -> None:
        self._places = {image: Place() for image in images}
        self._lease = timedelta(seconds=lease_seconds)
        self._lock = threading.Lock()

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def replay(self, events: Iterable[PastEvent]) -> None:
        """Take over what happened before this server started."""
        for event in events:
            self.note(event)

    def note(self, event: PastEvent) -> None:
        """Let an event move its image; events of images that are not in the queue are passed over."""
        place = self._places.get(event.image_id)
        if place is None:
            return
        with self._lock:
            self._apply(place, event)

    def next(self, annotator: str, now: datetime) -> str | None:
        """The image that this person shall work on, held for them from now on; None when nothing is left."""
        with self._lock:
            for wanted in (self._mine, self._returned, self._fresh):
                for image in wanted(annotator, now):
                    self._hold(self._places[image], annotator, now)
                    return image
        return None

    def hold(self, image_id: str, annotator: str, now: datetime) -> None:
        """Take an image, or go on holding it. Raises HeldError when somebody else has it."""
        with self._lock:
            place = self._places[image_id]
            if self._is_held(place, now) and place.holder != annotator:
                raise HeldError(f"{place.holder} is working on this image")
            self._hold(place, annotator, now)

    def release(self, image_id: str, annotator: str) -> None:
        """Give an image back; nothing happens if this person does not hold it."""
        with self._lock:
            place = self._places[image_id]
            if place.holder == annotator:
                place.holder = None

    def standing(self, image_id: str, now: datetime) -> Standing:
        """How far an image is."""
        with self._lock:
            place = self._places[image_id]
            held = self._is_held(place, now)
            return Standing(place.status, place.holder if held else place.owner, held, place.note)

    def _apply(self, place: Place, event: PastEvent) -> None:
        if event.action == IMPORT_ACTION:  # whoever drew what was imported is not at work here
            return
        if event.action in _DECISIVE:
            place.decide(event)
        if event.action not in (*_DECISIVE, "leave"):
            self._is_at_work(place, event)
        elif place.holder == event.annotator:
            place.holder = None

    def _is_at_work(self, place: Place, event: PastEvent) -> None:
        """Whoever does something to an image holds it; late news takes nothing from who holds it now."""
        moment = min(event.happened_at, datetime.now(UTC))
        if self._free(place, event.annotator, moment):
            self._hold(place, event.annotator, moment)

    def _hold(self, place: Place, annotator: str, now: datetime) -> None:
        until = now + self._lease
        place.held_until = max(place.held_until, until) if place.holder == annotator else until
        place.holder = annotator

    def _is_held(self, place: Place, now: datetime) -> bool:
        return place.holder is not None and place.held_until > now

    def _free(self, place: Place, annotator: str, now: datetime) -> bool:
        return not self._is_held(place, now) or place.holder == annotator

    def _mine(self, annotator: str, now: datetime) -> Iterator[str]:
        for image, place in self._places.items():
            if place.holder == annotator and self._is_held(place, now) and place.status in ("open", "sent_back"):
                yield image

    def _returned(self, annotator: str, now: datetime) -> Iterator[str]:
        for image, place in self._places.items():
            if self._is_for(place) == annotator and self._free(place, annotator, now):
                yield image

    def _fresh(self, annotator: str, now: datetime) -> Iterator[str]:
        for image, place in self._places.items():
            is_anybodys = place.status == "open" or (place.status == "sent_back" and self._is_for(place) is None)
            if is_anybodys and annotator not in place.skipped_by and self._free(place, annotator, now):
                yield image

    def _is_for(self, place: Place) -> str | None:
        """Whose turn it is, where an image was sent back to somebody who has not skipped it since."""
        return place.owner if place.status == "sent_back" and place.owner not in place.skipped_by else None
