"""Images of an export whose pictures cannot be read: noted in OUT page by page, and tried again by the next command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.target import Target
from workflows.exchange.writers import Job, Writer
from workflows.images import ImageError

_FOLDER = "left_out"
_SUFFIX = ".record"
"""Not `.json`, which readers of SA-1B would take for masks."""


@dataclass(slots=True)
class LeftOut:
    """What one command leaves out, and which pages are noted as lacking something."""

    target: Target
    noted: set[int]
    lines: list[str] = field(default_factory=list)
    images: int = 0
    masks: int = 0

    def write(self, writer: Writer, job: Job, page: Page, images: list[ExportImage]) -> int:
        """Write what can be read of a page; how many images cannot. The note comes first, so that no page without it
        lacks anything. Raises what `Writer.write` raises, but ImageError only for a picture that could be read before.
        """
        try:
            writer.write(page, images)
            unread: dict[str, str] = {}
        except ImageError:
            unread = job.unread(images)
            self._note(page, unread)
            if readable := [image for image in images if image.image_id not in unread]:
                writer.write(page, readable)
        if page.number in self.noted and not unread:
            self.target.store.delete(_key(page.number))
        self.lines += unread.values()
        self.images += len(unread)
        self.masks += sum(len(image.masks) for image in images if image.image_id in unread)
        return len(unread)

    def _note(self, page: Page, unread: dict[str, str]) -> None:
        rows = [json.dumps({"image_id": image, "why": why}) for image, why in unread.items()]
        if rows:
            self.target.put(_key(page.number), "\n".join([*rows, ""]).encode())


def noted_in(target: Target) -> LeftOut:
    """What earlier commands noted there."""
    return LeftOut(target, set(_pages(target)))


def _pages(target: Target) -> Iterator[int]:
    for entry in target.store.list(_FOLDER):
        name = entry.key.removeprefix(f"{_FOLDER}/").removesuffix(_SUFFIX)
        if name.isdecimal():
            yield int(name)


def _key(page: int) -> str:
    return f"{_FOLDER}/{page:06d}{_SUFFIX}"
