"""The signals behind suspicion, one function each: higher means more suspect.

Knows what each detector reads of a row; leaves how they are weighed to `noise_model`. `DETECTORS` names them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

EPSILON = 1e-12


@dataclass(frozen=True)
class Signals:
    """What is known of n training rows. Probabilities ``[n C]``; None where there is no such head."""

    given: Int[np.ndarray, " n"]
    head: Float[np.ndarray, "n C"] | None
    """The model's own head, which has seen the row."""
    head_self_influence: Float[np.ndarray, " n"] | None
    head_input_length: Float[np.ndarray, " n"] | None
    """Euclidean length of what the own head reads of the row."""
    left_out: Float[np.ndarray, "n C"]
    """The probe refitted without the row and its copies."""
    probe_self_influence: Float[np.ndarray, " n"]
    votes: Float[np.ndarray, "n C"]
    """Votes of the nearest rows, the row's copies left out."""
    early_left_out: Float[np.ndarray, "n C"] | None
    early_votes: Float[np.ndarray, "n C"] | None
    """The same two from halfway up the network; None without a network."""
    checkpoint_loss: Float[np.ndarray, " n"] | None = None
    """Mean loss over several checkpoints of one training, nats; None with one."""
    network_self_influence: Float[np.ndarray, " n"] | None = None
    """Through the parameters that were asked for beyond the head, nats."""
    energy: Float[np.ndarray, " n"] | None = None
    """At the probe, fitted to all rows: minus the logarithm of the sum of its outputs' exponentials (Liu et al. 2020),
    high if there is little evidence for any class."""
    outside: Mapping[str, Float[np.ndarray, "n C"]] = field(default_factory=dict)
    """What others say of the rows, by name."""


def of_given(table: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Each row's entry at its given label."""
    result: np.ndarray = table[np.arange(len(given)), given]
    return result


def margin(probabilities: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Probability of the given label minus the largest other one, -1 to 1."""
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -np.inf
    result: np.ndarray = of_given(probabilities, given) - others.max(1)
    return result


def loss(probabilities: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Cross-entropy of the given label, nats."""
    result: np.ndarray = -np.log(np.maximum(of_given(probabilities, given), EPSILON))
    return result


def agreement(votes: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share of the votes for the given label, 0 to 1; one half where nobody votes."""
    total = votes.sum(1)
    result: np.ndarray = np.where(total > 0, of_given(votes, given) / np.maximum(total, EPSILON), 0.5)
    return result


def gradient_norm(
    probabilities: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"], length: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Length of the loss's gradient in the head's weights: |p - y| |h|."""
    gap = probabilities.copy()
    gap[np.arange(len(given)), given] -= 1
    result: np.ndarray = np.linalg.norm(gap, axis=1) * length
    return result


Detector = Callable[[Signals], Float[np.ndarray, " n"] | None]

DETECTORS: dict[str, Detector] = {
    "loss": lambda s: None if s.head is None else loss(s.head, s.given),
    "margin": lambda s: None if s.head is None else -margin(s.head, s.given),
    "gradient_norm": lambda s: (
        None if s.head is None or s.head_input_length is None else gradient_norm(s.head, s.given, s.head_input_length)
    ),
    "self_influence": lambda s: s.head_self_influence,
    "probe_self_influence": lambda s: s.probe_self_influence,
    "leave_one_out_loss": lambda s: loss(s.left_out, s.given),
    "leave_one_out_margin": lambda s: -margin(s.left_out, s.given),
    "neighbours": lambda s: 1 - agreement(s.votes, s.given),
    "early_loss": lambda s: None if s.early_left_out is None else loss(s.early_left_out, s.given),
    "early_margin": lambda s: None if s.early_left_out is None else -margin(s.early_left_out, s.given),
    "early_neighbours": lambda s: None if s.early_votes is None else 1 - agreement(s.early_votes, s.given),
    "checkpoint_loss": lambda s: s.checkpoint_loss,
    "network_self_influence": lambda s: s.network_self_influence,
}


def spoken(signals: Signals, count: int) -> list[str]:
    """For each row the names of the detectors that have it among their ``count`` most suspect, commas between."""
    names: list[list[str]] = [[] for _ in signals.given]
    for name, detector in DETECTORS.items():
        values = detector(signals)
        if values is not None:
            for row in np.argsort(-values, kind="stable")[:count].tolist():
                names[row].append(name)
    return [",".join(of_row) for of_row in names]
