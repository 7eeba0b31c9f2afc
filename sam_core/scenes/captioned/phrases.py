"""Phrases that mean one thing of a scene and no other, in wordings of which some are kept apart.

A description says some of: shape, colour, texture, size, how high or how far left, and one relation (beside another
thing, on it, or carrying it). It is used only where a single thing of the scene fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from sam_core.scenes.captioned.things import COLOURS, SHAPES, TEXTURES, Side, Thing, beside, carried, side_of

Rng = np.random.Generator
_TRIES = 40
_SYNONYMS = {"circle": "disc", "square": "box", "cross": "plus", "moon": "crescent"}
_CLAUSES = {"striped": "with stripes", "dotted": "with dots", "checkered": "with checks", "plain": "without a pattern"}
_SIDES = {
    Side.LEFT: ("left of", "to the left of"),
    Side.RIGHT: ("right of", "to the right of"),
    Side.ABOVE: ("above", "over"),
    Side.BELOW: ("below", "under"),
}
_SAID, _TRUE = 0.35, 0.5
"""How near to a side of the scene a place is said, and up to where it is still true, so that phrases are safe."""
_PLACES = {"top": "at the top", "bottom": "at the bottom", "left": "on the left", "right": "on the right"}


class Wording(StrEnum):
    """How a description is put into words; what is said in HELD_OUT ways uses the same words in another order."""

    TRAINED = "trained"
    HELD_OUT = "held_out"


class Needs(StrEnum):
    """What a description cannot do without in its scene."""

    LOOKS = "looks"
    SIZE = "size"
    CARRYING = "carrying"
    POSITION = "position"
    RELATION = "relation"


@dataclass(frozen=True, slots=True)
class Relation:
    """kind: a `Side`, "on" or "with". colour, shape: of the other thing."""

    kind: str
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a thing; None where nothing is said. place: top, bottom, left or right of the scene."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    large: bool | None = None
    place: str | None = None
    relation: Relation | None = None


@dataclass(frozen=True, slots=True)
class Phrase:
    """text: the description in words. needs: the simplest kind of description that would do in this scene."""

    text: str
    description: Description
    needs: Needs


def describe(
    things: Sequence[Thing], number: int, size: int, rng: Rng, wording: Wording = Wording.TRAINED
) -> Phrase | None:
    """A phrase that means the thing at this place of the list alone; None if none was found. size: of the scene, px."""
    for _ in range(_TRIES):
        said = _drawn(things, number, size, rng)
        if fitting(things, said, size) == [number]:
            return Phrase(worded(said, rng, wording), said, _needs(things, number, said, size))
    return None


def fitting(things: Sequence[Thing], said: Description, size: int) -> list[int]:
    """Places in the list of the things that a description fits."""
    return [number for number in range(len(things)) if _fits(things, number, said, size)]


def worded(said: Description, rng: Rng, wording: Wording) -> str:
    """A description in words."""
    noun = _noun(said.shape, rng)
    size = "" if said.large is None else _pick(rng, ("large", "big") if said.large else ("small", "little"))
    colour, texture = said.colour or "", said.texture or ""
    clause = _CLAUSES.get(texture, "")
    the, tail = _pick(rng, ("the", "a")), _tail(said, rng)
    if wording is Wording.HELD_OUT:
        listed = [word for word in (texture, size, colour) if word]
        forms = [
            f"{the} {noun} {tail} that is {' and '.join(listed)}" if listed else f"find {noun} {tail}",
            f"{the} thing {clause} {f'in {colour}' if colour else ''}, {the} {size} {noun}, {tail}",
        ]
    else:
        ended = [word for word in (colour, size) if word]
        forms = [
            f"{the} {size} {texture} {colour} {noun} {tail}",
            f"{size} {colour} {noun} {clause} {tail}",
            f"{the} {size} {texture} {noun} {f'in {colour}' if colour else ''} {tail}",
            f"find {the} {texture} {noun} {'that is ' + ' and '.join(ended) if ended else ''} {tail}",
            f"{colour} {texture} {noun}{f', {size}' if size else ''} {tail}",
        ]
    return " ".join(_pick(rng, forms).split()).replace(" ,", ",").removesuffix(",")


def words_of_all() -> tuple[str, ...]:
    """Texts that hold every word that phrases are made of."""
    grammar = "the a thing object find in that is and with on it large big small little"
    texts = (*SHAPES, *COLOURS, *TEXTURES, *_SYNONYMS.values(), *_CLAUSES.values(), *_PLACES.values())
    return (*texts, *(side for both in _SIDES.values() for side in both), grammar)


def _drawn(things: Sequence[Thing], number: int, size: int, rng: Rng) -> Description:
    """Something true of a thing; most phrases say what it looks like and no more."""
    thing = things[number]
    relations, places = _relations(things, number), _places(thing, size, edge=_SAID)
    say = rng.random(6) < (0.95, 0.85, 0.6, 0.35, 0.12, 0.25)
    return Description(
        shape=thing.look.shape if say[0] else None,
        colour=thing.look.colour if say[1] or not say[0] else None,
        texture=thing.look.texture if say[2] else None,
        large=thing.large if say[3] else None,
        place=_pick(rng, places) if say[4] and places else None,
        relation=relations[int(rng.integers(len(relations)))] if say[5] and relations else None,
    )


def _relations(things: Sequence[Thing], number: int) -> list[Relation]:
    """Everything that a thing is beside, on, or carries."""
    thing = things[number]
    if thing.on is not None:
        host = things[thing.on].look
        return [Relation("on", host.colour, host.shape)]
    burden = carried(things, number)
    found = [] if burden is None else [Relation("with", things[burden].look.colour, things[burden].look.shape)]
    others = (other for other in things if other is not thing and other.on is None and beside(thing, other))
    return found + [Relation(side_of(thing, other), other.look.colour, other.look.shape) for other in others]


def _places(thing: Thing, size: int, *, edge: float) -> list[str]:
    """Where one might say that a thing is: within a share `edge` of the scene from that side of it."""
    x, y = thing.x / size, thing.y / size
    named = (("top", y < edge), ("bottom", y > 1 - edge), ("left", x < edge), ("right", x > 1 - edge))
    return [name for name, holds in named if holds]


def _fits(things: Sequence[Thing], number: int, said: Description, size: int) -> bool:
    thing = things[number]
    pairs = (
        (said.shape, thing.look.shape),
        (said.colour, thing.look.colour),
        (said.texture, thing.look.texture),
        (said.large, thing.large),
    )
    if any(wanted is not None and wanted != found for wanted, found in pairs):
        return False
    if said.place and said.place not in _places(thing, size, edge=_TRUE):
        return False
    return said.relation is None or _holds(things, number, said.relation)


def _holds(things: Sequence[Thing], number: int, relation: Relation) -> bool:
    """Whether a relation is true of a thing, whatever the distance."""
    thing = things[number]
    if relation.kind == "on":
        host = None if thing.on is None else things[thing.on]
        return host is not None and (host.look.colour, host.look.shape) == (relation.colour, relation.shape)
    if relation.kind == "with":
        burden = carried(things, number)
        look = None if burden is None else things[burden].look
        return look is not None and (look.colour, look.shape) == (relation.colour, relation.shape)
    others = (other for other in things if other is not thing and thing.on is None)
    alike = (other for other in others if (other.look.colour, other.look.shape) == (relation.colour, relation.shape))
    return any(side_of(thing, other) == relation.kind for other in alike)


def _needs(things: Sequence[Thing], number: int, said: Description, size: int) -> Needs:
    """The first of the kinds, simplest first, whose parts of the description are enough."""
    looks = replace(said, large=None, place=None, relation=None)
    carrying = said.relation if said.relation and said.relation.kind in ("on", "with") else None
    steps = (
        (Needs.LOOKS, looks),
        (Needs.SIZE, replace(looks, large=said.large)),
        (Needs.CARRYING, replace(looks, large=said.large, relation=carrying)),
        (Needs.POSITION, replace(looks, large=said.large, relation=carrying, place=said.place)),
    )
    return next((needs for needs, less in steps if fitting(things, less, size) == [number]), Needs.RELATION)


def _tail(said: Description, rng: Rng) -> str:
    """Place and relation, which come last."""
    parts = [_PLACES[said.place]] if said.place else []
    if said.relation:
        the, shape = _pick(rng, ("the", "a")), _noun(said.relation.shape, rng)
        other = f"{the} {said.relation.colour} {shape}"
        match said.relation.kind:
            case "on":
                parts.append(f"on {other}")
            case "with":
                parts.append(f"with {other} on it")
            case side:
                parts.append(f"{_pick(rng, _SIDES[Side(side)])} {other}")
    return " ".join(parts)


def _noun(shape: str | None, rng: Rng) -> str:
    if shape is None:
        return _pick(rng, ("thing", "object"))
    return _SYNONYMS[shape] if shape in _SYNONYMS and rng.random() < 0.3 else shape


def _pick(rng: Rng, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
