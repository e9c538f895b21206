"""The level of suspicion: how many labels are wrong in all, as against the order of the rows.

The labels alone do not tell the level: weak features look like noise, and people mislabel what is hard to tell, which
no likelihood sees. So it is a range from three counts, or what a person said (`--noise-rate`), or what an audit of rows
drawn at random found. Knows suspicion as numbers; which source speaks is decided by the stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from curate.engine.suspicion.detectors import of_given

EDGE = 1e-9
"""Suspicions nearer to zero or one are taken as this: no row is beyond the reach of a level."""
ENOUGH = 1e-10
"""Log odds to which a level is found."""
MOST_STEPS = 200
"""A bound that no level comes near: halving alone takes forty."""

Source = Literal["labels", "noise rate", "audit"]


@dataclass(frozen=True)
class Counts:
    """Three counts of wrong labels among the rows, from the labels alone."""

    likelihood: float
    """What suspicion sums to: labels that contradict what the experts are sure of. Low on human noise."""
    confident_joint: float
    """Labels that another class is likelier against than it is on the mean of its own rows."""
    disagreement: float
    """Labels that are not the likeliest class. High if the features tell classes badly apart."""

    @property
    def ordered(self) -> tuple[float, float, float]:
        """From the lowest to the highest."""
        low, middle, high = sorted((self.likelihood, self.confident_joint, self.disagreement))
        return low, middle, high

    @property
    def level(self) -> "Level":
        """The mean of likelihood and confident joint, and as many flags as the middle count says.

        On tables and features to choose on (`tests/bench/detection.py`) this mean has the best log loss over planted,
        look-alike and hard labels together; the middle count, of the cuts tried, the best F1.
        """
        low, middle, high = self.ordered
        by = {"likelihood": self.likelihood, "confident_joint": self.confident_joint, "disagreement": self.disagreement}
        return Level((self.likelihood + self.confident_joint) / 2, low, high, "labels", middle, by)


@dataclass(frozen=True)
class Level:
    """Wrong labels among the rows in all: the expected number, and the range that it is known to.

    Of an audit ``low`` and ``high`` are one-sided bounds of 95 % each, and ``interval`` is the one of 95 %.
    """

    expected: float
    """What suspicion sums to."""
    low: float
    high: float
    """The range that the number is known to."""
    source: Source
    flags: float | None = None
    """Rows to flag, if they are not as many as are expected."""
    by: Mapping[str, float] = field(default_factory=dict)
    """Of labels alone: what each of the three counts says."""
    interval: tuple[float, float] | None = None
    verdicts: int = 0
    """Drawn rows that have one."""
    classes: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Of an audit: expected number, low and high of classes with enough verdicts."""

    @property
    def flagged(self) -> float:
        """How many of the most suspect rows are flagged."""
        return self.expected if self.flags is None else self.flags

    def facts(self, rows: int) -> dict[str, Any]:
        """What a run keeps of it, for reports and the gate."""
        plain: dict[str, Any] = {
            "source": self.source,
            "expected": float(self.expected),
            "low": float(self.low),
            "high": float(self.high),
            "rows": rows,
            "by": {name: float(count) for name, count in self.by.items()},
        }
        if self.source == "audit":
            plain |= {"verdicts": self.verdicts, "interval": self.interval, "classes": dict(self.classes)}
        return plain


def of_rate(rate: tuple[float, float], rows: int) -> Level:
    """What a person said of the share of wrong labels, as a range; the middle of it is expected."""
    low, high = (share * rows for share in rate)
    return Level((low + high) / 2, low, high, "noise rate")


def count_wrong(
    suspicion: Float[np.ndarray, " n"], q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]
) -> Counts:
    """``q`` are probabilities that never saw the row's own label."""
    return Counts(
        likelihood=float(suspicion.sum()),
        confident_joint=float(confident_joint(q, given)),
        disagreement=float((q.argmax(1) != given).sum()),
    )


def confident_joint(q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> int:
    """Rows off the diagonal of the confident joint (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

    A row counts for its likeliest class among those of at least the mean probability that rows with that label have.
    """
    classes = q.shape[1]
    rows = np.bincount(given, minlength=classes)
    sums = np.bincount(given, weights=of_given(q, given), minlength=classes)
    # No row of a class can reach a mean of none.
    least = np.where(rows > 0, sums / np.maximum(rows, 1), 2.0)
    confident = np.where(q >= least - EDGE, q, -1.0)
    return int(((confident.max(1) >= 0) & (confident.argmax(1) != given)).sum())


def at_level(suspicion: Float[np.ndarray, " n"], expected: float) -> Float[np.ndarray, " n"]:
    """Suspicion whose sum is ``expected`` rows, every row's odds times one factor; the order stays.

    ``expected`` is cut to what lies between no row and all of them.
    """
    n = len(suspicion)
    inside = np.clip(suspicion.astype(float), EDGE, 1 - EDGE)
    odds = np.log(inside) - np.log1p(-inside)
    return _with_mean(odds, min(max(expected / n, EDGE), 1 - EDGE)) if n else suspicion


def _with_mean(odds: Float[np.ndarray, " n"], mean: float) -> Float[np.ndarray, " n"]:
    """Probabilities of these log odds, all moved by one number so that their mean is ``mean``, in (0, 1).

    The number is found by Newton's steps, and by halving where one leads out of what is known to hold it.
    """
    wanted = float(np.log(mean) - np.log1p(-mean))
    low, high = wanted - float(odds.max()), wanted - float(odds.min())
    shift = min(max(0.0, low), high)
    for _ in range(MOST_STEPS):
        p = np.exp(-np.logaddexp(0, -odds - shift))
        too_many = float(p.mean()) - mean
        low, high = (low, shift) if too_many > 0 else (shift, high)
        step = too_many / max(float((p * (1 - p)).mean()), np.finfo(float).tiny)
        if abs(step) <= ENOUGH:
            break
        shift = shift - step if low < shift - step < high else (low + high) / 2
    return np.asarray(p)
