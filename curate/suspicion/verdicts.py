"""Suspicion as a probability, corrected by what people said of the rows.

Knows the correction: a line in log odds, fitted to the verdicts (Platt 1999) and held to the identity by a prior, so
that few words move little. The order of the rows stays. Which row has which verdict is known to ``curate.record``.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

FEWEST = 30
"""Verdicts from which suspicion is corrected."""
SHIFT, SLOPE = 1.0, 0.5
"""Standard deviations of the prior: of the shift, and of the logarithm of the slope."""
EDGE = 1e-9
UNKNOWN, RIGHT, WRONG = -1, 0, 1


@dataclass(frozen=True)
class Correction:
    """New log odds = ``shift`` + ``slope`` * old log odds, from this many verdicts of each kind."""

    shift: float
    slope: float
    wrong: int
    right: int

    def of(self, suspicion: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return np.asarray(expit(self.shift + self.slope * logit(np.clip(suspicion, EDGE, 1 - EDGE))))


def fit(suspicion: Float[np.ndarray, " n"], words: Int[np.ndarray, " n"]) -> Correction | None:
    """``words``: WRONG, RIGHT or UNKNOWN for each row. None where fewer than ``FEWEST`` are known.

    That people look at the most suspect rows first does no harm: the fit is of the verdict given the suspicion.
    """
    known = words != UNKNOWN
    if int(known.sum()) < FEWEST:
        return None
    odds = logit(np.clip(suspicion[known].astype(float), EDGE, 1 - EDGE))
    wrong = (words[known] == WRONG).astype(float)

    def cost(at: Float[np.ndarray, " 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
        slope = np.exp(at[1])
        new = at[0] + slope * odds
        off = expit(new) - wrong
        value = np.logaddexp(0, new).sum() - (wrong * new).sum() + 0.5 * ((at[0] / SHIFT) ** 2 + (at[1] / SLOPE) ** 2)
        return float(value), np.array(
            [off.sum() + at[0] / SHIFT**2, (off * odds).sum() * slope + at[1] / SLOPE**2]
        )  # fmt: skip

    shift, log_slope = minimize(cost, np.zeros(2), jac=True, method="L-BFGS-B").x
    return Correction(float(shift), float(np.exp(log_slope)), int(wrong.sum()), int((1 - wrong).sum()))
