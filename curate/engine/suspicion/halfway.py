"""Whether a network keeps to what it says of a row half way to the nearest other row.

A network that has learnt what its classes look like is unsure if it is about to change its mind. One that knows labels
by heart is sure of each row and of something else close by: around a wrong label that it repeats lie rows of the true
class, whatever that looks like. So this shows look-alike flips too, of which no depth is sure. Knows inputs, logits
and neighbours; what follows from it is decided by `panel`.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.rows import Rows
from curate.engine.suspicion.experts import Material

SURE = 0.9
"""Probability of its likeliest class from which the network is sure of a row."""
MOST_ROWS, BATCH = 2_000, 256
"""Rows that are asked about, a random sample of more; and how many at once."""
CANDIDATES = 5
"""Nearest rows among which one of other content is looked for."""
STREAM = 2511


def wavering(
    rows: Rows,
    agrees: Bool[np.ndarray, " n"],
    material: Material,
    network: Callable[[Float[Tensor, "b ..."]], Float[Tensor, "b C"]],
) -> float | None:
    """Share of the rows that the network is sure of, with their label, and calls otherwise half way to the nearest.

    ``material`` are the features by which a row is near; ``network`` gives logits of inputs. None if the inputs are no
    numbers: there is nothing between two words.
    """
    assert rows.logits is not None
    some = np.random.default_rng([material.seed, STREAM]).permutation(len(rows))[:MOST_ROWS]
    sure = agrees & (rows.logits.softmax(1).max(1).values >= SURE).numpy()
    asked = np.sort(some[sure[some]])
    if not rows.inputs.batch(torch.from_numpy(asked[:1])).is_floating_point():
        return None
    others, changed = _nearest(material, asked), torch.tensor(0)
    for part in material.passes.parts(len(asked), material.passes.budget.share(BATCH)):
        places = torch.from_numpy(asked)[part]
        own, other = (rows.inputs.batch(those) for those in (places, torch.from_numpy(others)[part]))
        said = network((own + other) / 2).argmax(1).cpu()
        changed += (said != rows.logits[places].argmax(1)).sum()
    return int(material.passes.sum(changed)) / len(some)


def _nearest(material: Material, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The nearest row of other content; the row itself if there is none among the `CANDIDATES`."""
    found, _ = material.neighbours.nearest(material.features[rows], CANDIDATES)
    group = material.copies.group.numpy()
    other = group[found] != group[rows][:, None]
    first: np.ndarray = found[np.arange(len(rows)), other.argmax(1)]
    return np.where(other.any(1), first, rows)
