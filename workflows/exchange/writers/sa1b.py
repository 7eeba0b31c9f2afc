"""SA-1B: `sa_N.json` beside `sa_N.jpg`, as the released data set has them (segment-anything README, "Dataset")."""

from __future__ import annotations

from dataclasses import dataclass

from schemas import sa1b
from workflows.exchange.pictures import plain_name
from workflows.exchange.selection import ExportImage, Page, Totals
from workflows.exchange.writers import Job, exhaust


def require_scores(totals: Totals) -> None:
    """Raise ValueError (one line) when masks are chosen that SA-1B cannot hold."""
    if totals.unscored:
        raise ValueError(
            f"SA-1B states scores, point and crop of every mask; {totals.unscored:,} of those chosen were drawn by "
            "people and lack them: export DATASET@masks, or use --format coco"
        )


@dataclass(frozen=True, slots=True)
class Sa1bWriter:
    """Picture and masks of each image; the last document of a page is written last and commits it."""

    job: Job

    def is_done(self, page: Page) -> bool:
        return self.job.target.store.exists(f"sa_{page.first_image + len(page.rows)}.json")

    def write(self, page: Page, images: list[ExportImage]) -> None:
        exhaust(self.job.each_picture(images[:-1], self._put))
        self._put(images[-1])

    def finish(self, images: int, masks: int) -> None:
        pass

    def _put(self, image: ExportImage) -> None:
        name = self._put_picture(image) if self.job.pictures else plain_name(image, self.job.totals.folder)
        info = sa1b.ImageInfo(image.number, image.width, image.height, name)
        document = sa1b.document_of(info, image.masks, first_id=image.first_mask)
        self.job.target.put(f"sa_{image.number}.json", sa1b.to_json(document).encode())

    def _put_picture(self, image: ExportImage) -> str:
        name = f"sa_{image.number}{self.job.suffix(image)}"
        self.job.put_picture(name, image)
        return name
