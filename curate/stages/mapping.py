"""A map of the training rows: where they lie along the two directions in which their features differ most.

Knows which rows are drawn and how they are projected; leaves colours and clicks to those who show it.
"""

import numpy as np
import torch
from jaxtyping import Float

from curate.stages.forward import Forward

MOST_FLAGGED = 500
MOST_OTHERS = 1500
BASIS_ROWS = 5_000
"""Rows that the directions are taken from, spread over all of them in the order of their content."""


def map_of(train: Forward, suspicion: Float[np.ndarray, " n"], flagged: list[int]) -> dict[int, tuple[float, float]]:
    """Places of the most suspect flagged rows and of others spread over the set, each coordinate within -1 to 1.

    Principal components of the features; the sign of each is such that its largest entry is positive, so that equal
    features give equal maps.
    """
    n = len(train)
    first = sorted(flagged, key=lambda row: (-suspicion[row], row))[:MOST_FLAGGED]
    rows = sorted({*first, *_spread(n, MOST_OTHERS)})
    features = train.features[_spread(n, BASIS_ROWS)].double()
    mean = features.mean(0)
    if features.shape[1] == 0 or not bool((features != mean).any()):
        return {}
    _, _, directions = torch.linalg.svd(features - mean, full_matrices=False)
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    places = (train.features[rows].double() - mean) @ (directions * largest.sign()).T
    if places.shape[1] < 2:
        places = torch.cat([places, torch.zeros(len(rows), 1, dtype=places.dtype)], dim=1)
    # A few rows far out must not press all others into a point: they stand at the edge.
    reach = places.abs().quantile(0.99, dim=0).clamp_min(1e-12)
    places = (places / reach).clamp(-1, 1)
    return {row: (round(x, 3), round(y, 3)) for row, (x, y) in zip(rows, places.tolist(), strict=True)}


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n places, evenly spread."""
    return list(range(n)) if n <= most else np.linspace(0, n - 1, most).round().astype(int).tolist()
