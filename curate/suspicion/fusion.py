"""Experts into one q: weights, temperature and noise model together, by maximum likelihood of the given labels.

Each expert gives class probabilities that a row's own label did not touch. Their logarithmic pool
    q(y | row) ∝ Π_k expert_k(y | row)^w_k,  w_k >= 0
is the true class's distribution; the sum of the weights is its temperature. EM finds w and T[true, given] so that the
given labels, explained as q T, are most likely (Genest & Zidek 1986 for the pool, Dawid & Skene 1979 for EM), once for
each account of how labels change; the labels do not tell which account is right, so each has an equal voice. Knows
probabilities only; which experts speak is left to `experts` and `panel`.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

from curate.suspicion.detectors import EPSILON, of_given
from curate.suspicion.noise_model import NoiseModel, changes_alike, fit_noise_model

SMALLEST = 1e-6
"""Probabilities below are taken as this: one expert alone cannot rule a class out."""
MOST_ROWS = 10_000
"""Rows that weights and noise models are fitted on; beyond, a random sample."""
CHECKED_ROWS, CHECKED_FOLDS = 2_000, 5
"""Rows that the pool is held against its best expert on, and in how many parts they are left out."""
SHARE_SPREAD, TEMPERATURE_SPREAD = 3.0, 1.0
"""Standard deviations of the normal priors: on the logarithms of the shares, and of the temperature around one."""
EDGES = {"share": (-8.0, 8.0), "temperature": (-2.0, 2.5)}
ROUNDS, GAIN = 40, 1e-6
"""Of EM: at most so many, and until one gains less than this of the mean log-likelihood, nats."""
STREAM = 1402
UNCHANGED = 1e-7
"""The rate of an account in which no label is wrong."""

Probabilities = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Account:
    """One account of how labels change: weights ``[K]`` of the experts and the noise model fitted with them."""

    weights: Float[np.ndarray, " K"]
    noise: NoiseModel
    likelihood: float
    """Mean log-likelihood of the given labels, nats."""

    def pooled(self, experts: list[Probabilities]) -> Probabilities:
        """q of any rows, ``[n C]``."""
        return _pool(_logs(experts), self.weights)


@dataclass(frozen=True)
class Fusion:
    """The two accounts: in ``alike`` every label changes alike, in ``by_class`` class by class."""

    alike: Account
    by_class: Account
    evidence: float = 0.0
    """By how many nats ``alike`` explains all given labels better than an account in which none is wrong."""

    @property
    def weights(self) -> Float[np.ndarray, " K"]:
        """Of the experts, the mean of the accounts; their sum is the temperature."""
        result: np.ndarray = (self.alike.weights + self.by_class.weights) / 2
        return result

    def alone(self) -> "Fusion":
        """The account in which labels change alike, alone."""
        return Fusion(self.alike, self.alike, self.evidence)

    def pooled(self, experts: list[Probabilities]) -> Probabilities:
        """q of any rows, ``[n C]``, in the account whose temperature overlapping classes do not raise."""
        return self.alike.pooled(experts)

    def posterior(self, experts: list[Probabilities], given: Int[np.ndarray, " n"]) -> Probabilities:
        """Probability of each true class of rows with these given labels."""
        said = [account.noise.posterior(account.pooled(experts), given) for account in (self.alike, self.by_class)]
        result: np.ndarray = np.mean(said, axis=0)
        return result


def fit_fusion(experts: list[Probabilities], given: Int[np.ndarray, " n"], seed: int = 0) -> Fusion:
    """Deterministic; independent of the order of the experts, and of the rows up to the sample of `MOST_ROWS`.

    If one expert alone explains labels that nothing was fitted to better than the pool does, it speaks alone.
    """
    # A stream of its own: labels that somebody changed by the same seed must not all fall into one half.
    draw = np.random.default_rng([seed, STREAM])
    if len(given) > MOST_ROWS:
        rows = np.sort(draw.choice(len(given), MOST_ROWS, replace=False))
        experts, given = [expert[rows] for expert in experts], given[rows]
    logs = _logs(experts)
    kept = np.arange(len(experts))
    alike, at = _fit(logs, given, np.zeros(len(experts) + 1), alike=True)
    alone = _better_alone(experts, logs, given, at, draw) if len(experts) > 1 else None
    if alone is not None:
        kept, logs = np.array([alone]), [logs[alone]]
        alike, at = _fit(logs, given, np.zeros(2), alike=True)
    by_class = _fit(logs, given, at, alike=False)[0]
    none = _fit(logs, given, at, alike=True, noise=changes_alike(experts[0].shape[1], UNCHANGED))[0]
    evidence = len(given) * (alike.likelihood - none.likelihood)
    return Fusion(_spread(alike, kept, len(experts)), _spread(by_class, kept, len(experts)), evidence)


def logarithmic_mean(posteriors: list[Probabilities]) -> Probabilities:
    """The pool of several judges with one voice each."""
    return _pool(_logs(posteriors, EPSILON), np.full(len(posteriors), 1 / len(posteriors)))


def _spread(account: Account, kept: Int[np.ndarray, " k"], count: int) -> Account:
    """The account of some of ``count`` experts as one of all."""
    weights = np.zeros(count)
    weights[kept] = account.weights
    return Account(weights, account.noise, account.likelihood)


def _better_alone(
    experts: list[Probabilities],
    logs: list[Probabilities],
    given: Int[np.ndarray, " n"],
    at: Float[np.ndarray, " K1"],
    draw: np.random.Generator,
) -> int | None:
    """The expert that explains labels better than the pool fitted to other rows, by more than a choice among K experts
    explains (log K nats in all); None if there is none. ``at`` is where the search for its weights begins."""
    rows = draw.permutation(len(given))[:CHECKED_ROWS]
    total = 0.0
    for part in range(CHECKED_FOLDS):
        held, fitted = rows[part::CHECKED_FOLDS], np.delete(rows, np.s_[part::CHECKED_FOLDS])
        if not len(held):
            return None
        account = _fit([log[fitted] for log in logs], given[fitted], at, alike=True)[0]
        q = _pool([log[held] for log in logs], account.weights)
        total += len(held) * account.noise.explain(q, given[held])[1]
    single = [float(np.log(np.maximum(of_given(expert[rows], given[rows]), SMALLEST)).sum()) for expert in experts]
    best = int(np.argmax(single))
    return best if single[best] > total + math.log(len(experts)) else None


def _logs(experts: list[Probabilities], smallest: float = SMALLEST) -> list[Probabilities]:
    return [np.log(np.maximum(expert, smallest)) for expert in experts]


def _pool(logs: list[Probabilities], weights: Float[np.ndarray, " K"]) -> Probabilities:
    total = sum((weight * log for weight, log in zip(weights, logs, strict=True)), np.zeros_like(logs[0]))
    total = np.exp(total - total.max(1, keepdims=True))
    result: np.ndarray = total / total.sum(1, keepdims=True)
    return result


def _weights(at: Float[np.ndarray, " K1"]) -> tuple[Float[np.ndarray, " K"], float]:
    """Shares on the simplex and the temperature, of their logarithms."""
    shares = np.exp(at[:-1] - at[:-1].max())
    return shares / shares.sum(), float(np.exp(at[-1]))


def _fit(
    logs: list[Probabilities],
    given: Int[np.ndarray, " n"],
    at: Float[np.ndarray, " K1"],
    *,
    alike: bool,
    noise: NoiseModel | None = None,
) -> tuple[Account, Float[np.ndarray, " K1"]]:
    """EM over weights and noise model, or over the weights alone if ``noise`` is given; and where it ended.

    ``at``: logarithms of shares and temperature to begin with.
    """
    fixed, before, likelihood = noise, -np.inf, -np.inf
    for _ in range(ROUNDS):
        shares, temperature = _weights(at)
        q = _pool(logs, temperature * shares)
        noise = fixed or fit_noise_model(q, given, steps=10, tolerance=1e-4, start=noise, alike=alike)
        target, likelihood = noise.explain(q, given)
        value = likelihood - _prior(at)[0] / len(given)
        if value - before < GAIN:
            break
        before = value
        at = _better(at, logs, target)
    assert noise is not None
    shares, temperature = _weights(at)
    return Account(temperature * shares, noise, likelihood), at


def _prior(at: Float[np.ndarray, " K1"]) -> tuple[float, Float[np.ndarray, " K1"]]:
    """What the normal priors take off the log-likelihood, and its slope."""
    spreads = np.append(np.full(len(at) - 1, SHARE_SPREAD), TEMPERATURE_SPREAD)
    return 0.5 * float(((at / spreads) ** 2).sum()), at / spreads**2


def _better(at: Float[np.ndarray, " K1"], logs: list[Probabilities], target: Probabilities) -> Float[np.ndarray, " K1"]:
    """Shares and temperature under which the expected true classes ``target`` are likelier."""
    n = len(target)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        shares, temperature = _weights(at)
        q = _pool(logs, temperature * shares)
        prior, slope = _prior(at)
        gap = q - target
        towards = np.array([float((gap * log).sum()) for log in logs])
        mean = float((shares * towards).sum())
        slope = slope + temperature * np.append(shares * (towards - mean), mean)
        return (prior - float((target * np.log(np.maximum(q, EPSILON))).sum())) / n, slope / n

    bounds = [EDGES["share"]] * len(logs) + [EDGES["temperature"]]
    found: np.ndarray = minimize(loss, at, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 10}).x
    return found
