import duckdb
import numpy as np
import pytest

from workflows.report.bins import Bins, log_bins, real_bins, whole_bins


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def counted(
    connection: duckdb.DuckDBPyConnection, bins: Bins, values: list[float], *, kind: str = "DOUBLE"
) -> list[int]:
    """Values per bin as DuckDB counts them."""
    rows = ", ".join(f"({value!r}::{kind})" for value in values)
    found = connection.execute(f"SELECT {bins.sql('value')} FROM (VALUES {rows}) AS t(value)").fetchnumpy()
    (numbers,) = found.values()
    assert 0 <= numbers.min() <= numbers.max() < bins.count
    return np.bincount(numbers, minlength=bins.count).tolist()


@pytest.mark.parametrize(("low", "high"), [(0.88, 1.02), (-3, 5), (0.9999, 1), (1e-7, 2e-7), (-40, -12)])
def test_real_bins_hold_every_value_as_numpy_counts_them(
    connection: duckdb.DuckDBPyConnection, low: float, high: float
) -> None:
    values = np.random.default_rng(0).uniform(low, high, 500)

    bins = real_bins(values.min(), values.max())

    assert 10 <= bins.count <= 32
    np.testing.assert_array_equal(counted(connection, bins, values.tolist()), np.histogram(values, bins.edges)[0])


@pytest.mark.parametrize("low", [1e-4, 0.01, 0.7])
def test_log_bins_hold_every_value_as_numpy_counts_them(connection: duckdb.DuckDBPyConnection, low: float) -> None:
    values = np.exp(np.random.default_rng(0).uniform(np.log(low), 0, 500))

    bins = log_bins(values.min(), values.max())

    np.testing.assert_array_equal(counted(connection, bins, values.tolist()), np.histogram(values, bins.edges)[0])


def test_the_highest_value_does_not_get_a_bin_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    bins = real_bins(0.95, 1.0)

    assert bins.edges[-1] == pytest.approx(1.0)
    assert counted(connection, bins, [0.95, 1.0])[-1] == 1
    assert counted(connection, log_bins(0.01, 1.0), [1.0])[-1] == 1


def test_equal_values_make_one_bin(connection: duckdb.DuckDBPyConnection) -> None:
    for value in (0.5, 0.0, 1.0):
        assert counted(connection, real_bins(value, value), [value, value]) == [2]
    assert counted(connection, log_bins(1.0, 1.0), [1.0]) == [1]


def test_whole_bins_hold_equally_many_numbers(connection: duckdb.DuckDBPyConnection) -> None:
    bins = whole_bins(59)

    assert counted(connection, bins, list(range(60))) == [2] * 30
    assert bins.names[:2] == ["0 to 1", "2 to 3"]
    assert whole_bins(3).names == ["0", "1", "2", "3"]


def test_names_of_bins_say_their_edges() -> None:
    assert real_bins(0.88, 1.0).names[0] == "0.88 to 0.885"
    assert log_bins(0.01, 1).names[-1] == "0.7943 to 1"


def test_the_lowest_of_float32_has_a_bin(connection: duckdb.DuckDBPyConnection) -> None:
    """As scores are, which DuckDB divides as such; 0.93 to 0.95 and 0.01 wide, some fell below the first."""
    for low in np.arange(0.5, 1.0, 0.01):
        scores = np.array([low, low + 0.02], np.float32).tolist()
        assert sum(counted(connection, real_bins(*scores), scores, kind="FLOAT")) == 2
