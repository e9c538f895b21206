"""Which rows are drawn: strata by rank of suspicion, how many rows of each, and the order in which they are shown.

Knows ranks and suspicion as numbers. Suspicion is asked for its order and, loosely, for its shape; its level is what
the audit is to find, so nothing here rests on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import expit, logit

SHARES = (0.03, 0.10, 0.25, 0.50)
"""Strata end at these shares of the rows, the most suspect first. Quantiles, so that a suspicion of a wrong level
makes them no worse; geometric, so that some stratum fits wherever the wrong labels end."""
LEAST_ROWS = 8
"""Of a stratum; small data sets have fewer strata."""
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Noise rates that are thought possible alike before anything is looked at. None below 2 %: that few labels are wrong
is for the verdicts to show. With 0.2 % among them an audit of 200 rows with none wrong claimed too much."""
SLOPES = (0.0, 0.5, 1.0)
"""How much of the log odds of suspicion is believed: none, half or all of it."""
PLANNED = 5
"""The first so many of `LEVELS` plan the draw."""
EDGE = 1e-6
MOST_ROWS = 20_000
"""Rows that shapes are taken from; beyond, evenly spaced ones."""
AGAIN = 0.1
"""Share of the drawn rows that are shown a second time."""


@dataclass(frozen=True)
class Strata:
    """A frame of rows, the most suspect first, in strata.

    ``ends``: the last rank of each stratum; ``shapes`` ``[k strata]``: the share of wrong labels in each stratum under
    each of k thoughts, a level and a slope.
    """

    ends: tuple[int, ...]
    shapes: Float[np.ndarray, "k strata"]

    @property
    def sizes(self) -> Int[np.ndarray, " strata"]:
        """Rows in each stratum."""
        return np.diff((0, *self.ends))

    def of(self, rank: int) -> int:
        """The stratum, from 0, of the row at a rank, from 1."""
        return int(np.searchsorted(self.ends, rank))


def ends_for(rows: int) -> tuple[int, ...]:
    """The last ranks of the strata of so many rows."""
    ends: list[int] = []
    for share in SHARES:
        end = int(share * rows)
        if end - (ends[-1] if ends else 0) >= LEAST_ROWS and rows - end >= LEAST_ROWS:
            ends.append(end)
    return (*ends, rows)


def strata_of(suspicion: Float[np.ndarray, " n"], ends: Sequence[int] | None = None) -> Strata:
    """Strata of rows whose suspicion is given, the most suspect first."""
    n = len(suspicion)
    ends = tuple(ends) if ends is not None else ends_for(n)
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_ROWS)).round().astype(int))
    stratum = np.searchsorted(ends, rows + 1)
    odds = logit(np.clip(suspicion[rows].astype(float), EDGE, 1 - EDGE))
    counts = np.bincount(stratum, minlength=len(ends))
    shapes = [
        np.bincount(stratum, _tilted(odds, level, slope), len(ends)) / counts for slope in SLOPES for level in LEVELS
    ]
    return Strata(tuple(ends), np.clip(np.array(shapes), 1e-4, 1 - 1e-4))


def _tilted(odds: Float[np.ndarray, " n"], level: float, slope: float) -> Float[np.ndarray, " n"]:
    """Suspicion with ``slope`` of its log odds, shifted to the mean ``level``."""
    shift = brentq(lambda b: float(expit(slope * odds + b).mean()) - level, -200, 200, xtol=1e-8)
    return np.asarray(expit(slope * odds + shift))


def allocated(
    shapes: Float[np.ndarray, "k strata"],
    total: int,
    present: Int[np.ndarray, " strata"],
    drawn: Int[np.ndarray, " strata"],
) -> Int[np.ndarray, " strata"]:
    """How many more rows to draw of each stratum, so that ``total`` are drawn in all.

    Neyman's allocation: by the size of a stratum times the standard deviation of its labels being wrong, as suspicion
    at each of the planned levels has it. ``present``: rows of each that can be drawn, those ``drawn`` among them.
    """
    planned = shapes[-len(LEVELS) :][:PLANNED]
    spread = present * np.sqrt(planned * (1 - planned)).mean(0)
    total = min(total, int(present.sum()))
    share = total * spread / max(float(spread.sum()), EDGE)
    wanted = np.minimum(np.maximum(np.maximum(np.floor(share).astype(int), 1), drawn), present)
    while wanted.sum() < total:
        wanted[np.where(wanted < present, share - wanted, -np.inf).argmax()] += 1
    while wanted.sum() > max(total, int(drawn.sum())) and (spare := wanted > np.maximum(drawn, 1)).any():
        wanted[np.where(spare, wanted - share, -np.inf).argmax()] -= 1
    return np.asarray(wanted - drawn)


def drawn_order(
    chosen: Sequence[tuple[int, int]], draw: np.random.Generator, again: float = AGAIN
) -> list[tuple[int, int, bool]]:
    """(row, stratum, whether it is its second showing) in the order shown: random, and blind to the stratum.

    A share of the rows comes a second time, all in the last third and never before its first showing.
    """
    order = [chosen[place] for place in draw.permutation(len(chosen))]
    shown = [(row, stratum, False) for row, stratum in order]
    early = order[: max(1, 2 * len(order) // 3)] if len(order) >= 2 / AGAIN else []
    twice = [early[place] for place in draw.permutation(len(early))[: round(again * len(order))]]
    for row, stratum in twice:
        shown.insert(int(draw.integers(2 * len(order) // 3 + 1, len(shown) + 1)), (row, stratum, True))
    return shown
