"""The level of suspicion: how many labels are wrong in all, as against the order of the rows.

The labels alone do not tell the level: weak features look like noise. So it is a range from three counts, or what a
person said (`--noise-rate`), or what an audit of rows drawn at random found. Knows suspicion as numbers; which source
speaks is decided by `stage`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit, logit

EDGE = 1e-9
"""Suspicions nearer to zero or one are taken as this: no row is beyond the reach of a level."""
FARTHEST = 60.0
"""Log odds that a level may move a row by: enough to make any sum of suspicion any other."""

Source = Literal["labels", "noise rate", "audit"]


@dataclass(frozen=True)
class Level:
    """Wrong labels among the rows in all: the expected number, and the range that it is known to.

    Of an audit ``low`` and ``high`` are one-sided bounds of 95 % each, and ``interval`` is the one of 95 %.
    """

    expected: float
    low: float
    high: float
    source: Source
    by: Mapping[str, float] = field(default_factory=dict)
    """Of labels alone: what each of the three counts says."""
    interval: tuple[float, float] | None = None
    verdicts: int = 0
    """Drawn rows that have one."""
    classes: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Of an audit: expected number, low and high of classes with enough verdicts."""

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


def at_level(suspicion: Float[np.ndarray, " n"], expected: float) -> Float[np.ndarray, " n"]:
    """Suspicion whose sum is ``expected`` rows, every row's odds times one factor; the order stays.

    ``expected`` is cut to what lies between no row and all of them.
    """
    odds = logit(np.clip(suspicion.astype(float), EDGE, 1 - EDGE))
    n = len(odds)
    wanted = min(max(expected, n * EDGE), n * (1 - EDGE))
    shift = brentq(lambda b: float(expit(odds + b).sum()) - wanted, -FARTHEST, FARTHEST, xtol=1e-10)
    return np.asarray(expit(odds + shift))
