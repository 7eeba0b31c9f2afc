"""CVAT's XML for images, version 1.1: masks and polygons. Boxes, points and lines are no masks and are left out.

The document is read by defusedxml, which refuses document types and entities.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from schemas.ids import content_hash
from workflows.exchange.readers import IncomingImage, IncomingMask
from workflows.exchange.readers.names import PictureFolder
from workflows.exchange.readers.rasters import box_runs_rle, polygon_rle
from workflows.uris import ImageRef

_NOT_SHAPES = ("tag", "attribute")


@dataclass(slots=True)
class _Image:
    height: int
    width: int
    shapes: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # key, tag, attributes


class CvatSource:
    """Attributes of all shapes are in memory, the tree of the document is not.

    Raises ValueError (one line) when it is no such document, or a picture cannot be found.
    """

    kind = "cvat"
    automatic = False
    lost = ()

    def __init__(self, name: str, data: bytes, folder: PictureFolder, *, max_pixels: int) -> None:
        self.name, self.digest, self._max_pixels = name, content_hash(data), max_pixels
        self._references: dict[str, ImageRef] = {}
        self._images: dict[str, _Image] = {}
        try:
            for _, element in iterparse(io.BytesIO(data), events=("end",), forbid_dtd=True):
                if element.tag == "image":
                    self._add(element, folder)
                    element.clear()
        except (ParseError, DefusedXmlException) as error:
            raise ValueError(f"{name}: not a CVAT XML ({' '.join(str(error).split())[:200]})") from error
        if not self._images:
            raise ValueError(f"{name}: no <image>; export from CVAT as 'CVAT for images 1.1'")

    def references(self) -> Iterator[ImageRef]:
        return iter(self._references.values())

    def load(self, uri: str) -> IncomingImage:
        image = self._images[uri]
        masks: list[IncomingMask] = []
        refused: list[str] = []
        for key, tag, attributes in image.shapes:
            try:
                masks.append(_mask(key, tag, attributes, image))
            except ValueError as error:
                refused.append(f"{self.name}: {uri.rpartition('/')[2]}: {tag} {key}: {error}")
        return IncomingImage(image.height, image.width, tuple(masks), tuple(refused))

    def _add(self, element: Element, folder: PictureFolder) -> None:
        try:
            reference = folder.find(element.attrib["name"])
            height, width = int(element.attrib["height"]), int(element.attrib["width"])
        except KeyError as error:
            raise ValueError(f"{self.name}: an <image> has no {error}") from error
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if not 0 < height * width <= self._max_pixels:
            raise ValueError(f"{self.name}: {reference.uri} is stated to be {width}x{height} px, outside of the limits")
        self._references[reference.uri] = reference
        number = element.attrib.get("id", str(len(self._images)))
        image = self._images.setdefault(reference.uri, _Image(height, width))
        if (image.height, image.width) != (height, width):
            raise ValueError(f"{self.name}: {reference.uri} is stated to be of several sizes")
        for shape in (child for child in element if child.tag not in _NOT_SHAPES):
            image.shapes.append((f"{number}.{len(image.shapes)}", shape.tag, dict(shape.attrib)))


def is_export(data: bytes) -> bool:
    """Whether the bytes look like an XML document."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _mask(key: str, tag: str, attributes: dict[str, str], image: _Image) -> IncomingMask:
    try:
        rle = _rle(tag, attributes, image)
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
    details: dict[str, Any] = {"id": key}
    return IncomingMask(key, rle, details=details | ({"category": label} if (label := attributes.get("label")) else {}))


def _rle(tag: str, attributes: dict[str, str], image: _Image) -> bytes:
    if tag == "polygon":
        corners = [_corner(text) for text in attributes["points"].split(";")]
        return polygon_rle(corners, height=image.height, width=image.width)
    if tag == "mask":
        box = tuple(int(attributes[side]) for side in ("left", "top", "width", "height"))
        runs = [int(text) for text in attributes["rle"].split(",")]
        return box_runs_rle(runs, (box[0], box[1], box[2], box[3]), height=image.height, width=image.width)
    raise ValueError("is no mask")


def _corner(text: str) -> tuple[float, float]:
    x, _, y = text.partition(",")
    return float(x), float(y)
