"""Identifiers, all of them functions of what they name: a retry on another machine computes the same ones."""

import hashlib
import json

from schemas.layout import checked_name

_IMAGE_ID_DIGITS = 32  # 128 bits: among ten billion images two collide with probability 1.5e-19
_SHORT_DIGITS = 12  # 48 bits: for runs and models, of which a data set holds thousands at most


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def image_id(data: bytes) -> str:
    """Identifier of an image file by its bytes, so that the same bytes are the same image wherever they lie."""
    return image_id_of_hash(content_hash(data))


def image_id_of_hash(sha256: str) -> str:
    """Identifier of an image whose `content_hash` is known: its first 128 bits, 32 hexadecimal digits."""
    return sha256[:_IMAGE_ID_DIGITS]


def unreadable_image_id(uri: str) -> str:
    """Stand-in identifier for an image whose bytes cannot be read at all, so that it still gets its error row."""
    return content_hash(b"unreadable\0" + uri.encode())[:_IMAGE_ID_DIGITS]


def canonical_json(value: object) -> str:
    """The one JSON text of a value: keys sorted, no spaces, ASCII only.

    Raises:
        ValueError: `value` holds NaN or infinity, or something that JSON cannot say.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error


def run_id(model_sha256: str, recipe_json: str, *, name: str | None = None) -> str:
    """Identifier of a run: the same model, recipe and name resume it, anything else is another run.

    Args:
        model_sha256: hash of the weights, 64 hexadecimal digits.
        recipe_json: the resolved recipe as JSON; key order and spaces do not matter.
        name: what the user calls the run; readable prefix, and part of the identity.

    Raises:
        ValueError: `recipe_json` is not JSON, or `name` cannot be part of a path.
    """
    recipe = canonical_json(json.loads(recipe_json))
    digest = content_hash(canonical_json([model_sha256, recipe, name]).encode())[:_SHORT_DIGITS]
    return digest if name is None else checked_name(f"{checked_name(name, 'run name')}-{digest}", "run")


def model_id(name: str, sha256: str) -> str:
    """Identifier of a model: its name and the first digits of the hash of its weights."""
    return checked_name(f"{checked_name(name, 'model name')}-{sha256[:_SHORT_DIGITS]}", "model")


def mask_id(run_id: str, image_id: str, index: int) -> str:
    """Identifier of the `index`-th mask (from 0) that a run kept on an image. Raises ValueError for one below 0.

    Readable rather than hashed: it names its run and image, sorts by both, and shares its prefix with its
    neighbours, so that Parquet stores about two bytes of it where a hash would cost sixteen.
    """
    if index < 0:
        raise ValueError(f"mask index {index} is below 0")
    return f"{run_id}.{image_id}.{index:05d}"
