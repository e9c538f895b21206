"""From out-of-sample class probabilities to the probability that a given label is wrong.

q(y | row) are probabilities that never saw the row's own label; T[true, given] is how labels get changed. EM finds T
(Dawid & Skene 1979, with one annotator and the classifier as the prior) and the posterior of each row's true class:
    posterior(y | row, given) ∝ q(y | row) T[y, given]
Two accounts of T are told apart. In the one labels change class by class, and a Dirichlet prior that scales with the
classes keeps T near the identity if the data say little. In the other every label changes alike, to any other class.
Noise between look-alike classes asks for the first; classes that overlap by nature look like such noise to it, and
only the second ranks the labels that are plainly wrong before those that nobody could tell.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

PRIOR_RIGHT = 9.0
"""Pseudo-rows of a class that keep their label; one pseudo-row in all is spread over the other classes."""


@dataclass(frozen=True)
class NoiseModel:
    """``transition[true, given]``, rows sum to one."""

    transition: Float[np.ndarray, "C C"]

    @property
    def rate(self) -> float:
        """Mean share of a class's rows that get another label."""
        return float(1 - np.diag(self.transition).mean())

    @cached_property
    def _of_given(self) -> Float[np.ndarray, "C C"]:
        """``[given, true]``, row by row in memory."""
        return np.ascontiguousarray(self.transition.T)

    def posterior(self, q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C"]:
        """Probability of each true class, ``[n C]``."""
        return self.explain(q, given)[0]

    def explain(
        self, q: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n C"], float]:
        """The posterior, and the mean log-likelihood of the given labels, nats."""
        joint = self._of_given[given]
        joint *= q
        total = joint.sum(1, keepdims=True)
        joint /= total
        return joint, float(np.log(total).mean())


def changes_alike(classes: int, rate: float) -> NoiseModel:
    """A label is changed with probability ``rate``, to each other class alike."""
    transition = np.full((classes, classes), rate / max(1, classes - 1))
    np.fill_diagonal(transition, 1 - rate)
    return NoiseModel(transition)


def fit_noise_model(
    q: Float[np.ndarray, "n C"],
    given: Int[np.ndarray, " n"],
    steps: int = 200,
    tolerance: float = 1e-5,
    start: NoiseModel | None = None,
    alike: bool = False,
) -> NoiseModel:
    """EM from the prior's mean or ``start``; deterministic, and independent of the rows' order up to rounding."""
    classes = q.shape[1]
    prior = np.full((classes, classes), 1 / max(1, classes - 1))
    np.fill_diagonal(prior, PRIOR_RIGHT)
    model = start or NoiseModel(prior / prior.sum(1, keepdims=True))
    present, first = np.unique(np.sort(given), return_index=True)
    ordered = q[np.argsort(given, kind="stable")]
    of_class = [ordered[start:end] for start, end in zip(first, [*first[1:], len(q)], strict=True)]
    for _ in range(steps):
        counts = prior.copy()
        for label, rows in zip(present, of_class, strict=True):
            # The posteriors of rows with one label, summed: no table of all rows is written down.
            column = model.transition[:, label]
            counts[:, label] += column * ((1 / (rows @ column)) @ rows)
        if alike:
            # One rate for all: the prior counts for one class.
            changed, prior_changed = counts.sum() - np.trace(counts), float(classes)
            total = counts.sum() - (PRIOR_RIGHT + 1) * (classes - 1)
            better = changes_alike(classes, (changed - prior_changed + 1) / total).transition
        else:
            better = counts / counts.sum(1, keepdims=True)
        change = np.abs(better - model.transition).max()
        model = NoiseModel(better)
        if change < tolerance:
            break
    return model
