"""Which files may have rows of which images."""

import numpy as np
import pytest

from schemas.image_spans import ALL_DIGITS, FilesByImage, ImageSpan


def _spans(count: int) -> dict[str, ImageSpan]:
    """Of files that lie beside, over and in one another; of one without rows, and of one that may have any."""
    drawn = np.sort(np.random.default_rng(1).integers(0, 4096, (count, 2)), axis=1)
    spans = {f"file-{number}": ImageSpan(f"{a:03x}", f"{b:03x}") for number, (a, b) in enumerate(drawn.tolist())}
    return spans | {"none": ImageSpan(ALL_DIGITS, ""), "any": ImageSpan("", ALL_DIGITS)}


def test_found_are_those_that_may_hold_the_images() -> None:
    spans = _spans(60)
    files = FilesByImage(spans)
    for first, last in [("000", "000"), ("7", "7"), ("1f3", "2aa"), ("fff", "fff"), ("0", "f"), ("", "f")]:
        wanted = {key for key, span in spans.items() if span.may_hold(first, last)}
        assert set(files.holding(first, last)) == wanted, (first, last)
    assert FilesByImage({}).holding("0", "f") == []


def test_files_of_other_images_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    files = FilesByImage({f"{number:03x}": ImageSpan(f"{number:03x}0", f"{number:03x}f") for number in range(1000)})
    asked: list[str] = []
    whole = ImageSpan.may_hold
    monkeypatch.setattr(ImageSpan, "may_hold", lambda span, *more: asked.append(span.first) or whole(span, *more))
    assert files.holding("0801", "0822") == ["080", "081", "082"]
    assert asked == ["0800", "0810", "0820"]
