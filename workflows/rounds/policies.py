"""Which images the annotators of the next round get: pure functions of what is known about the candidates.

Each gives the indices of `count` candidates (all, if there are fewer), first come first served. Ties, and the policy
that knows nothing, are broken by a hash of image and seed, so that an order depends on no listing's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """N images. covered: float64 [N], share of each image that masks cover. uncertainty: float64 [N], higher where the
    model is less sure. features: float32 [N, C], what the images look like to the model. done: float32 [M, C], the same
    of images that are annotated. What a policy does not look at may be left empty."""

    image_ids: Sequence[str]
    covered: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    features: NDArray[np.float32]
    done: NDArray[np.float32]


def choose(policy: str, candidates: Candidates, count: int, *, seed: int) -> Indices:
    """The indices that a policy of `engine.yaml` picks. Raises ValueError for one that there is not."""
    shuffled = random_order(candidates.image_ids, seed=seed)
    match policy:
        case "random":
            return shuffled[:count]
        case "least_covered":
            return shuffled[np.argsort(candidates.covered[shuffled], kind="stable")][:count]
        case "most_uncertain":
            return shuffled[np.argsort(-candidates.uncertainty[shuffled], kind="stable")][:count]
        case "most_diverse":
            return shuffled[farthest_first(candidates.features[shuffled], candidates.done, count)]
    raise ValueError(f"no policy is called {policy!r}")


def random_order(image_ids: Sequence[str], *, seed: int) -> Indices:
    """All indices in an order that each image's own hash with the seed decides."""
    keys = [hashlib.sha256(f"{seed}\0{image}".encode()).digest() for image in image_ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def farthest_first(features: NDArray[np.float32], done: NDArray[np.float32], count: int) -> Indices:
    """Greedy k-centre: each next one is as far as possible (Euclid) from all that are done or chosen.

    With nothing done the first one is that farthest from the mean.
    """
    if not len(features):
        return np.zeros(0, np.int64)
    if len(done):
        chosen: list[int] = []
        distance = cdist(features, done).min(1)
    else:
        chosen = [int(cdist(features, features.mean(0, keepdims=True))[:, 0].argmax())]
        distance = cdist(features, features[chosen])[:, 0]
    while len(chosen) < min(count, len(features)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, cdist(features, features[chosen[-1:]])[:, 0])
    return np.array(chosen, np.int64)
