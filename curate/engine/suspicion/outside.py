"""What others say of labels, as experts: probabilities as they are, and a judge's labels by what they have meant.

A judge need not mean by a label what the data set does, nor be right. So his label counts as the distribution of the
given labels over the other rows that he gave it to (the confusion of Dawid & Skene 1979, read from the other end): it
never saw the row's own label. Knows probabilities only.
"""

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "n C"]


def of_judge(votes: Float[np.ndarray, "n C"], given: Int[np.ndarray, " n"]) -> Probabilities:
    """Class probabilities of rows by a judge's labels of them, each row's own given label left out.

    ``votes``: how often he gave each label. A row without a vote says nothing: all classes alike.
    """
    n, classes = votes.shape
    shares = np.bincount(given, minlength=classes) / n
    # Joint counts of his label and the given one: a row with several votes counts once in all.
    total = votes.sum(1, keepdims=True)
    part = np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)
    joint = np.zeros((classes, classes))
    np.add.at(joint.T, given, part)
    meant = np.zeros_like(votes)
    for label in range(classes):
        used = part[:, label] > 0
        others = np.repeat(joint[label][None], int(used.sum()), axis=0)
        others[np.arange(len(others)), given[used]] -= part[used, label]
        # One pseudo-row in the shares of the given labels: of a label that he gave once nothing is known.
        meant[used] += part[used, label, None] * (others + shares) / (others.sum(1, keepdims=True) + 1)
    meant[total[:, 0] == 0] = 1 / classes
    return meant


def spoken_for(probabilities: Float[np.ndarray, "n C"]) -> Probabilities:
    """The same, with all classes alike in rows of which nothing is said."""
    silent = probabilities.sum(1) == 0
    found = probabilities.copy()
    found[silent] = 1 / probabilities.shape[1]
    return found


def nothing(rows: int, classes: int) -> Probabilities:
    """Nothing said of any row."""
    return np.full((rows, classes), 1 / classes)
