"""Experts into one q: weights and noise model together, by maximum likelihood of the given labels.

Each expert gives class probabilities that a row's own label did not touch. Their logarithmic pool
    q(y | row) ∝ Π_k expert_k(y | row)^w_k,  w_k >= 0
is the true class's distribution; the sum of the weights is its temperature. EM finds w and T[true, given] so that the
given labels, explained as q T, are most likely (Genest & Zidek 1986 for the pool, Dawid & Skene 1979 for EM). Knows
probabilities only; which experts speak is left to `experts` and `stage`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

from curate.suspicion.detectors import EPSILON
from curate.suspicion.noise_model import NoiseModel, fit_noise_model

SMALLEST = 1e-6
"""Probabilities below are taken as this: one expert alone cannot rule a class out."""
MOST_ROWS = 20_000
"""Rows that weights and noise model are fitted on; beyond, a random sample."""
SPREAD = 1.0
"""Standard deviation of the normal prior on each weight, around `MEAN_TOTAL` shared out evenly: 50 rows have a
weak word, 1,000 rows a strong one."""
MEAN_TOTAL = 2.0
MOST_WEIGHT = 6.0
ROUNDS = 40

Probabilities = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Fusion:
    """Weights ``[K]`` of the experts and the noise model fitted with them."""

    weights: Float[np.ndarray, " K"]
    noise: NoiseModel

    def pooled(self, experts: list[Probabilities]) -> Probabilities:
        """q of any rows, ``[n C]``."""
        return _pool(_logs(experts), self.weights)

    def posterior(self, experts: list[Probabilities], given: Int[np.ndarray, " n"]) -> Probabilities:
        """Probability of each true class of rows with these given labels."""
        return self.noise.posterior(self.pooled(experts), given)


def fit_fusion(experts: list[Probabilities], given: Int[np.ndarray, " n"], seed: int = 0) -> Fusion:
    """Deterministic; independent of the order of the experts, and of the rows up to the sample of `MOST_ROWS`."""
    if len(given) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(given), MOST_ROWS, replace=False))
        experts, given = [expert[rows] for expert in experts], given[rows]
    logs = _logs(experts)
    mean = MEAN_TOTAL / len(experts)
    weights = np.full(len(experts), mean)
    noise: NoiseModel | None = None
    before = -np.inf
    for _ in range(ROUNDS):
        q = _pool(logs, weights)
        noise = fit_noise_model(q, given, steps=10, tolerance=1e-4, start=noise)
        target, likelihood = noise.explain(q, given)
        likelihood -= 0.5 * float(((weights - mean) ** 2).sum()) / SPREAD**2 / len(given)
        if likelihood - before < 1e-6:
            break
        before = likelihood
        weights = _better(weights, mean, logs, target)
    assert noise is not None
    return Fusion(weights, noise)


def logarithmic_mean(posteriors: list[Probabilities]) -> Probabilities:
    """The pool of several judges with one voice each."""
    return _pool(_logs(posteriors, EPSILON), np.full(len(posteriors), 1 / len(posteriors)))


def _logs(experts: list[Probabilities], smallest: float = SMALLEST) -> list[Probabilities]:
    return [np.log(np.maximum(expert, smallest)) for expert in experts]


def _pool(logs: list[Probabilities], weights: Float[np.ndarray, " K"]) -> Probabilities:
    total = sum((weight * log for weight, log in zip(weights, logs, strict=True)), np.zeros_like(logs[0]))
    total = np.exp(total - total.max(1, keepdims=True))
    result: np.ndarray = total / total.sum(1, keepdims=True)
    return result


def _better(
    weights: Float[np.ndarray, " K"], mean: float, logs: list[Probabilities], target: Probabilities
) -> Float[np.ndarray, " K"]:
    """The weights under which the expected true classes ``target`` are likelier; the objective is concave."""
    n = len(target)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        q = _pool(logs, w)
        value = (
            -float((target * np.log(np.maximum(q, EPSILON))).sum()) + 0.5 * float(((w - mean) ** 2).sum()) / SPREAD**2
        )
        gap = q - target
        slope = np.array([float((gap * log).sum()) for log in logs]) + (w - mean) / SPREAD**2
        return value / n, slope / n

    bounds = [(0.0, MOST_WEIGHT)] * len(weights)
    found: np.ndarray = minimize(loss, weights, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 8}).x
    return found
