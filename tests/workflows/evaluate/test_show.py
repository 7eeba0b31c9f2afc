"""Numbers as people read them."""

import pytest
from rich.console import Console

from workflows.evaluate.show import as_table, cell
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


def test_rows_of_ours_stand_above_the_papers() -> None:
    figures = [Figure("SAM", "ODS", 0.768, "fraction", origin=PAPER), Figure("mine", "AP", 0.5, "fraction")]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(as_table("edges", "vit_n", figures))
    text = capture.get()
    assert text.index("mine") < text.index("paper: SAM")
    assert "0.768" in text
