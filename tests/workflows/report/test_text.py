from datetime import datetime

import pytest

from workflows.report import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (203.2, "203"), (6.8149, "6.81"), (0.00123, "0.00123"), (1.0, "1")]
    + [(123456.7, "123,457"), (-2.5, "-2.5"), (1000.0, "1,000")],
)
def test_figures(value: float | None, shown: str) -> None:
    assert text.figures(value) == shown


def test_shares_counts_and_times() -> None:
    assert text.share(1, 8) == "12.5 %"
    assert text.share(0, 0) == "–"
    assert text.time(datetime(2026, 1, 31, 12, 5)) == "2026-01-31 12:05 UTC"
    assert text.time(None) == "–"
