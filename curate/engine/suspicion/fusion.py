"""Experts into one q: weights, temperature and noise model together, by maximum likelihood of the given labels.

Each expert gives class probabilities that a row's own label did not touch. Their logarithmic pool
    q(y | row) ∝ Π_k expert_k(y | row)^w_k,  w_k >= 0
is the true class's distribution; the sum of the weights is its temperature. w and T[true, given] are those under which
the given labels, explained as q T, are most likely (Genest & Zidek 1986 for the pool): one rate for all classes is
climbed with the weights; a rate for each pair of classes is found in turn with them, by EM (Dawid & Skene 1979). The
labels do not tell which account of how they change is right, so each has an equal voice. Knows probabilities only;
which experts speak is left to `experts` and `panel`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from curate.engine.passes import slices
from curate.engine.suspicion.detectors import EPSILON, of_given
from curate.engine.suspicion.noise_model import PRIOR_RIGHT, NoiseModel, changes_alike, fit_noise_model

SMALLEST = 1e-6
"""Probabilities below are taken as this: one expert alone cannot rule a class out."""
MOST_ROWS, MOST_NUMBERS, LEAST_ROWS = 10_000, 2**22, 2_000
"""Rows that noise models are fitted on, beyond which a random sample is; and probabilities of each expert that weights
are, which of many classes are those of fewer rows, never under the last. Trial, 10,000 rows of 1,000 and 500 classes,
all rows and 4,194 and 5,000: average precision .1220 and .1220, .8996 and .9001; noise models of these alone .8957."""
BLOCK = 2**14
"""Probabilities of an expert that are gone through at a time: few enough to stay near the processor."""
CHECKED_ROWS, CHECKED_FOLDS = 2_000, 5
"""Rows that the pool is held against its best expert on, and in how many parts they are left out."""
SHARE_SPREAD, TEMPERATURE_SPREAD = 3.0, 1.0
"""Standard deviations of the normal priors: on the logarithms of the shares, and of the temperature around one."""
EDGES = {"share": (-8.0, 8.0), "temperature": (-2.0, 2.5), "rate": (-16.0, 4.0)}
"""Of the logarithms of shares and temperature, and of the rate's odds."""
MOST_STEPS, LONGEST, SHORTEST = 100, 2.0, 1e-6
"""Of Newton's steps to the weights: at most so many, none farther than this in any logarithm, until one is as short as
that: the next would be about its square."""
FLATTEST, ROUNDING = 1e-6, 1e-14
"""Curvatures below, nats, are taken as this, and by this share of what labels cost a step may be worse."""
ROUNDS, GAIN = 20, 1e-6
"""Turns between weights and noise model: at most so many, until one gains less of the mean log-likelihood, nats."""
START = 0.1
"""The rate that a climb begins with: the prior's mean."""
STREAM = 1402
UNCHANGED = 1e-7
"""The rate of an account in which no label is wrong."""

Probabilities = Float[np.ndarray, "n C"]
Logs = Float[np.ndarray, "K n C"]
"""Of what each expert says."""
Point = tuple[Float[np.ndarray, " K1"], float]
"""Logarithms of shares and temperature, and the rate of changed labels: where a climb begins and ends."""


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
    """By how many nats ``alike`` explains `MOST_ROWS` given labels better than an account in which none is wrong."""
    rows: int = 0
    """That weights were fitted on."""

    @property
    def weights(self) -> Float[np.ndarray, " K"]:
        """Of the experts, the mean of the accounts; their sum is the temperature."""
        result: np.ndarray = (self.alike.weights + self.by_class.weights) / 2
        return result

    def alone(self) -> "Fusion":
        """The account in which labels change alike, alone."""
        return Fusion(self.alike, self.alike, self.evidence, self.rows)

    def pooled(self, experts: list[Probabilities]) -> Probabilities:
        """q of any rows, ``[n C]``, in the account whose temperature overlapping classes do not raise."""
        return self.alike.pooled(experts)

    def posterior(self, experts: list[Probabilities], given: Int[np.ndarray, " n"]) -> Probabilities:
        """Probability of each true class of rows with these given labels."""
        said = [account.noise.posterior(account.pooled(experts), given) for account in (self.alike, self.by_class)]
        result: np.ndarray = np.mean(said, axis=0)
        return result


def fit_fusion(experts: list[Probabilities], given: Int[np.ndarray, " n"], seed: int = 0) -> Fusion:
    """Deterministic; independent of the order of the experts, and of the rows up to the sample.

    If one expert alone explains labels that nothing was fitted to better than the pool does, it speaks alone.
    """
    # A stream of its own: labels that somebody changed by the same seed must not all fall into one half.
    draw = np.random.default_rng([seed, STREAM])
    if len(given) > MOST_ROWS:
        rows = np.sort(draw.choice(len(given), MOST_ROWS, replace=False))
        experts, given = [expert[rows] for expert in experts], given[rows]
    everyone, all_given = experts, given
    most = sample_size(len(given), experts[0].shape[1])
    if len(given) > most:
        rows = np.sort(draw.choice(len(given), most, replace=False))
        experts, given = [expert[rows] for expert in experts], given[rows]
    logs = _logs(experts)
    kept = np.arange(len(experts))
    alike, end = _fit_alike(logs, given, (np.zeros(len(experts) + 1), START))
    alone = _better_alone(experts, logs, given, end, draw) if len(experts) > 1 else None
    if alone is not None:
        kept, logs = np.array([alone]), logs[[alone]]
        alike, end = _fit_alike(logs, given, (np.zeros(2), START))
    by_class = _fit_by_class(logs, given, end)
    unchanged = changes_alike(logs.shape[2], UNCHANGED)
    none = _account(_fit_weights(logs, given, end[0], unchanged), logs, given, unchanged)
    evidence = len(all_given) * (alike.likelihood - none.likelihood)
    alike, by_class = (_spread(account, kept, len(experts)) for account in (alike, by_class))
    if len(given) < len(all_given):
        # How labels change from class to class few rows do not tell, whose weights they do.
        noise = fit_noise_model(by_class.pooled(everyone), all_given, steps=10, tolerance=1e-4, start=by_class.noise)
        by_class = replace(by_class, noise=noise)
    return Fusion(alike, by_class, evidence, len(given))


def sample_size(rows: int, classes: int) -> int:
    """How many rows of such a table weights are fitted on."""
    return min(rows, MOST_ROWS, max(LEAST_ROWS, MOST_NUMBERS // classes))


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
    logs: Logs,
    given: Int[np.ndarray, " n"],
    start: Point,
    draw: np.random.Generator,
) -> int | None:
    """The expert that explains labels better than the pool fitted to other rows, by more than a choice among K experts
    explains (log K nats in all); None if there is none. ``start`` is where the pool of all rows ended."""
    rows = draw.permutation(len(given))[:CHECKED_ROWS]
    total = 0.0
    for part in range(CHECKED_FOLDS):
        held, fitted = rows[part::CHECKED_FOLDS], np.delete(rows, np.s_[part::CHECKED_FOLDS])
        if not len(held):
            return None
        account = _fit_alike(logs[:, fitted], given[fitted], start)[0]
        q = _pool(logs[:, held], account.weights)
        total += len(held) * account.noise.explain(q, given[held])[1]
    single = [float(np.log(np.maximum(of_given(expert[rows], given[rows]), SMALLEST)).sum()) for expert in experts]
    best = int(np.argmax(single))
    return best if single[best] > total + math.log(len(experts)) else None


def _logs(experts: list[Probabilities], smallest: float = SMALLEST) -> Logs:
    result: np.ndarray = np.stack(experts)
    np.maximum(result, smallest, out=result)  # of many rows each copy counts
    np.log(result, out=result)
    return result


def _pool(logs: Logs, weights: Float[np.ndarray, " K"]) -> Probabilities:
    total: np.ndarray = np.tensordot(weights, logs, axes=1)
    np.exp(total - total.max(1, keepdims=True), out=total)
    total /= total.sum(1, keepdims=True)
    return total


def _weights(at: Float[np.ndarray, " K1"]) -> tuple[Float[np.ndarray, " K"], float]:
    """Shares on the simplex and the temperature, of their logarithms."""
    shares = np.exp(at[:-1] - at[:-1].max())
    return shares / shares.sum(), float(np.exp(at[-1]))


def _fit_alike(logs: Logs, given: Int[np.ndarray, " n"], start: Point) -> tuple[Account, Point]:
    """Weights and the one rate at which labels change, climbed together; and where it ended."""
    n = len(given)

    def cost(place: Any) -> tuple[float, Any, Any]:
        rate = _rate(place[-1])
        value, slope, curvature, kept, across = _cost(place[:-1], logs, given, changes_alike(logs.shape[2], rate))
        # d log p / d log odds of the rate = 1 - kept - rate, by the posterior of an unchanged label.
        value -= math.log(rate) + PRIOR_RIGHT * math.log1p(-rate)
        by_rate = float(kept.sum()) - n - 1 + (n + PRIOR_RIGHT + 1) * rate
        bend = (n + PRIOR_RIGHT + 1) * rate * (1 - rate) - float((kept * (1 - kept)).sum())
        return value, np.append(slope, by_rate), np.block([[curvature, across[:, None]], [across, bend]])

    at, rate = start
    place = _lowest(cost, np.append(at, math.log(rate / (1 - rate))), len(logs))
    at, rate = place[:-1], _rate(place[-1])
    return _account(at, logs, given, changes_alike(logs.shape[2], rate)), (at, rate)


def _fit_by_class(logs: Logs, given: Int[np.ndarray, " n"], start: Point) -> Account:
    """Weights and noise model in turn, until both together gain no more."""
    at, noise, before = start[0], None, -np.inf
    for _ in range(ROUNDS):
        shares, temperature = _weights(at)
        q = _pool(logs, temperature * shares)
        noise = fit_noise_model(q, given, steps=10, tolerance=1e-4, start=noise)
        value = noise.explain(q, given)[1] - _prior(at)[0] / len(given)
        if value - before < GAIN:
            break
        before = value
        at = _fit_weights(logs, given, at, noise)
    assert noise is not None
    return _account(at, logs, given, noise)


def _fit_weights(logs: Logs, given: Int[np.ndarray, " n"], at: Float[np.ndarray, " K1"], noise: NoiseModel) -> Any:
    """Weights under a noise model."""
    return _lowest(lambda at: _cost(at, logs, given, noise)[:3], at, len(logs))


def _lowest(cost: Callable[[Any], tuple[float, Any, Any]], start: Any, count: int) -> Any:
    """Where ``cost``, which tells its slope and curvature too, is least, by Newton's steps.

    To the digits of float64: these valleys are flat, and where one stops on the way is up to rounding. Along a
    curvature below zero a step goes downhill as along one above it (Dauphin et al. 2014).
    """
    low, high = np.array([EDGES["share"]] * count + [EDGES["temperature"], EDGES["rate"]])[: len(start)].T
    place, (value, slope, curvature) = start, cost(start)
    for _ in range(MOST_STEPS):
        free = ~((place <= low) & (slope > 0) | (place >= high) & (slope < 0))
        values, vectors = np.linalg.eigh(curvature[np.ix_(free, free)])
        step = np.zeros_like(place)
        step[free] = vectors @ (vectors.T @ slope[free] / np.maximum(np.abs(values), FLATTEST))
        step /= max(1.0, np.abs(step).max() / LONGEST)
        worse = value + ROUNDING * abs(value)
        while (there := cost(np.clip(place - step, low, high)))[0] > worse and np.abs(step).max() > SHORTEST:
            step /= 2
        place, (value, slope, curvature) = np.clip(place - step, low, high), there
        if np.abs(step).max() <= SHORTEST:
            break
    return place


def _cost(
    at: Float[np.ndarray, " K1"], logs: Logs, given: Int[np.ndarray, " n"], noise: NoiseModel
) -> tuple[float, Float[np.ndarray, " K1"], Float[np.ndarray, "K1 K1"], Float[np.ndarray, " n"], Any]:
    """What the given labels cost under these weights, nats, with the prior; its slope and curvature; the posterior of
    each given label; and the slope ``[K1]`` of their sum."""
    shares, temperature = _weights(at)
    blocks = slices(len(given), BLOCK // logs.shape[2])
    parts = [_of_rows(temperature * shares, logs[:, rows], given[rows], noise) for rows in blocks]
    logarithm, towards, by_weights = (sum(part[term] for part in parts) for term in range(3))
    kept = np.concatenate([part[3] for part in parts])
    mean = float(shares @ towards)
    off = shares * (towards - mean)
    slope = temperature * np.append(off, mean)
    # Weights are temperature times shares, and shares a softmax: its slope, and how both bend the cost.
    moved = temperature * np.column_stack([np.diag(shares) - np.outer(shares, shares), shares])
    curvature = moved.T @ by_weights @ moved
    curvature[:-1, :-1] += temperature * (np.diag(off) - np.outer(shares, off) - np.outer(off, shares))
    curvature[-1], curvature[:-1, -1] = curvature[-1] + slope, curvature[:-1, -1] + slope[:-1]
    across = moved.T @ sum(part[4] for part in parts)
    prior, pulled, bent = _prior(at)
    return prior - logarithm, slope + pulled, curvature + bent, kept, across


def _of_rows(
    weights: Float[np.ndarray, " K"], logs: Logs, given: Int[np.ndarray, " n"], noise: NoiseModel
) -> tuple[Any, ...]:
    """Of some rows: the log-likelihood of their labels, minus its slope ``[K]`` and curvature ``[K K]`` in the weights,
    the posterior of each given label, and the slope of their sum."""
    logs = np.ascontiguousarray(logs)
    q = _pool(logs, weights)
    posterior, likelihood = noise.explain(q, given)
    # d log p / d weight = Σ_y (posterior - q) log expert; its slope are the covariances of these logarithms.
    surprise, flat = q - posterior, logs.reshape(len(logs), -1)
    means, before = np.einsum("knc,nc->kn", logs, posterior), np.einsum("knc,nc->kn", logs, q)
    by_weights = flat @ (logs * surprise).reshape(len(logs), -1).T + means @ means.T - before @ before.T
    kept = of_given(posterior, given)
    across = (logs[:, np.arange(len(given)), given] - means) @ kept
    return len(given) * likelihood, flat @ surprise.ravel(), by_weights, kept, across


def _account(at: Float[np.ndarray, " K1"], logs: Logs, given: Int[np.ndarray, " n"], noise: NoiseModel) -> Account:
    shares, temperature = _weights(at)
    weights = temperature * shares
    return Account(weights, noise, noise.explain(_pool(logs, weights), given)[1])


def _prior(at: Float[np.ndarray, " K1"]) -> tuple[float, Float[np.ndarray, " K1"], Float[np.ndarray, "K1 K1"]]:
    """What the normal priors take off the log-likelihood, its slope and its curvature."""
    tight = np.append(np.full(len(at) - 1, SHARE_SPREAD), TEMPERATURE_SPREAD) ** -2
    return 0.5 * float(tight @ at**2), tight * at, np.diag(tight)


def _rate(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
