"""What a finder is given, and what it yields.

A finder is a function from ``Scan`` to findings, named by its rule (``Rule.finder``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from curate.engine.neighbours import Neighbours
from curate.stages.forward import Forward
from curate.stages.influence import Influence
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged


@dataclass(frozen=True)
class Contents:
    """The rows as they were read: all that a finder of a rule ``of_contents`` may ask."""

    data: Data

    @property
    def splits(self) -> dict[str, Forward]:
        """The rows by split; `eval` is there only if an evaluation set was given."""
        data = self.data
        return {"train": data.train} if data.own_evaluation else {"train": data.train, "eval": data.evaluation}


@dataclass(frozen=True)
class Scan(Contents):
    """What the stages of a scan found out: all that a finder may ask."""

    judged: Judged
    influence: Influence
    neighbours: Neighbours

    @property
    def right_on_evaluation(self) -> Bool[np.ndarray, " m"]:
        """Whether the model, or the probe if it has none of these classes, tells each given evaluation row right."""
        rows, network = self.data.evaluation, self.data.network
        if rows.logits is not None and network is not None and network.own_classes:
            return np.asarray((rows.logits.argmax(1) == rows.labels).numpy(), dtype=bool)
        assert self.judged.evaluation_reading is not None
        return np.asarray(self.judged.evaluation_reading.probe.argmax(1) == rows.labels.numpy(), dtype=bool)


@dataclass(frozen=True)
class Found:
    """A finding before it has an example id."""

    split: str  # train or eval
    row: int | None  # counts the rows of its split that were read, and behind them those that could not be
    rule: str
    severity: str
    score: float | None
    why: str  # one sentence
    evidence: dict[str, object] = field(default_factory=dict)
    near: bool = False  # the nearest training rows are evidence too
    subject: str = "row"  # or cluster (a finding for each of its rows), class, column (both have no row)
    name: str | None = None  # of the class or column; of a cluster, the key of the row that stands for it
    members: Sequence[str] = ()  # content hashes of a cluster's rows
