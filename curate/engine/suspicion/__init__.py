"""Suspicion: the estimated probability that a given label is wrong, and the label that it should have.

Experts, at one or two depths of the network, give class probabilities that a row's own label did not touch
(`experts`); a fusion weighs them and learns how labels get changed (`fusion`, `noise_model`); the posterior of the
true class is the suspicion. No single detector wins everywhere, so each finding says which ones spoke (`detectors`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from curate.engine.suspicion.detectors import DETECTORS, Signals, of_given

__all__ = [
    "DETECTORS",
    "Judgement",
    "Signals",
    "at_least",
    "cut_for",
    "judged",
    "least_of_copies",
]

HIGHEST_CUT, LOWEST_CUT = 0.5, 0.1
"""Likelier wrong than right: always a `mislabeled` finding. Nine times likelier right than wrong: never one."""
MOST = 0.5
"""Share of the experts' say from which a row whose label is not called wrong is worth a look."""
STEP = 0.01
"""Cuts are multiples of it, so that a few new rows hardly move the cut and with it what is said of old ones."""


@dataclass(frozen=True)
class Judgement:
    """What the noise model says of rows, ``[n]`` each."""

    suspicion: Float[np.ndarray, " n"]
    given_probability: Float[np.ndarray, " n"]
    """q of the given label."""
    likeliest: Int[np.ndarray, " n"]
    """The class that q favours, whatever label was given."""
    suggested: Int[np.ndarray, " n"]
    """The most probable class other than the given one."""
    suggested_probability: Float[np.ndarray, " n"]
    """Its posterior probability."""
    posterior: Float[np.ndarray, "n C"]
    """Of each true class."""
    q: Float[np.ndarray, "n C"]
    """The same before the given label was looked at."""
    dissent: Float[np.ndarray, " n"]
    """Share of the experts, by their say, whose likeliest class is not the given one."""

    def words(self, cut: float) -> list[str]:
        """What a row is called: `wrong` over the cut, else `ambiguous` if most experts dissent, else `fine`."""
        ambiguous = np.where(self.dissent >= MOST, "ambiguous", "fine")
        found: list[str] = np.where(self.suspicion > cut, "wrong", ambiguous).tolist()
        return found


def judged(
    posterior: Float[np.ndarray, "n C"],
    q: Float[np.ndarray, "n C"],
    given: Int[np.ndarray, " n"],
    dissent: Float[np.ndarray, " n"],
) -> Judgement:
    """The posterior of every row, read as suspicion and suggestion."""
    rows = np.arange(len(given))
    others = posterior.copy()
    others[rows, given] = -1.0
    suggested = others.argmax(1)
    return Judgement(
        suspicion=np.clip(1 - posterior[rows, given], 0.0, 1.0),
        given_probability=of_given(q, given),
        likeliest=q.argmax(1),
        suggested=suggested,
        suggested_probability=np.clip(posterior[rows, suggested], 0.0, 1.0),
        posterior=posterior,
        q=q,
        dissent=dissent,
    )


def least_of_copies(group: Int[np.ndarray, " n"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """One minus the share of each row's label among the rows of its content: at most that share of them is right."""
    pair = np.unique(np.stack([group, given]), axis=1, return_inverse=True)[1].ravel()
    result: np.ndarray = 1 - np.bincount(pair)[pair] / np.bincount(group)[group]
    return result


def at_least(judgement: Judgement, least: Float[np.ndarray, " n"]) -> Judgement:
    """The judgement with no suspicion below ``least``; what a row gains goes to its suggestion."""
    suspicion = np.maximum(judgement.suspicion, least)
    gained = judgement.suggested_probability + suspicion - judgement.suspicion
    return replace(judgement, suspicion=suspicion, suggested_probability=np.clip(gained, 0.0, 1.0))


def cut_for(suspicion: Float[np.ndarray, " n"], precision: float | None, count: float, *, known: bool = False) -> float:
    """The suspicion above which rows are flagged: about ``count``, or as many as have the mean ``precision``.

    A count that is ``known``, from an audit or `--noise-rate`, is taken at its word. One that the labels alone tell is
    a guess: that cut is a multiple of `STEP` between `LOWEST_CUT` and `HIGHEST_CUT`. 1.0, which flags nothing, if even
    the most suspect row falls short of the precision.
    """
    ordered = np.sort(suspicion.astype(float))[::-1]
    if precision is not None:
        enough = np.flatnonzero(np.cumsum(ordered) / np.arange(1, len(ordered) + 1) >= precision)
        return _cut_after(ordered, int(enough[-1]) + 1 if len(enough) else 0, ties=True)
    if known:
        return _cut_after(ordered, min(round(count), len(ordered)), ties=False)
    place = min(len(ordered) - 1, max(0, round(count)))
    steps = math.ceil(round(float(ordered[place]) / STEP, 6))
    return min(HIGHEST_CUT, max(LOWEST_CUT, round(STEP * steps, 2)))


def _cut_after(ordered: Float[np.ndarray, " n"], flagged: int, *, ties: bool) -> float:
    """The cut under the first ``flagged`` rows; ``ties``: rows as suspect as the last of them lie above it too."""
    if flagged == 0:
        return 1.0
    last, following = ordered[flagged - 1], ordered[flagged] if flagged < len(ordered) else 0.0
    if ties and last == following:
        return float(np.nextafter(last, 0))
    # Halfway to the next row, so that rounding does not decide who is in.
    return float((last + following) / 2)
