"""``stranger``: rows of no class, as pictures of something else or texts off the topic.

Far from the middle of every class, in the directions in which the rows of one class differ (Mahalanobis 1936; Lee et
al. 2018), and given less evidence by the head than the usual row (energy, Liu et al. 2020). How far is far is read off
the set itself, so that of the rows that are named at most `FALSE` are expected to be none.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from curate.engine.suspicion.experts import find_basis
from curate.rules.finders.found import Found, Scan

FALSE = 0.05
"""Expected share of rows that are none among those named (Benjamini & Hochberg 1995)."""
TAIL = 5
"""Degrees of freedom of Student's t: distances in real sets have heavier tails than normal ones."""
WIDTH = 64
"""Principal directions in which distances are taken."""
FEW_ROWS = 20
"""Rows under which a class has no middle to be far from: its rows are rare, and no strangers."""
INNER = 0.9
"""Share of the rows, the nearest to their class's middle, that say how rows of one class differ: strangers do not."""


def find(scan: Scan) -> Iterator[Found]:
    """Findings on training rows that are pictures or texts: a row of numbers has no topic to be off."""
    rows = scan.data.train
    if not rows.one_label_each or scan.judged.signals.given.size < FEW_ROWS:
        return
    distance = distances(rows.features, scan.judged.signals.given, scan.data.classes)
    if distance is None:
        return
    far = standardised(np.cbrt(distance))  # of squared distances the cube root is nearly normal (Wilson, Hilferty 1931)
    strange = discoveries(far) & (standardised(_energy(scan)) > 0) & np.isfinite(distance)
    usual, score = float(np.nanmedian(distance)), oddness(distance, scan.judged.signals.left_out)
    for row in np.flatnonzero(strange).tolist():
        times = distance[row] / usual
        why = f"no class fits: it lies {times:.1f} times as far from the nearest one as rows usually do"
        evidence: dict[str, object] = {"times": round(float(times), 3), "sigmas": round(float(far[row]), 2)}
        yield Found("train", row, "stranger", "warning", float(score[row]), why, evidence)


def distances(
    features: Float[torch.Tensor, "n d"], given: Int[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, " n"] | None:
    """Of each row from the nearest class's middle, squared; NaN of rows of too rare a class. None without two classes
    of rows enough."""
    counts = np.bincount(given, minlength=classes)
    large = np.flatnonzero(counts >= FEW_ROWS)
    if len(large) < 2:
        return None
    unit = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    width = min(WIDTH, unit.shape[1], max(2, int(counts[large].sum()) // 10))
    points = find_basis(unit.float(), 0, width)(unit.float()).double().numpy()
    middles = np.stack([np.median(points[given == label], axis=0) for label in large])
    place = np.full(classes, -1)
    place[large] = np.arange(len(large))
    own = place[given] >= 0
    gaps = points[own] - middles[place[given[own]]]
    length = (gaps**2).sum(1)
    inner = gaps[length <= np.quantile(length, INNER)]
    spread = inner.T @ inner / len(inner)
    values, vectors = np.linalg.eigh(spread)
    white = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max() + 1e-300))
    points, middles = points @ white, middles @ white
    square = (points**2).sum(1)[:, None] - 2 * points @ middles.T + (middles**2).sum(1)
    nearest = square.min(1)
    found = np.full(len(given), np.nan)
    found[own] = np.maximum(nearest[own], 0)
    return found


def standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """About their median, in deviations as the middle half of the rows has them."""
    middle = np.nanmedian(values)
    scale = 1.4826 * np.nanmedian(np.abs(values - middle))
    standard: np.ndarray = (values - middle) / max(float(scale), 1e-300)
    return standard


def discoveries(far: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Rows so far out that at most `FALSE` of them would be expected of such a tail (`TAIL`)."""
    from scipy.special import stdtr

    chance = stdtr(TAIL, -np.nan_to_num(far, nan=-np.inf))
    order = np.argsort(chance, kind="stable")
    below = np.flatnonzero(chance[order] <= FALSE * np.arange(1, len(far) + 1) / np.isfinite(far).sum())
    found = np.zeros(len(far), dtype=bool)
    found[order[: below[-1] + 1 if len(below) else 0]] = True
    return found


def oddness(distance: Float[np.ndarray, " n"], left_out: Float[np.ndarray, "n C"]) -> Float[np.ndarray, " n"]:
    """What orders all rows, named or not: the sum of two tails, minus log of the share of rows that lie as far out.

    Of the distance (no tail if it is NaN), and of how little any class is given without the row's own label, which
    alone tells texts: words off the topic lie near others (Fisher's sum of independent tests).
    """
    far, unsure = np.nan_to_num(distance, nan=-1.0), -left_out.max(1)
    odd: np.ndarray = -np.log(_tail(far)) - np.log(_tail(unsure))
    return odd


def _tail(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The share of rows that lie at least as far out as each."""
    return 1 - np.searchsorted(np.sort(values), values, side="left") / len(values)


def _energy(scan: Scan) -> Float[np.ndarray, " n"]:
    """How little the head, or the probe if there is none of these classes, gives all classes together."""
    train, network = scan.data.train, scan.data.network
    if train.logits is not None and network is not None and network.own_classes:
        energy: np.ndarray = -train.logits.double().logsumexp(1).numpy()
        return energy
    unsure: np.ndarray = -scan.judged.signals.left_out.max(1)
    return unsure
