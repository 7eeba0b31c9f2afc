"""A generator that works on one image after the other, out of any function that makes the masks of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.batch import Generation


@dataclass(frozen=True, slots=True)
class OneByOne:
    """See workflows.models.Generator."""

    generate: Callable[[NDArray[np.uint8]], Generation]
    images_at_once: int = 1

    def attempt_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Generation | Exception]:
        """See Generator."""
        for image in images:
            try:
                yield self.generate(image)
            except Exception as error:  # whatever happens to one image must not cost the others
                yield error
