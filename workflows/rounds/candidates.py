"""The images that may be annotated next, what is known about them, and which of them the next round gets."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.masks.crops import point_grid
from sam_core.model.prompt_encoder import FOREGROUND
from sam_core.predict import ImageEmbedding, Prompts, decode
from schemas.tables import Stage
from workflows.failures import tell_left_out
from workflows.image_limits import MAX_PIXELS
from workflows.ingest import ingest
from workflows.models import Model
from workflows.rounds import policies
from workflows.rounds.config import StageSettings
from workflows.rounds.covered import covered_shares
from workflows.rounds.engine import Engine
from workflows.rounds.pictures import Desk, Truth
from workflows.runs import open_dataset
from workflows.sizes import read_unread
from workflows.sources import list_images
from workflows.storage import Store
from workflows.uris import ImageRef

_GRID = 6
_DONE = f"SELECT DISTINCT image_id FROM events WHERE action = 'finish' AND stage <> '{Stage.AUDIT}' ORDER BY image_id"
# Who audits an image judges masks that a model made; nobody has annotated it by that.
_FRESH = f"""
SELECT image_id, bytes FROM images ANTI JOIN ({_DONE}) AS finished USING (image_id)
WHERE height IS NOT NULL ORDER BY image_id
"""
_ANNOTATED = "SELECT image_id, bytes FROM images SEMI JOIN annotations USING (image_id)"


def note_images(source: str, store: Store) -> None:
    """Note the images of a source, with their sizes, in the data set. Raises ValueError or OSError, one line."""
    open_dataset(store)
    with ingest(list_images(source), store, max_pixels=MAX_PIXELS) as listing:
        read_unread(store, listing, max_pixels=MAX_PIXELS)


def note_held_out(truth: Truth, count: int, store: Store) -> None:
    """Note the first held-out images, whose masks are shown, in the data set."""
    with ingest([ImageRef(uri) for uri in truth.uris(count)], store, max_pixels=MAX_PIXELS):
        pass


def choose_queue(engine: Engine, settings: StageSettings, model: Model, *, seed: int) -> tuple[str, ...]:
    """The images of a round by its policy: of those that nobody has finished and that are not held out.

    What the source has by now is noted first, so that images which were added since the last round are among them.
    """
    note_images(engine.config.images, engine.store)
    connection = engine.connect()
    unfinished = dict(connection.execute(_FRESH).fetchall())
    held_out = engine.held_out.find(unfinished)
    fresh = [image for image in unfinished if image not in held_out]
    desk = None
    if settings.policy in ("most_uncertain", "most_diverse"):  # these look at every candidate with the model
        few = policies.random_order(fresh, seed=seed)[: max(engine.config.candidates, settings.images)]
        desk = Desk(engine.store, model, connection)
        fresh = _readable(desk, [fresh[index] for index in few])
    candidates = _known(connection, settings.policy, desk, fresh)
    chosen = policies.choose(settings.policy, candidates, settings.images, seed=seed)
    return tuple(fresh[index] for index in chosen)


def annotated_held_out(engine: Engine, connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """Held-out images that somebody annotated all the same: the data set knows some of them, and the app shows what it
    knows where nobody says which images are meant."""
    return tuple(sorted(engine.held_out.find(dict(connection.execute(_ANNOTATED).fetchall()))))


def _readable(desk: Desk, image_ids: Sequence[str]) -> list[str]:
    """The images that the model can look at; what is wrong with the others is told."""
    found, left_out = desk.readable(image_ids)
    tell_left_out([*map(str, left_out)])
    return found


def _known(
    connection: duckdb.DuckDBPyConnection, policy: str, desk: Desk | None, image_ids: Sequence[str]
) -> policies.Candidates:
    """What the policy looks at; desk: for those that look with the model."""
    covered, uncertainty = np.zeros(len(image_ids)), np.zeros(len(image_ids))
    features, done = np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    if policy == "least_covered":
        covered = covered_shares(connection, image_ids)
    elif desk and policy == "most_uncertain":
        uncertainty = np.array([_uncertainty(desk, image) for image in image_ids])
    elif desk:
        annotated = _readable(desk, [row[0] for row in connection.execute(_DONE).fetchall()])
        features, done = _features(desk, image_ids), _features(desk, annotated)
    return policies.Candidates(image_ids, covered, uncertainty, features, done)


@torch.inference_mode()
def _uncertainty(desk: Desk, image_id: str) -> float:
    """1 minus the mean predicted IoU of the best masks at a grid of clicks."""
    height, width = desk.sizes[image_id]
    clicks = torch.from_numpy(point_grid(_GRID) * np.array([width, height])).float()[:, None]
    prompts = Prompts(clicks, torch.full(clicks.shape[:2], FOREGROUND))
    found = decode(desk.sam, desk.embedding(image_id), prompts, multimask=True)
    return 1 - float(found.iou.amax(1).mean())


def _features(desk: Desk, image_ids: Sequence[str]) -> NDArray[np.float32]:
    """float32 [N, C]: the mean of each image's embedding, padding left out."""
    rows = [_pooled(desk.embedding(image), desk.sam.config.image_size) for image in image_ids]
    return np.array(rows, np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 1), np.float32)


def _pooled(embedding: ImageEmbedding, side: int) -> NDArray[np.float32]:
    cells = embedding.features.embedding[0]
    rows, columns = (-(-length * cells.shape[-1] // side) for length in embedding.frames[0].input_size)
    return np.asarray(cells[:, :rows, :columns].mean((1, 2)).numpy(), np.float32)
