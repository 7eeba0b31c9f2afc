"""Typed fields out of JSON that others wrote; what is missing or of the wrong kind is said with its place."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NoReturn, TypeGuard


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object and where it stands, such as `instances.json: annotations[3]`."""

    values: dict[str, object]
    where: str

    def integer(self, name: str) -> int:
        """A whole number, also when written as 5.0. Raises ValueError."""
        value = self._get(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else self._refuse(name, "a whole number")

    def number(self, name: str) -> float:
        """A finite number. Raises ValueError."""
        value = self._get(name)
        return float(value) if is_number(value) else self._refuse(name, "a number")

    def text(self, name: str) -> str:
        """A string. Raises ValueError."""
        value = self._get(name)
        return value if isinstance(value, str) else self._refuse(name, "a text")

    def items(self, name: str) -> list[object]:
        """A list of anything. Raises ValueError."""
        value = self._get(name)
        return value if isinstance(value, list) else self._refuse(name, "a list")

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers. Raises ValueError."""
        values = self.items(name)
        if len(values) != count or not all(map(is_number, values)):
            self._refuse(name, f"a list of {count} numbers")
        return tuple(float(value) for value in values)  # type: ignore[arg-type]

    def points(self, name: str) -> tuple[tuple[float, float], ...]:
        """A list of [x, y]. Raises ValueError."""
        points = self.items(name)
        pairs = [p for p in points if isinstance(p, list) and len(p) == 2 and all(map(is_number, p))]
        if len(pairs) < len(points):
            raise ValueError(f"{self.where}: {name} must be a list of [x, y]")
        return tuple((float(x), float(y)) for x, y in pairs)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers. Raises ValueError."""
        values = self.items(name)
        if not all(type(value) is int for value in values):
            self._refuse(name, "a list of whole numbers")
        return tuple(values)  # type: ignore[arg-type]

    def size(self) -> tuple[int, int]:
        """The `size` of an RLE: (height, width), px, at least 1. Raises ValueError."""
        size = self.integers("size")
        if len(size) != 2 or min(size) < 1:
            self._refuse("size", "[height, width] of at least 1 px")
        return size[0], size[1]

    def child(self, name: str) -> "JsonObject":
        """An object. Raises ValueError."""
        return as_object(self._get(name), f"{self.where}: {name}")

    def children(self, name: str) -> "Iterator[JsonObject]":
        """The objects of a list, each of which knows its place. Raises ValueError."""
        for index, value in enumerate(self.items(name)):
            yield as_object(value, f"{self.where}: {name}[{index}]")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def _get(self, name: str) -> object:
        if name not in self.values:
            raise ValueError(f"{self.where} has no {name}")
        return self.values[name]

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        shown = repr(self.values[name])
        raise ValueError(f"{self.where}: {name} is {shown[:60]}{'...' if len(shown) > 60 else ''}; it must be {wanted}")


class NoObjectError(ValueError):
    """What ought to be a JSON object is none, or no JSON."""


def parse_object(text: str | bytes, where: str) -> JsonObject:
    """The object that a JSON document holds. Raises NoObjectError when it is not JSON, or not an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoObjectError(f"{where} is not JSON: {error}") from error
    return as_object(value, where)


def as_object(value: object, where: str) -> JsonObject:
    """`value` as an object. Raises NoObjectError when it is something else."""
    if not isinstance(value, dict):
        raise NoObjectError(f"{where} must be an object, not {type(value).__name__}")
    return JsonObject(value, where)


def fields_of(value: object) -> dict[str, object]:
    """The fields of a dataclass, as they are: `asdict` copies whatever is in them, which takes ten times as long.

    Raises TypeError for anything else, as `default` of json.dumps shall.
    """
    return {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number that a float can hold; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
