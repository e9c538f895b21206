"""Suspicion: the estimated probability that a given label is wrong, and the label that it should have.

q, the class probabilities of a row that its own label did not touch, is the mean of the probe refitted without the
row and of its neighbours' votes, sharpened by a temperature; the noise model turns q and the given label into the
posterior of the true class. No single detector wins everywhere, so each finding says which ones spoke.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from curate.suspicion.detectors import DETECTORS, EPSILON, Signals, of_given
from curate.suspicion.noise_model import NoiseModel, fit_noise_model

__all__ = ["DETECTORS", "Judgement", "Signals", "fit_suspicion", "fit_temperature", "out_of_sample"]

FLAGGED = 0.5
"""Suspicion above which a row is a `mislabeled` finding."""
DEFAULT_TEMPERATURE = 1.5
"""Exponent of q where no evaluation rows tell: a trial on Fashion-MNIST had too timid a q at 1, too bold a one at 2."""
FEW_EVALUATION_ROWS = 100


@dataclass(frozen=True)
class Judgement:
    """What the noise model says of rows, ``[n]`` each."""

    suspicion: Float[np.ndarray, " n"]
    given_probability: Float[np.ndarray, " n"]
    """q of the given label."""
    suggested: Int[np.ndarray, " n"]
    """The most probable class other than the given one."""
    suggested_probability: Float[np.ndarray, " n"]
    """Its posterior probability."""


def out_of_sample(
    left_out: Float[np.ndarray, "n C"], votes: Float[np.ndarray, "n C"], counts: Float[np.ndarray, " C"]
) -> Float[np.ndarray, "n C"]:
    """q before the temperature; the votes are smoothed by one vote in the shares of the given labels."""
    neighbours = (votes + counts / counts.sum()) / (votes.sum(1, keepdims=True) + 1)
    result: np.ndarray = (left_out + neighbours) / 2
    return result


def sharpened(q: Float[np.ndarray, "n C"], temperature: float) -> Float[np.ndarray, "n C"]:
    """q to the power of ``temperature``, normalised; > 1 is bolder."""
    logs = temperature * np.log(np.maximum(q, EPSILON))
    powers = np.exp(logs - logs.max(1, keepdims=True))
    result: np.ndarray = powers / powers.sum(1, keepdims=True)
    return result


def fit_temperature(q: Float[np.ndarray, "m C"], given: Int[np.ndarray, " m"]) -> float:
    """The exponent under which the labels of rows are most likely, a share of them being noise.

    The rows' features must not have been fitted to their labels, or q comes out too timid: evaluation rows, or
    training rows whose features no network learnt from them.
    """
    best, best_likelihood = DEFAULT_TEMPERATURE, -np.inf
    for temperature in np.arange(0.6, 4.01, 0.1):
        right = of_given(sharpened(q, float(temperature)), given)
        for noise in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
            likelihood = np.log((1 - noise) * right + noise / q.shape[1] + EPSILON).mean()
            if likelihood > best_likelihood + 1e-9:
                best, best_likelihood = float(temperature), likelihood
    return round(best, 1)


def judge(model: NoiseModel, q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Judgement:
    """The posterior of every row, read as suspicion and suggestion."""
    posterior = model.posterior(q, given)
    rows = np.arange(len(given))
    others = posterior.copy()
    others[rows, given] = -1.0
    suggested = others.argmax(1)
    return Judgement(
        suspicion=np.clip(1 - posterior[rows, given], 0.0, 1.0),
        given_probability=of_given(q, given),
        suggested=suggested,
        suggested_probability=np.clip(posterior[rows, suggested], 0.0, 1.0),
    )


def fit_suspicion(
    q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"], temperature: float
) -> tuple[NoiseModel, Judgement]:
    """The noise model of the training rows, and its word on each of them."""
    q = sharpened(q, temperature)
    model = fit_noise_model(q, given)
    return model, judge(model, q, given)
