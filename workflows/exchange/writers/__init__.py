"""One file per format that masks are exported to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sam_core.ahead import ahead
from workflows.exchange.pictures import Picture, is_redrawn, plain_name, read_picture, suffix_of
from workflows.exchange.selection import ExportImage, Page, Totals
from workflows.exchange.target import Target
from workflows.images import ImageError
from workflows.uris import UriReader

Done = TypeVar("Done")
AT_ONCE = 16
"""Pictures that are read or written at the same time."""
PIXELS_AT_ONCE = 2**27
"""Of pictures that are unpacked at the same time: with what is made of it, a pixel takes some 17 bytes."""

OWNED = re.compile(
    r"sa_\d+\.(json|jpg|png)"
    r"|instances\.json|lvis\.json"
    r"|(images|train)/[0-9a-f]{32}\.(jpg|png)|train/metadata\.jsonl"
    r"|labels(-\d+)?/[0-9a-f]{32}\.png|masks/[0-9a-f]{32}\.csv"
    r"|data/train-\d{5,}-of-\d{5,}\.parquet|README\.md"
    r"|train-\d{6,}\.tar"
    r"|left_out/\d{6,}\.record"
)
"""Every key that an export may write, but for its record."""


class Writer(Protocol):
    """Writes the pages of an export in order, each as whole objects."""

    def is_done(self, page: Page) -> bool:
        """Whether an earlier command has written everything of this page."""

    def write(self, page: Page, images: list[ExportImage]) -> None:
        """Write a page, or images of it. Raises ImageError where a picture cannot be read, which leaves the page to be
        written anew without it; else ValueError or OSError, one line each."""

    def finish(self, images: int, masks: int) -> None:
        """Write what holds all pages together, of so many images and masks."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all writers are told. `pages` is how many there will be. `anew`: nothing that lies there counts as done, as
    where an earlier export was deleted all."""

    target: Target
    totals: Totals
    pages: int
    pictures: bool
    max_pixels: int
    reader: UriReader
    anew: bool

    def picture(self, image: ExportImage) -> Picture:
        """The picture of an image. Raises ImageError (one line)."""
        return read_picture(image, self.reader, max_pixels=self.max_pixels)

    def unread(self, images: list[ExportImage]) -> dict[str, str]:
        """Why the pictures of some images cannot be read, by image_id."""

        def problem(image: ExportImage) -> str:
            try:
                self.picture(image)
            except ImageError as error:
                return str(error)
            return ""

        problems = zip(images, self.each_picture(images, problem), strict=True)
        return {image.image_id: why for image, why in problems if why}

    def each_picture(
        self, images: list[ExportImage], work: Callable[[ExportImage], Done], *, unpacked: bool = False
    ) -> Iterator[Done]:
        """What comes of work on the picture of each image, in order; several are worked on at the same time.

        unpacked: whether the work unpacks all of them, rather than those alone that do not keep their bytes.
        """
        count = at_once(image.height * image.width for image in images if unpacked or is_redrawn(image))
        with ThreadPoolExecutor(count) as workers:
            yield from ahead(workers, work, images, count)

    def put_pictures(self, images: list[ExportImage], *, folder: str = "images") -> dict[str, str]:
        """Write pictures that are not there yet into a folder; the file name of each by image_id. Without pictures,
        the names that the files have where they lie."""
        if not self.pictures:
            return {image.image_id: plain_name(image, self.totals.folder) for image in images}
        names = {image.image_id: f"{image.image_id}{self.suffix(image)}" for image in images}

        def put(image: ExportImage) -> None:
            self.put_picture(f"{folder}/{names[image.image_id]}", image)

        exhaust(self.each_picture(images, put))
        return names

    def put_picture(self, key: str, image: ExportImage) -> None:
        """Write one picture unless it is there: in an export that goes on its name says what it holds."""
        if self.anew or not self.target.store.exists(key):
            self.target.put(key, self.picture(image).data)

    def suffix(self, image: ExportImage) -> str:
        """The ending of the picture's name."""
        return suffix_of(image, self.reader, max_pixels=self.max_pixels)


def at_once(unpacked: Iterable[int]) -> int:
    """How many pictures are worked on at the same time, where pictures of so many px are unpacked for it."""
    return max(1, min(AT_ONCE, PIXELS_AT_ONCE // max(unpacked, default=1)))


def exhaust(work: Iterator[None]) -> None:
    """Wait for all of it."""
    for _ in work:
        pass
