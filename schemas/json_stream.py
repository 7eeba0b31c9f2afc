"""A large JSON object read piece by piece: of its long lists only what becomes of each item is kept.

`json.loads` of masks takes about seven times the size of their text. Python's own parser is used here, too, on one item
after the other, so reading takes no longer.
"""

import codecs
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from schemas.json_fields import JsonObject, NoObjectError, as_object

Each = Callable[[JsonObject], object]
"""What becomes of an item of a list."""

_WINDOW = 1 << 20
"""Bytes that are decoded at once; more where one item is longer."""
_BEHIND = frozenset(",:]}")
"""What stands behind a value."""
_SPACE = re.compile(r"[ \t\n\r]*")
_TELLS_TRAILING_COMMAS = sys.version_info >= (3, 13)
"""json.loads names them since Python 3.13; before it told what it had expected behind them."""
_parse = json.JSONDecoder().raw_decode


def read_object(data: str | bytes, where: str, each: Mapping[str, Each]) -> JsonObject:
    """The object that a JSON document holds, as `parse_object` gives it, but for the lists named in `each`: these hold
    what its function made of every object in them.

    Raises:
        NoObjectError: it is no JSON, or not an object, or an item of such a list is none. The functions may raise more.
    """
    text = _Text(data, where)
    value = _members(text, where, each) if text.next() == "{" else text.value()
    if text.next():
        text.refuse("Extra data")
    return as_object(value, where)


def _members(text: "_Text", where: str, each: Mapping[str, Each]) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in text.separated("}"):
        name = text.value() if text.next() == '"' else text.refuse("Expecting property name enclosed in double quotes")
        assert isinstance(name, str)
        if text.next() != ":":
            text.refuse("Expecting ':' delimiter")
        text.skip()
        if name in each and text.next() == "[":
            found[name] = [
                each[name](as_object(text.value(), f"{where}: {name}[{index}]"))
                for index, _ in enumerate(text.separated("]"))
            ]
        else:
            found[name] = text.value()
    return found


class _Text:
    """A document of which a window is in memory as text, and where reading is in it."""

    def __init__(self, data: str | bytes, where: str) -> None:
        self._where = where
        self._pieces = _decoded(data, where)
        self._text, self._at = "", 0
        self._lines, self._columns, self._characters = 0, 0, 0  # before the window

    def next(self) -> str:
        """The next character that is no space, "" at the end; it is not passed."""
        while True:
            self._at = _end_of_space(self._text, self._at)
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Pass the character that `next` gave."""
        self._at += 1

    def separated(self, end: str) -> Iterator[None]:
        """Comes back before each member of a list or an object, of which reading is at the first sign."""
        self.skip()
        if self.next() != end:
            yield
            while self.next() == ",":
                if _TELLS_TRAILING_COMMAS and self._behind() == end:
                    self.refuse(f"Illegal trailing comma before end of {'object' if end == '}' else 'array'}")
                self.skip()
                yield
        if self.next() != end:
            self.refuse("Expecting ',' delimiter")
        self.skip()

    def value(self) -> object:
        """The value that comes next. Unless a sign stands behind it, it may go on behind the window, as numbers may."""
        self.next()
        while True:
            try:
                value, end = _parse(self._text, self._at)
            except json.JSONDecodeError as error:
                length = error.pos - self._at
                if not self._more():
                    self._at += length
                    self.refuse(error.msg)
                continue
            except (ValueError, RecursionError) as error:  # a number of more digits than Python reads
                raise NoObjectError(f"{self._where} is not JSON: {error}") from error
            length, behind = end - self._at, _end_of_space(self._text, end)
            if self._text[behind : behind + 1] in _BEHIND or not self._more():
                self._at += length
                return value

    def refuse(self, why: str) -> NoReturn:
        """Raise NoObjectError with the place that reading is at, as json.loads says it."""
        self._drop(self._at)
        line, column = self._lines + 1, self._columns + 1
        raise NoObjectError(f"{self._where} is not JSON: {why}: line {line} column {column} (char {self._characters})")

    def _behind(self) -> str:
        """The character that is no space behind the one that `next` gave, "" at the end."""
        while True:
            behind = _end_of_space(self._text, self._at + 1)
            if behind < len(self._text) or not self._more():
                return self._text[behind : behind + 1]

    def _more(self) -> bool:
        """Make the window longer by its own length at least, so that a long item is not read anew too often."""
        self._drop(self._at)
        least, pieces = len(self._text), list[str]()
        while sum(map(len, pieces)) <= least and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
        self._text = "".join([self._text, *pieces])
        return bool(pieces)

    def _drop(self, end: int) -> None:
        """Forget the window up to `end`."""
        line = self._text.rfind("\n", 0, end)
        self._lines += self._text.count("\n", 0, end)
        self._columns = self._columns + end if line < 0 else end - line - 1
        self._characters += end
        self._text, self._at = self._text[end:], 0


def _end_of_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    assert found is not None  # it matches nothing, too
    return found.end()


def _decoded(data: str | bytes, where: str) -> Iterator[str]:
    """The text of a document, in pieces, none of them empty. Raises NoObjectError when it is no text."""
    if isinstance(data, str):
        yield from (data[start : start + _WINDOW] for start in range(0, len(data), _WINDOW))
        return
    encoding = json.detect_encoding(data)
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for start in range(0, len(data), _WINDOW):
        try:
            piece = decoder.decode(data[start : start + _WINDOW], start + _WINDOW >= len(data))
        except UnicodeDecodeError as error:
            raise NoObjectError(f"{where} is not JSON: no {encoding} behind byte {start}: {error.reason}") from error
        if piece:
            yield piece
