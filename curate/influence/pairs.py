"""The strongest training rows of each evaluation row: what is kept of a matrix of influence that is never held."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Influence of training row ``train[j]`` on evaluation row ``evaluation[j]``, nats; > 0 helps, < 0 harms.

    ``rank`` is 1, 2, ... from the most helpful row of an evaluation row, -1, -2, ... from the most harmful one.
    """

    evaluation: Int[Tensor, " m"]
    train: Int[Tensor, " m"]
    influence: Float[Tensor, " m"]
    rank: Int[Tensor, " m"]

    @staticmethod
    def concatenate(parts: list["Pairs"]) -> "Pairs":
        return Pairs(*(torch.cat(column) for column in zip(*(part.columns() for part in parts), strict=True)))

    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.evaluation, self.train, self.influence, self.rank


class StrongestPairs:
    """A running top-k per evaluation row: feed it blocks of the matrix, any order, then ask for the pairs."""

    def __init__(self, evaluation: Int[Tensor, " T"], each_side: int = 10) -> None:
        self.evaluation, self.each_side = evaluation, each_side
        empty = torch.empty(len(evaluation), 0)
        self._best: dict[int, tuple[Tensor, Tensor]] = {
            sign: (empty, torch.empty(len(evaluation), 0, dtype=torch.long)) for sign in (1, -1)
        }

    def add(self, values: Float[Tensor, "b T"], train: Int[Tensor, " b"]) -> None:
        """Influence of training rows ``train``; NaN marks a pair that is not to be kept."""
        block = values.T.float().cpu()
        for sign, (best, rows) in self._best.items():
            signed = torch.where(torch.isnan(block) | (block * sign <= 0), -torch.inf, block * sign)
            both = torch.cat([best, signed], dim=1)
            index = torch.cat([rows, train.cpu().expand(len(block), -1)], dim=1)
            # The lower row first among equals, so that the order of the blocks does not matter.
            order = torch.argsort(index, dim=1, stable=True)
            both, index = both.gather(1, order), index.gather(1, order)
            top = torch.sort(both, dim=1, descending=True, stable=True).indices[:, : self.each_side]
            self._best[sign] = both.gather(1, top), index.gather(1, top)

    def pairs(self) -> Pairs:
        parts = []
        for sign, (best, rows) in self._best.items():
            kept = torch.isfinite(best)
            rank = (torch.arange(1, best.shape[1] + 1) * sign).expand_as(best)
            evaluation = self.evaluation.cpu()[:, None].expand_as(rows)
            parts.append(Pairs(evaluation[kept], rows[kept], best[kept] * sign, rank[kept]))
        return Pairs.concatenate(parts)
