"""Does `curate verify --retrain` put networks in the order that retraining gives them?

    python tests/bench/lds_verdicts.py FOLDER [--networks cnn,...]

Its own statistic and verdict on the mean loss, the rows of highest and median loss and five others, by the first half
of the subsets that `lds.py train` trained on with seed 0. They are held against the score that the other subsets give
with all seeds: no training serves both.
"""

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import lds
import lds_networks
import numpy as np
import torch

from curate.experiments.verify.agreement import Bounded, OverGroups
from curate.experiments.verify.answer import DOUBT, RANKING, TRUST, UNDECIDED, Evidence, answer
from curate.experiments.verify.plan import MOST_TRAININGS

UNTOLD = Evidence(None, 0.0, 0.0, 0.0, 0.0)
"""Of rows left out one at a time: they were not."""


@dataclass(frozen=True)
class Judged:
    """A network: what verify says of it, and what the other subsets say."""

    word: str
    score: Bounded
    recorded: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        low, high = np.quantile(self.recorded, [0.025, 0.975])
        return float(low), float(high)

    def below(self, other: "Judged") -> bool:
        """By word and by score."""
        order = (DOUBT, UNDECIDED, RANKING, TRUST)
        return order.index(self.word) <= order.index(other.word) and self.score.value < other.score.value


def judged(name: str, folder: Path) -> Judged | None:
    truth = lds.Truth.of(name, folder, 0.5, 2)
    if truth is None or len(truth.left) < 2 * lds.FEWEST:
        return None
    found = lds.matrices(name)
    # At a minimum a scan solves for its answer: of a softmax regression the head is all there is.
    predicted = truth.left @ found.get(lds.DEFAULT, found["head"])[0].numpy()
    half = len(truth.left) // 2
    losses = lds_networks.losses(name, folder, lds_networks.whole(name, folder, lds.HOME))
    order = losses.argsort()
    alone = list(dict.fromkeys([int(order[-1]), int(order[len(order) // 2]), *range(5)]))
    mine, real = (np.column_stack([of.mean(1), of[:, alone]])[:half] for of in (predicted, truth.losses[0]))
    score = OverGroups.of(mine, real, 0).score
    assert score is not None
    word = answer({"the mean loss": UNTOLD}, score, halves=True, rows=half, most=MOST_TRAININGS[1]).trust
    return Judged(word, score, lds.resampled(predicted[half:], truth.mean[half:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=",".join(lds_networks.CHOOSE + lds_networks.JUDGE))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: one for name in asked.networks.split(",") if (one := judged(name, asked.folder)) is not None}
    for name, one in found.items():
        told = f"{one.score.value:.2f} ({one.score.low:.2f} to {one.score.high:.2f})"
        print(f"{name:12} {one.word:13} {told}; by the other subsets {lds.interval(one.recorded)}")
    right, apart = 0, 0
    for pair in itertools.combinations(found.values(), 2):
        low, high = sorted(pair, key=lambda network: float(network.recorded.mean()))
        if low.interval[1] < high.interval[0]:
            apart += 1
            right += low.below(high)
    print(f"{apart} pairs whose intervals are disjoint, {right} of them in the right order")


if __name__ == "__main__":
    main()
