"""Numbers as people read them."""

import pytest
from rich.console import Console

from workflows.evaluate.show import as_table, cell, fitting
from workflows.evaluate.task import PAPER, Figure


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure("a", "1 click", 0.5432), "54.3"),
        (Figure("a", "1 click", 0.5432, low=0.5, high=0.6), "54.3 (50.0-60.0)"),
        (Figure("a", "ODS", 0.7684, "fraction"), "0.768"),
        (Figure("a", "above", 18.5, "points"), "+18.5"),
        (Figure("a", "masks", 12345.0, "count"), "12,345"),
    ],
)
def test_units(figure: Figure, shown: str) -> None:
    assert cell(figure) == shown


def test_names_are_shown_as_they_are() -> None:
    names = ("photos[night]", "skin [/tone]", "a:x:b")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(as_table("groups", "m[1]", [Figure(name, f"at {name}", 0.5) for name in names]))
    for name in (*names, "at photos[night]", "at skin [/tone]", "m[1]"):
        assert name in capture.get()


CLICKS = [
    Figure(name, f"{count} clicks{kind}", 0.1234 + count / 100)
    for name in ("BBBC038v1", "mean of sets")
    for kind in ("", ", oracle")
    for count in (1, 2, 3, 5, 9)
]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_number_can_be_read_at_any_width(width: int) -> None:
    """On a terminal of 80 characters the ten columns of single-point were dots."""
    above = Figure("BBBC038v1", "1 click above RITM", 44.7, "points", origin=PAPER)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(fitting(console, "single-point", "vit_n", [*CLICKS, above]))
    text = capture.get()
    assert all(cell(figure) in text for figure in [*CLICKS, above])
    assert "…" not in text
    assert ("paper: BBBC038v1" in text, max(map(len, text.splitlines())) <= width) == (True, True)
    assert (len(text.splitlines()) > 15) == (width < 200)  # a line for each


def test_rows_of_ours_stand_above_the_papers() -> None:
    figures = [Figure("SAM", "ODS", 0.768, "fraction", origin=PAPER), Figure("mine", "AP", 0.5, "fraction")]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(as_table("edges", "vit_n", figures))
    text = capture.get()
    assert text.index("mine") < text.index("paper: SAM")
    assert "0.768" in text
