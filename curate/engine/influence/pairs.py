"""The strongest training rows of each evaluation row: what is kept of a matrix of influence that is never held."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.passes import ALONE, Passes, slices

TOGETHER = 10_000
"""Pairs that are numbers of Python at a time."""


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
        """All pairs of the parts, one part after the other."""
        return Pairs(*(torch.cat(column) for column in zip(*(part.columns() for part in parts), strict=True)))

    def __iter__(self) -> Iterator[tuple[int, int, float, int]]:
        """Evaluation row, training row, influence and rank of each."""
        for part in slices(len(self.train), TOGETHER):
            yield from zip(*(column[part].tolist() for column in self.columns()), strict=True)

    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Evaluation row, training row, influence and rank, ``[m]`` each."""
        return self.evaluation, self.train, self.influence, self.rank

    def held(self, wanted: "Pairs") -> float:
        """Share of the pairs ``wanted`` that are among these; 1 if none is."""
        most = 1 + max(int(pairs.train.max()) if len(pairs.train) else 0 for pairs in (self, wanted))
        mine, theirs = (pairs.evaluation * most + pairs.train for pairs in (self, wanted))
        return float(torch.isin(theirs, mine).double().mean()) if len(theirs) else 1.0


class StrongestPairs:
    """A running top-k per evaluation row: feed it blocks of the matrix, any order, then ask for the pairs."""

    def __init__(self, evaluation: Int[Tensor, " T"], each_side: int = 10) -> None:
        self.evaluation, self.each_side = evaluation, each_side
        count = len(evaluation)
        self._best: dict[int, tuple[Tensor, Tensor]] = {
            sign: (torch.full((count, each_side), -torch.inf), torch.zeros(count, each_side, dtype=torch.long))
            for sign in (1, -1)
        }

    def add(self, values: Float[Tensor, "b T"], train: Int[Tensor, " b"]) -> None:
        """Influence of training rows ``train``; NaN marks a pair that is not to be kept."""
        block, train = values.float(), train.cpu()
        for sign, (best, rows) in self._best.items():
            # Only what reaches the weakest pair kept so far is looked at: after the first blocks, next to nothing.
            least = best[:, -1].clamp_min(torch.finfo(torch.float32).tiny).to(block.device)
            where = ((block >= least) if sign > 0 else (block <= -least)).nonzero(as_tuple=True)
            row, column, strong = (part.cpu() for part in (*where, block[where]))
            column, order = column.sort(stable=True)
            row, strong = row[order], strong[order]
            touched, counts = column.unique_consecutive(return_counts=True)
            if not len(touched):
                continue
            number = torch.arange(len(touched)).repeat_interleave(counts)
            place = torch.arange(len(column)) - (counts.cumsum(0) - counts)[number]
            new = torch.full((len(touched), int(counts.max())), -torch.inf)
            index = torch.zeros(new.shape, dtype=torch.long)
            new[number, place], index[number, place] = strong * sign, train[row]
            best[touched], rows[touched] = self._top(
                torch.cat([best[touched], new], dim=1), torch.cat([rows[touched], index], dim=1)
            )

    def again(self, of: Callable[[Int[Tensor, "T m"]], Float[Tensor, "T m"]], passes: Passes) -> Pairs:
        """The strongest of the pairs kept here by what ``of`` says of each evaluation row's training rows."""
        strongest = StrongestPairs(self.evaluation)
        rows = torch.cat([rows for _, rows in self._best.values()], dim=1)
        there = torch.cat([torch.isfinite(best) for best, _ in self._best.values()], dim=1)
        values = of(rows).cpu()
        for sign in strongest._best:
            of_sign = (sign * values).where(there & (sign * values > 0), torch.tensor(-torch.inf))
            strongest._best[sign] = strongest._top(of_sign, rows)
        return strongest.pairs(passes)

    def _top(self, values: Float[Tensor, "t m"], rows: Int[Tensor, "t m"]) -> tuple[Tensor, Tensor]:
        """The largest values; the lower row first among equals, so that the order of the blocks does not matter."""
        order = torch.argsort(rows, dim=1, stable=True)
        values, rows = values.gather(1, order), rows.gather(1, order)
        top = torch.sort(values, dim=1, descending=True, stable=True).indices[:, : self.each_side]
        return values.gather(1, top), rows.gather(1, top)

    def pairs(self, passes: Passes = ALONE) -> Pairs:
        """The helpful pairs, then the harmful ones: up to ``each_side`` of either for an evaluation row.

        Of what all processes were fed.
        """
        parts = []
        for sign, of_this_process in self._best.items():
            best, rows = self._top(*(passes.collect([column.T]).T for column in of_this_process))
            kept = torch.isfinite(best)
            rank = (torch.arange(1, best.shape[1] + 1) * sign).expand_as(best)
            evaluation = self.evaluation.cpu()[:, None].expand_as(rows)
            parts.append(Pairs(evaluation[kept], rows[kept], best[kept] * sign, rank[kept]))
        return Pairs.concatenate(parts)
