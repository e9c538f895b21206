"""How well predicted changes agree with those that refits made: correlations, signs and slope, with intervals.

Knows numbers only: where they come from is `protocol`'s affair, what they are worth `answer`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

RESAMPLES = 500
FEWEST = 5
"""Below, nothing is said of two lists of numbers."""


@dataclass(frozen=True)
class Bounded:
    """A statistic of the pairs and its 95 % bootstrap interval over them (percentiles)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Of ``pairs`` predicted and actual changes of one loss; predicted on the abscissa."""

    pairs: int
    pearson: Bounded
    spearman: Bounded
    kendall: Bounded
    signs: Bounded
    """Share of the pairs with the same sign, 0 to 1."""
    slope: Bounded
    """Of actual on predicted by least squares, with an intercept: 1 where sizes can be taken at their word."""

    @classmethod
    def of(cls, predicted: Float[np.ndarray, " m"], actual: Float[np.ndarray, " m"], seed: int) -> "Agreement | None":
        """None for fewer than `FEWEST` pairs, or where either list is constant."""
        if len(predicted) < FEWEST or np.ptp(predicted) == 0 or np.ptp(actual) == 0:
            return None
        draws = np.random.default_rng(seed).integers(0, len(predicted), (RESAMPLES, len(predicted)))

        def estimate(of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Bounded:
            low, high = np.nanpercentile(of(predicted[draws], actual[draws]), [2.5, 97.5])
            return Bounded(float(of(predicted[None], actual[None])[0]), float(low), float(high))

        return cls(
            len(predicted),
            estimate(_pearson),
            estimate(_spearman),
            estimate(_kendall),
            estimate(_signs),
            estimate(_slope),
        )


@dataclass(frozen=True)
class OverGroups:
    """How well what is predicted of groups of rows ranks what leaving them out does, target by target."""

    by_target: list[float | None]
    """Spearman's correlation over the groups."""
    score: Bounded | None
    """The mean over the targets, which is the linear datamodeling score; its interval is over the groups."""

    @classmethod
    def of(cls, predicted: Float[np.ndarray, "m k"], actual: Float[np.ndarray, "m k"], seed: int) -> "OverGroups":
        """``score`` is None where no target says anything."""
        by_target = [rank_correlation(*both) for both in zip(predicted.T, actual.T, strict=True)]
        said = [number for number, one in enumerate(by_target) if one is not None]
        if not said:
            return cls(by_target, None)
        draws = np.random.default_rng(seed).integers(0, len(predicted), (RESAMPLES, len(predicted)))
        drawn = np.nanmean([_spearman(predicted[draws, number], actual[draws, number]) for number in said], axis=0)
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        return cls(by_target, Bounded(float(np.mean([by_target[number] for number in said])), float(low), float(high)))


def rank_correlation(predicted: Float[np.ndarray, " m"], actual: Float[np.ndarray, " m"]) -> float | None:
    """Spearman's; None for fewer than `FEWEST` pairs, or where either list is constant."""
    if len(predicted) < FEWEST or np.ptp(predicted) == 0 or np.ptp(actual) == 0:
        return None
    return float(_spearman(predicted[None], actual[None])[0])


def chance_bound(predicted: Float[np.ndarray, " m"], actual: Float[np.ndarray, " m"], seed: int) -> float | None:
    """What the rank correlation of predictions dealt out at random stays under in 95 of 100 deals, by size."""
    if rank_correlation(predicted, actual) is None:
        return None
    random = np.random.default_rng(seed)
    dealt = np.stack([random.permutation(predicted) for _ in range(RESAMPLES)])
    return float(np.percentile(np.abs(_spearman(dealt, np.broadcast_to(actual, dealt.shape))), 95))


def _pearson(x: Float[np.ndarray, "r m"], y: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    return _ratio((x * y).sum(1), np.sqrt((x * x).sum(1) * (y * y).sum(1)))


def _spearman(x: Float[np.ndarray, "r m"], y: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    return _pearson(rankdata(x, axis=1), rankdata(y, axis=1))


def _kendall(x: Float[np.ndarray, "r m"], y: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    """τ_b from the signs of all differences: SciPy's takes two milliseconds a call, and here are hundreds."""
    sums = np.empty((3, len(x)))
    for place, (one, other) in enumerate(zip(x, y, strict=True)):
        first, second = np.sign(np.subtract.outer(one, one)), np.sign(np.subtract.outer(other, other))
        sums[:, place] = (first * second).sum(), (first * first).sum(), (second * second).sum()
    return _ratio(sums[0], np.sqrt(sums[1] * sums[2]))


def _signs(x: Float[np.ndarray, "r m"], y: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    result: Float[np.ndarray, " r"] = (np.sign(x) == np.sign(y)).mean(1)
    return result


def _slope(x: Float[np.ndarray, "r m"], y: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    return _ratio((x * y).sum(1), (x * x).sum(1))


def _ratio(one: Float[np.ndarray, " r"], other: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """NaN where a resample holds one value only."""
    result: Float[np.ndarray, " r"] = np.divide(one, other, out=np.full(len(one), np.nan), where=other > 0)
    return result
