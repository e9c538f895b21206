"""The columns of the table `scores`, from what the stages found out."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from curate.engine.suspicion import Judgement
from curate.engine.suspicion.detectors import agreement, loss, of_given, spoken
from curate.stages.forward import Forward
from curate.stages.heads import Heads
from curate.stages.influence import Influence
from curate.stages.suspicion import Judged


def scores_of(
    rows: Forward,
    probabilities: Float[np.ndarray, "n C"],
    judgement: Judgement,
    heads: Heads,
    judged: Judged,
    influence: Influence | None = None,
    strangers: Collection[int] = (),
) -> dict[str, Sequence[object]]:
    """Columns of the table `scores`, one entry a row, numbers as arrays.

    ``probabilities`` are the model's own, or the probe's. ``influence`` is given for training rows only. No label is
    suggested for ``strangers``, rows that no class fits.
    """
    given, classes = rows.labels.numpy(), rows.source.classes
    order = np.lexsort((np.arange(len(given)), -judgement.suspicion))
    rank = np.empty(len(given), dtype=int)
    rank[order] = np.arange(1, len(given) + 1)
    if influence is not None:
        votes = judged.signals.votes
    else:
        assert judged.evaluation_reading is not None
        votes = judged.evaluation_reading.votes
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -np.inf
    suggested: list[str | None] = [classes[label] for label in judgement.suggested.tolist()]
    probability: list[float | None] = judgement.suggested_probability.tolist()
    for row in strangers:
        suggested[row] = probability[row] = None
    columns: dict[str, Any] = {
        "suspicion": judgement.suspicion,
        "rank": rank,
        "loss": loss(probabilities, given),
        "margin": of_given(probabilities, given) - others.max(1),
        "neighbour_agreement": agreement(votes, given),
        "given_probability": judgement.given_probability,
        "suggested_label": suggested,
        "suggested_probability": probability,
    }
    columns["word"] = list(judgement.words(judged.cut if influence is not None else judged.evaluation_cut))
    if influence is not None:
        columns["self_influence"] = heads.influence.scores.self_influence.numpy()
        columns["harm"] = influence.harm.numpy()
        columns["detectors"] = list(spoken(judged.signals, max(1, round(float(judgement.suspicion.sum())))))
    return columns
