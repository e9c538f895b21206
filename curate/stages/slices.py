"""Harm by slice: `--slice COLUMN` asks, for each value of a column, which training rows harm the rows with that value.

Answered at the head, where one factor serves all slices at once; harm of the whole set is left to `influence`.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.influence.head import HeadInfluence
from curate.errors import UsageError
from curate.stages.forward import Forward

MOST_SLICES = 50
FEWEST_ROWS = 5
"""A slice with fewer evaluation rows is left out: its loss is theirs alone."""
TOP = 5


@dataclass(frozen=True)
class SliceHarm:
    """Evaluation rows with one value, and the training rows that harm them most."""

    column: str
    value: str
    rows: int
    loss: float
    """Mean, nats."""
    accuracy: float
    harmful: Int[Tensor, " t"]
    """Most harm first; only rows with harm > 0."""
    harm: Float[Tensor, " t"]
    """Predicted fall of the slice's mean loss without the row, nats."""


def harm_by_slice(
    column: str,
    evaluation: Forward,
    head: HeadInfluence,
    x: Float[Tensor, "E D"],
    residuals: Float[Tensor, "E C"],
    losses: Float[Tensor, " E"],
    right: Tensor,
) -> list[SliceHarm]:
    """The slices of highest mean loss first. Raises `UsageError` where no value has enough rows."""
    values = evaluation.source.values(column)
    of_rows = [values[index] for index in evaluation.indices]
    counts = Counter(value for value in of_rows if value is not None)
    names = [value for value, count in counts.most_common(MOST_SLICES) if count >= FEWEST_ROWS]
    if not names:
        raise UsageError(
            f"--slice {column}: no value has {FEWEST_ROWS} evaluation rows or more ({len(counts):,} values)",
            f"One value is asked for with --slice {column}=VALUE.",
        )
    members = [torch.tensor([row for row, value in enumerate(of_rows) if value == name]) for name in names]
    means = torch.cat([head.mean_of(x[rows], residuals[rows]) for rows in members])
    solved, _, _ = head.solve(means)
    harm = -head.on_everyone(solved)
    found = []
    for place, (name, rows) in enumerate(zip(names, members, strict=True)):
        most = harm[:, place].argsort(descending=True, stable=True)[:TOP]
        most = most[harm[most, place] > 0]
        found.append(
            SliceHarm(
                column,
                name,
                len(rows),
                float(losses[rows].mean()),
                float(right[rows].double().mean()),
                most.cpu(),
                harm[most, place].cpu(),
            )
        )
    return sorted(found, key=lambda one: (-one.loss, one.value))
