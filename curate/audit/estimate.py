"""What verdicts on drawn rows say of all rows: the noise rate and shares of it, with intervals that hold.

Each cell (a stratum, or a part of one) has a share of wrong labels of its own, with a Beta prior around what
suspicion says under a thought; what is said under which thought is weighed by how likely the verdicts are under it, so
that a suspicion that is of no use is found out. The rows not looked at follow a Beta-binomial: the interval is of these
rows, not of ones that might have been. Simulated on sets kept for judging by ``tests/bench/audit.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaln

STRENGTH = 2.0
"""Verdicts that the prior of a cell is worth."""
MORE, FEWER, FEW = 0.5, 1.0, 5.0
"""Wrong labels that the bounds allow for beyond those found, up (see `Cells.up`) and down: a count is no continuum, and
the posterior alone covers 80 to 90 % of the time in some cells. Clopper and Pearson allow one each way."""
TAIL_BELOW, TAIL_ABOVE = 0.025, 0.035
"""Beyond the one-sided bounds, in place of 0.05 each; half of it on each side of an interval, in place of 0.025. It is
what it takes for at least 93 % in simulations of every set and size."""
DRAWS = 20_000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A share between 0 and 1, its interval of 95 %, and two one-sided bounds of 95 %."""

    value: float
    low: float
    high: float
    at_least: float
    at_most: float

    @property
    def width(self) -> float:
        """How far the ends lie apart."""
        return self.high - self.low


@dataclass(frozen=True)
class Cells:
    """Rows in cells, and what is known of each: verdicts, those that say wrong, and those that cannot tell.

    ``shapes`` ``[k cells]``: the share of wrong labels in each under each of k thoughts.
    """

    rows: Float[np.ndarray, " cells"]
    right: Float[np.ndarray, " cells"]
    wrong: Float[np.ndarray, " cells"]
    unsure: Float[np.ndarray, " cells"]
    shapes: Float[np.ndarray, "k cells"]

    @property
    def verdicts(self) -> int:
        """Verdicts in all strata."""
        return int((self.right + self.wrong + self.unsure).sum())

    def scaled(self, factor: float) -> "Cells":
        """The same shares of as many verdicts as ``factor`` says, as far as there are rows."""
        looked = np.maximum(self.right + self.wrong + self.unsure, 1e-12)
        by = np.minimum(factor, self.rows / looked)
        return replace(self, right=self.right * by, wrong=self.wrong * by, unsure=self.unsure * by)

    def weights(self) -> Float[np.ndarray, " k"]:
        """How much each thought is believed after the verdicts."""
        a, b = STRENGTH * self.shapes, STRENGTH * (1 - self.shapes)
        logs = (betaln(a + self.wrong, b + self.right) - betaln(a, b)).sum(1)
        found = np.exp(logs - logs.max())
        return np.asarray(found / found.sum())

    def expected(self) -> Float[np.ndarray, " cells"]:
        """Wrong labels expected in each cell; rows that nobody was sure of are like the others of their cell."""
        share = (STRENGTH * self.shapes + self.wrong) / (STRENGTH + self.right + self.wrong)
        rest = self.rows - self.right - self.wrong
        result: np.ndarray = self.wrong + rest * (self.weights() @ share)
        return result

    def draws(self, more: Float[np.ndarray, " cells"], *, unsure_wrong: Bool[np.ndarray, " cells"]) -> np.ndarray:
        """Wrong labels in each cell, ``[draws cells]`` from the posterior; the seed is fixed.

        ``more``: wrong verdicts added to those found; ``unsure_wrong``: cells whose unsure verdicts say wrong.
        """
        random = np.random.default_rng(SEED)
        wrong = self.wrong + np.where(unsure_wrong, self.unsure, 0)
        right = self.right + np.where(unsure_wrong, 0, self.unsure)
        shape = self.shapes[random.choice(len(self.shapes), DRAWS, p=self.weights())]
        a = random.standard_gamma(STRENGTH * shape + np.maximum(wrong + more, 0))
        b = random.standard_gamma(STRENGTH * (1 - shape) + right)
        share = np.clip(a / np.maximum(a + b, np.finfo(float).tiny), 0, 1)
        left = np.maximum(np.round(self.rows - wrong - right), 0).astype(int)
        result: np.ndarray = wrong + random.binomial(left, share)
        return result

    def up(self) -> Float[np.ndarray, " cells"]:
        """Up to `MORE` wrong labels than were found, shared out by the cells' rows.

        Fewer while few were found: then it is the thoughts, none below 2 %, that hold the upper bound up.
        """
        found = self.wrong.sum()
        return np.asarray(MORE * found / (found + FEW) * self.rows / self.rows.sum())

    def down(self) -> Float[np.ndarray, " cells"]:
        """`FEWER` wrong labels than were found, taken first where a verdict stands for most rows."""
        left, fewer = FEWER, np.zeros(len(self.rows))
        counts_for = self.rows / np.maximum(self.right + self.wrong + self.unsure, 0.5)
        for cell in np.argsort(-counts_for, kind="stable"):
            fewer[cell] = -min(left, self.wrong[cell])
            left += fewer[cell]
        return fewer


def rate(cells: Cells) -> Estimate:
    """The share of wrong labels among all rows of the cells."""
    total = cells.rows.sum()
    every, none = np.ones(len(cells.rows), bool), np.zeros(len(cells.rows), bool)
    most = cells.draws(cells.up(), unsure_wrong=every).sum(1) / total
    least = cells.draws(cells.down(), unsure_wrong=none).sum(1) / total if cells.wrong.sum() else np.zeros(1)
    return _estimate(float(cells.expected().sum() / total), least, most)


def precision(cells: Cells, flagged: Bool[np.ndarray, " cells"]) -> Estimate:
    """The share of wrong labels among flagged rows."""
    inside = Cells(*(part[..., flagged] for part in (cells.rows, cells.right, cells.wrong, cells.unsure, cells.shapes)))
    return rate(inside)


def recall(cells: Cells, flagged: Bool[np.ndarray, " cells"]) -> Estimate:
    """The share of wrong labels that are flagged."""
    up, down = cells.up(), cells.down()

    def shares(more: np.ndarray, unsure_wrong: np.ndarray) -> np.ndarray:
        found = cells.draws(more, unsure_wrong=unsure_wrong)
        result: np.ndarray = found[:, flagged].sum(1) / np.maximum(found.sum(1), 1)
        return result

    most = shares(np.where(flagged, up, down), flagged)
    least = shares(np.where(flagged, down, up), ~flagged)
    expected = cells.expected()
    return _estimate(float(expected[flagged].sum() / max(expected.sum(), np.finfo(float).tiny)), least, most)


def _estimate(value: float, least: np.ndarray, most: np.ndarray) -> Estimate:
    low, at_least = (float(part) for part in np.quantile(least, [TAIL_BELOW / 2, TAIL_BELOW]))
    high, at_most = (float(part) for part in np.quantile(most, [1 - TAIL_ABOVE / 2, 1 - TAIL_ABOVE]))
    return Estimate(value, min(low, value), max(high, value), min(at_least, value), max(at_most, value))


def more_for(cells: Cells, width: float) -> int | None:
    """How many more verdicts the interval of the rate would have this width with, if they go on as so far.

    0 if it has; None if not even a look at every row would do, as some rows are unsure.
    """
    now, rows = cells.verdicts, int(cells.rows.sum())
    if not now or rate(cells).width <= width:
        return 0 if now else None
    low, high = 1.0, rows / now
    if rate(cells.scaled(high)).width > width:
        return None
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if rate(cells.scaled(middle)).width <= width else (middle, high)
    return min(rows, int(np.ceil(now * high))) - now


def joined(parts: Sequence[Cells]) -> Cells:
    """The cells of several frames as one; thoughts are held in common."""
    return Cells(
        *(
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("rows", "right", "wrong", "unsure", "shapes")
        )
    )
