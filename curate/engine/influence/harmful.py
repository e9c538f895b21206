"""Which rows are harmful: harm beyond what the choice of the evaluation rows explains, and large enough to matter.

One mean gradient has no variance. So the evaluation rows are dealt into groups, each a right-hand side of its own, and
the harm of a row is measured once a group: the spread over the groups gives the interval (batch means). One t test a
row, the false discovery rate controlled over all training rows (Benjamini & Hochberg 1995), and a smallest effect,
since with thousands of evaluation rows every harm differs from zero. Knows numbers only: where the harm by group comes
from is left to `head` and `deep`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.influence.students_t import upper_quantile, upper_tail

GROUPS = 64
"""Groups of evaluation rows, where a right-hand side is cheap."""
FEW_GROUPS = 32
"""The same where each of them is a solve through the network, or at a head too large to be factorised."""
FEWEST_ROWS = 30
"""Evaluation rows below which a spread over them says nothing: no row is called harmful."""
FALSE_DISCOVERIES = 0.05
"""Expected share of rows without harm among those that are called harmful."""
EVEN_SHARES = 2.0
"""Smallest effect, in even shares: the summed evaluation loss over the number of training rows."""


@dataclass(frozen=True)
class HarmByGroup:
    """Harm of some training rows, measured on each group of evaluation rows."""

    rows: Int[Tensor, " m"]
    """Training rows whose harm reaches the minimum; the others cannot be harmful and were not measured."""
    values: Float[Tensor, "m G"]
    """Predicted fall of the mean loss of the group's rows when the row is left out, nats."""


@dataclass(frozen=True)
class Harmful:
    """The rows called harmful, most harm first, and what the word rests on."""

    rows: Int[np.ndarray, " h"]
    low: Float[np.ndarray, " h"]
    """95 % interval of the harm over the choice of evaluation rows, nats."""
    high: Float[np.ndarray, " h"]
    p_value: Float[np.ndarray, " h"]
    """One-sided, of a mean harm at or below zero; not corrected for the number of rows."""
    minimum: float
    """Smallest harm, nats, that is called harmful."""
    groups: int
    tested: int
    """Training rows whose harm reaches the minimum."""


def minimum_harm(summed_loss: float, n: int, targets: int) -> float:
    """The smallest harm that counts, nats of the mean loss of ``targets`` evaluation rows.

    ``summed_loss`` is that of the whole evaluation set: the same yardstick for all of it, a class or a few mistakes.
    Summed over the target rows, the loss has to fall by `EVEN_SHARES` times what each of n training rows would carry.
    """
    return EVEN_SHARES * summed_loss / (n * targets)


def deal(targets: int, groups: int, seed: int) -> Int[Tensor, " targets"]:
    """The group of each evaluation row, at random, sizes as even as can be; at least two rows a group."""
    groups = max(1, min(groups, targets // 2))
    numbers = torch.arange(targets) % groups
    return numbers[torch.randperm(targets, generator=torch.Generator().manual_seed(seed))]


def benjamini_hochberg(p_values: Float[np.ndarray, " m"], tests: int, rate: float) -> Bool[np.ndarray, " m"]:
    """Which of ``tests`` hypotheses are rejected at this false discovery rate; those without a p-value count as 1."""
    order = np.argsort(p_values, kind="stable")
    passed = np.flatnonzero(p_values[order] <= rate * np.arange(1, len(order) + 1) / tests)
    rejected = np.zeros(len(order), dtype=bool)
    rejected[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return rejected


def harmful_rows(harm: Float[Tensor, " n"], by_group: HarmByGroup, minimum: float) -> Harmful:
    """``harm`` is that of every training row on all target rows, nats."""
    rows, groups = by_group.rows.numpy(), by_group.values.shape[1]
    mean = harm[by_group.rows].double().numpy()
    error = by_group.values.double().numpy().std(1, ddof=1) / groups**0.5
    p_values = upper_tail(mean / np.maximum(error, np.finfo(float).tiny), groups - 1)
    half = upper_quantile(0.025, groups - 1) * error
    found = np.flatnonzero(benjamini_hochberg(p_values, len(harm), FALSE_DISCOVERIES))
    found = found[np.lexsort((rows[found], -mean[found]))]
    return Harmful(rows[found], (mean - half)[found], (mean + half)[found], p_values[found], minimum, groups, len(rows))


def at_chance(probabilities: Float[np.ndarray, "n C"], labels: Int[np.ndarray, " n"]) -> bool:
    """Whether the predictions are no better than guesses: the mean recall of the classes is within two standard
    errors of that of the best constant answer. What such a head would lose or gain by a row tells nothing of the row.
    """
    rows = np.bincount(labels, minlength=probabilities.shape[1])
    right = np.bincount(labels, weights=probabilities.argmax(1) == labels, minlength=len(rows))
    there = rows > 0
    recall = float((right[there] / rows[there]).mean())
    chance = 1 / int(there.sum())
    error = float(np.sqrt((chance * (1 - chance) / rows[there]).sum())) / int(there.sum())
    return recall <= chance + 2 * error
