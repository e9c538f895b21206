"""``stranger``: rows of no class, as pictures of something else or texts off the topic.

Far from every class in several ways at once: from its middle, in the directions in which the rows of one class differ
(Mahalanobis 1936; Lee et al. 2018), beyond all directions in which rows differ (Wang et al. 2022), from every class
halfway up the network, far from being sure of any class to a probe that did not see the label, and from evidence for
any to one that did (its energy: Liu et al. 2020). Each alone misses kinds of strangers that another one sees. How far
is far is read off the set itself: what a way says is weighed by a normal tail, and their sum by `WEIGHTS` orders the
rows.

Rows are named by another sum, that of `NAMED_BY`: its chance is that of an exponential tail, whose width is that of the
upper side of the sums of all rows but the highest. So nothing is asked of how the ways agree, and of the rows that are
named at most `FALSE` are expected to be none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from curate.engine.neighbours import unit_rows
from curate.engine.suspicion.experts import find_basis
from curate.rules.finders.found import Found, Scan

FALSE = 0.15
"""Expected share of rows that are none among those named (Benjamini & Hochberg 1995)."""
UPPER = 0.9
"""Share of the rows by the highest of which a measure's upper side is scaled: strangers are fewer than the rest."""
SLOPE = 0.75, 0.92
"""Shares of the rows between which the tail of the sums is read (docs/explanation/strangers.md)."""
LEAST = 1e-4
"""Length beyond all directions that is none but for rounding."""
WIDTH = 64
"""Principal directions in which distances are taken."""
FEW_ROWS = 20
"""Rows under which a class says too little of how its rows differ: they are rare, and no strangers."""
FEWEST = 5
"""Rows from which a class has a middle all the same: who lies there under another label is mislabeled, not strange."""
WAYS = 2
"""Ways in which a stranger is beyond `UPPER` at least: a question put oddly is far from all classes, and near rows."""
INNER = 0.9
"""Share of the rows, the nearest to their class's middle, that say how rows of one class differ: strangers do not."""
NEAREST = 20
"""Rows whose mean distance counts: more than a handful of alike strangers."""
WEIGHTS = {"class": 0.5, "beyond": 0.5, "early": 1.0, "unsure": 1.0, "energy": 1.0}
"""In the order; two are readings of the same features (docs/explanation/strangers.md)."""
NAMED_BY = ("class", "rows", "early", "unsure")
"""Ways that name. With what is beyond and an energy too many photos were named that look odd and are of a class."""
SAID = {
    "class": "it lies {:.1f} times as far from the nearest one as rows usually do",
    "rows": f"its {NEAREST} nearest rows lie {{:.1f}} times as far off as is usual",
    "early": "halfway up the network it lies {:.1f} times as far from the nearest one as rows usually do",
}
"""What is said of the distance that tells most."""


@dataclass(frozen=True)
class Strangeness:
    """Of each of n rows, how far out it is; NaN and a chance of 1 if its class has too few rows."""

    times: dict[str, Float[np.ndarray, " n"]]
    """Each distance over its median."""
    tails: dict[str, Float[np.ndarray, " n"]]
    """Minus log of the chance of each measure, were the row of a class."""
    score: Float[np.ndarray, " n"]
    """Their sum by `WEIGHTS`, which orders all rows, named or not."""
    chance: Float[np.ndarray, " n"]
    """Of as large a sum of those in `NAMED_BY`, were the row of a class."""


def find(scan: Scan) -> Iterator[Found]:
    """Findings on training rows that are pictures or texts: a row of numbers has no topic to be off."""
    strange = strangeness(scan) if scan.data.train.one_label_each else None
    if strange is None:
        return
    for row in np.flatnonzero(discoveries(strange.chance)).tolist():
        most = max(strange.times, key=lambda name: strange.tails[name][row])
        times = float(strange.times[most][row])
        evidence: dict[str, object] = {"measure": most, "times": round(times, 3), "chance": float(strange.chance[row])}
        said = f"no class fits: {SAID[most].format(times)}"
        yield Found("train", row, "stranger", "warning", float(strange.score[row]), said, evidence)


def strangeness(scan: Scan) -> Strangeness | None:
    """Of the training rows; None without two classes of rows enough."""
    given, classes, rows = scan.judged.signals.given, scan.data.classes, scan.data.train
    apart = distances(rows.features, given, classes)
    if apart is None:
        return None
    from_class, beyond = apart
    similarity = scan.neighbours.among(NEAREST + 1)[1][:, 1:]
    far = {"class": from_class, "rows": np.sqrt(np.maximum(2 - 2 * similarity.mean(1), 0))}
    if rows.early is not None:
        far["early"] = _from_middles(rows.early, given, _classes_of(FEWEST, given, classes))
    left_out = scan.judged.signals.left_out.max(1).clip(1e-12, 1 - 1e-12)
    # Of squared distances from a middle the cube root is nearly normal (Wilson & Hilferty 1931).
    measures = {**far, "class": np.cbrt(from_class**2), "beyond": np.log(beyond + LEAST)}
    measures["unsure"] = np.log1p(-left_out) - np.log(left_out)
    if scan.judged.signals.energy is not None:
        measures["energy"] = scan.judged.signals.energy
    tails = {name: tail(standardised(values)) for name, values in measures.items()}
    score: np.ndarray = np.sum([weight * tails[name] for name, weight in WEIGHTS.items() if name in tails], axis=0)
    naming = [tails[name] for name in NAMED_BY if name in tails]
    own, chance = np.isfinite(from_class), np.ones(len(score))
    chance[own] = chances(np.sum(naming, axis=0)[own])  # the sums of rows of too rare a class lack a measure
    chance[np.sum([each > -np.log(1 - UPPER) for each in naming], axis=0) < WAYS] = 1
    times = {name: values / max(float(np.nanmedian(values)), 1e-300) for name, values in far.items()}
    return Strangeness(times, tails, score, chance)


def _classes_of(rows: int, given: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, " k"]:
    """Those that have so many rows or more."""
    return np.flatnonzero(np.bincount(given, minlength=classes) >= rows)


def _from_middles(
    features: Float[torch.Tensor, "n e"], given: Int[np.ndarray, " n"], known: Int[np.ndarray, " k"]
) -> Float[np.ndarray, " n"]:
    """Of each row, at length one, from the nearest middle of these classes."""
    unit, labels = unit_rows(features), torch.from_numpy(given)
    middles = torch.stack([unit[labels == label].median(0).values for label in known.tolist()])
    square = unit.square().sum(1)[:, None] - 2 * unit @ middles.T + middles.square().sum(1)
    return np.asarray(square.min(1).values.clamp_min(0).sqrt().double().numpy())


def distances(
    features: Float[torch.Tensor, "n d"], given: Int[np.ndarray, " n"], classes: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None:
    """Of each row from the nearest class's middle, in standard deviations of the rows of one class, NaN of rows of too
    rare a class; and the length of what it has beyond the first `WIDTH` directions in which rows differ, all rows being
    of length one. None without two classes of rows enough."""
    large, known = _classes_of(FEW_ROWS, given, classes), _classes_of(FEWEST, given, classes)
    if len(large) < 2:
        return None
    unit = unit_rows(features)
    width = min(WIDTH, unit.shape[1], max(2, int(np.isin(given, large).sum()) // 10))
    basis = find_basis(unit, 0, width)
    points = basis(unit).double().numpy()
    beyond = (unit - basis.mean).square().sum(1).double().numpy() - (points**2).sum(1)
    middles = np.stack([np.median(points[given == label], axis=0) for label in known])
    place = np.full(classes, -1)
    place[known] = np.arange(len(known))
    own = np.isin(given, large)
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
    found[own] = np.sqrt(np.maximum(nearest[own], 0))
    return found, np.sqrt(np.maximum(beyond, 0))


def standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """About their median, in deviations that the upper side of usual rows has; 0 if those are all alike."""
    middle, high = np.nanquantile(values, (0.5, UPPER))
    scale = float(high - middle) / NormalDist().inv_cdf(UPPER)
    return np.asarray((values - middle) / scale if scale > 0 else np.zeros_like(values))


def tail(standard: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Minus log of the chance of a normal value as large."""
    standard = np.nan_to_num(standard, nan=-np.inf)
    return np.asarray(-torch.special.log_ndtr(torch.from_numpy(-standard)).numpy())


def chances(sums: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Of a sum as large, by an exponential tail fitted to those within `SLOPE` of the rows, the higher ones counting as
    beyond (censored); 1 below, and if that side is all alike."""
    low, high = np.quantile(sums, SLOPE)
    beyond = sums[sums > low]
    scale = float((np.minimum(beyond, high) - low).sum()) / max(int((beyond < high).sum()), 1)
    found: np.ndarray = (1 - SLOPE[0]) * np.exp((low - sums) / scale) if scale > 0 else np.ones_like(sums)
    return np.where(sums > low, found, 1.0)


def discoveries(chance: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Rows of so small a chance that at most `FALSE` of them would be expected of it."""
    order = np.argsort(chance, kind="stable")
    below = np.flatnonzero(chance[order] <= FALSE * np.arange(1, len(chance) + 1) / len(chance))
    found = np.zeros(len(chance), dtype=bool)
    found[order[: below[-1] + 1 if len(below) else 0]] = True
    return found
