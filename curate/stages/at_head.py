"""The evaluation set as a linear head reads it: features with their column of ones, logits, labels.

Knows which head reads what; leaves influence to `head` and the choice of rows to `targets`.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.influence.head import HeadInfluence
from curate.engine.loss import SOFTMAX
from curate.engine.probe import probe_inputs
from curate.stages.heads import Heads, with_ones
from curate.stages.prepare import Data


@dataclass(frozen=True)
class EvaluationAtHead:
    """Rows of the evaluation set, all of them or some; ``x`` where the head's own rows are, the rest on the CPU."""

    head: HeadInfluence
    x: Float[Tensor, "E D"]
    logits: Float[Tensor, "E C"]
    labels: Int[Tensor, " E"]

    @property
    def residuals(self) -> Float[Tensor, "E C"]:
        """p - y of each row: softmax of its logits less its label, one-hot."""
        return SOFTMAX.residuals(self.logits, self.labels).to(self.x)

    @property
    def losses(self) -> Float[Tensor, " E"]:
        """Cross-entropy of each row, nats."""
        return SOFTMAX.losses(self.logits, self.labels)

    def of(self, rows: Int[Tensor, " T"]) -> "EvaluationAtHead":
        """Only these rows, by their place."""
        return EvaluationAtHead(self.head, self.x[rows], self.logits[rows], self.labels[rows])


def evaluation_at_head(data: Data, heads: Heads, *, probe: bool = False) -> EvaluationAtHead:
    """At the model's own head; at the probe if there is none, or ``probe`` asks for it."""
    rows = data.evaluation
    if probe or heads.own_influence is None:
        head = heads.probe_influence
        x = probe_inputs(rows.features).to(head.head.curvature.x)
        return EvaluationAtHead(head, x, heads.probe.logits(x).cpu(), rows.labels)
    assert data.network is not None
    assert rows.logits is not None
    head = heads.own_influence
    x = with_ones(rows.features, data.network.own_head).to(head.head.curvature.x)
    return EvaluationAtHead(head, x, rows.logits.to(x.dtype), rows.labels)
