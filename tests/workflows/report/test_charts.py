import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.report.charts import Marker, grouped_bars, histogram, nice_step, stacked

AXES = {"x_label": "x", "y_label": "y"}


@given(st.floats(1e-6, 1e9), st.integers(1, 40))
def test_a_nice_step_is_1_2_or_5_times_a_power_of_ten_and_covers_the_span(span: float, steps: int) -> None:
    step = nice_step(span, steps)
    leading = float(f"{step:e}".split("e")[0])
    assert leading in (1, 2, 5)
    assert step * steps >= span * (1 - 1e-6)
    assert step * steps <= 2.5 * span * (1 + 1e-6)  # the next smaller one would not cover it


def test_bars_stand_on_the_base_line_and_show_their_share() -> None:
    chart = grouped_bars(["a", "b"], np.array([[40.0, 60.0], [0.0, 100.0]]), titles=[["1", "2"], ["3", "4"]], **AXES)

    assert [tick.label for tick in chart.y_ticks] == ["0 %", "50 %", "100 %"]
    assert [bar.height for bar in chart.bars] == [40, 60, 0, 100]
    assert all(bar.y + bar.height == pytest.approx(100) for bar in chart.bars)
    assert [bar.title for bar in chart.bars] == ["1", "2", "3", "4"]
    assert [bar.series for bar in chart.bars] == [0, 0, 1, 1]
    assert {tick.label: tick.at for tick in chart.x_ticks} == {"a": 25, "b": 75}
    first, second, third, _ = chart.bars
    assert first.x + first.width == pytest.approx(third.x)  # beside each other
    assert second.x > 50


def test_histogram_draws_steps_over_its_bins() -> None:
    chart = histogram(np.array([0.0, 1, 2]), np.array([[25.0, 100.0]]), titles=["low", "high"], **AXES)

    assert chart.outlines[0].path == "M0 100V75H50V0H100V100Z"
    assert [(column.x, column.width, column.title) for column in chart.columns] == [(0, 50, "low"), (50, 50, "high")]


def test_markers_lie_at_their_value_and_only_on_the_plot() -> None:
    edges = np.array([0.90, 0.95, 1.0])
    markers = [Marker(0.95, "here"), Marker(0.90, "edge", 1), Marker(0.5, "off")]

    chart = histogram(edges, np.ones((1, 2)), titles=["", ""], markers=markers, **AXES)

    assert [(marker.label, marker.x, marker.series) for marker in chart.markers] == [("here", 50, None), ("edge", 0, 1)]


def test_a_marker_survives_the_rounding_of_its_edge() -> None:
    edges = (np.arange(3) + 475) * 0.002
    assert histogram(edges, np.ones((1, 2)), titles=["", ""], markers=[Marker(0.95, "")], **AXES).markers


def test_logarithmic_axis_has_decades_for_ticks() -> None:
    chart = histogram(10.0 ** np.arange(-4, 1), np.ones((1, 4)), titles=[""] * 4, log=True, **AXES)

    assert {tick.label: tick.at for tick in chart.x_ticks} == {
        "0.0001": 0,
        "0.001": 25,
        "0.01": 50,
        "0.1": 75,
        "1": 100,
    }


def test_a_short_logarithmic_axis_has_ticks_between_the_decades() -> None:
    chart = histogram(np.array([0.01, 0.1, 1]), np.ones((1, 2)), titles=["", ""], log=True, **AXES)

    assert [tick.label for tick in chart.x_ticks] == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]


def test_charts_of_nothing_have_axes() -> None:
    chart = histogram(np.array([0.0, 1]), np.zeros((0, 1)), titles=[""], **AXES)

    assert len(chart.y_ticks) > 1
    assert chart.outlines == ()


def test_stacks_share_one_scale_and_leave_out_empty_parts() -> None:
    stack = stacked(np.array([[3.0, 0, 1], [1, 1, 0]]), titles=[["a", "b", "c"], ["d", "e", "f"]])

    long, short = stack.rows
    assert [(bar.x, bar.width, bar.series, bar.title) for bar in long] == [(0, 75, 0, "a"), (75, 25, 2, "c")]
    assert [(bar.x, bar.width, bar.series) for bar in short] == [(0, 25, 0), (25, 25, 1)]
