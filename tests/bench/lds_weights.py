"""Would another weight of the probe, or another damping of the layers, predict retraining better than the default's?

    python tests/bench/lds_weights.py FOLDER [--share 0.9] [--seeds 2]

Each pair of a damping (a share of every layer's mean eigenvalue) and a weight of the probe has its score (`lds.py`) on
the networks to choose on. The pair of the best mean there, and the default's own, are held against kronfluence on the
networks to judge on. Trainings and kronfluence's matrices are those that `lds.py train` and `lds_peers.py` keep; a
network at a minimum, which a scan solves for, is left out.
"""

import argparse
import itertools
from pathlib import Path

import lds
import lds_networks
import numpy as np
import torch

from curate.engine.influence.layers import PROBE_SHARE, SHARE, spread_ratio

DAMPINGS = (0.1, SHARE, 1.0, 3.0)
WEIGHTS = (0.0, 0.1, 0.2, PROBE_SHARE, 0.5)
Pair = tuple[float, float]
"""A damping and a weight."""
DEFAULT = (SHARE, PROBE_SHARE)


def answers(name: str, folder: Path, pairs: list[Pair]) -> dict[Pair, np.ndarray]:
    """Influence of all training rows on all evaluation rows, ``[n T]``, by each pair."""
    case = lds.Case(name, folder)
    probe = lds.probe(case).float()
    found = {}
    for damping in dict.fromkeys(damping for damping, _ in pairs):
        network = lds.by_layer(damping)(case).float()
        beside = probe * spread_ratio(network, probe)
        for weight in (weight for asked, weight in pairs if asked == damping):
            found[damping, weight] = ((1 - weight) * network + weight * beside).numpy()
    return found


def known(names: tuple[str, ...], folder: Path, share: float, seeds: int) -> dict[str, lds.Truth]:
    """The networks with trainings enough, but for those at a minimum."""
    found = {
        name: lds.Truth.of(name, folder, share, seeds)
        for name in names
        if lds_networks.RECIPES[name].optimiser != "lbfgs"
    }
    return {name: truth for name, truth in found.items() if truth is not None and len(truth.left) >= lds.FEWEST}


def chosen(folder: Path, truths: dict[str, lds.Truth]) -> Pair:
    """The pair of the best mean score, all of which are told."""
    pairs, scores = list(itertools.product(DAMPINGS, WEIGHTS)), []
    for name, truth in truths.items():
        of_pairs = answers(name, folder, pairs)
        scores.append([lds.spearman(truth.left @ of_pairs[pair], truth.mean).mean() for pair in pairs])
    means = np.mean(scores, axis=0)
    print(f"chosen on {', '.join(truths)}; rows: damping, columns: weight of the probe {WEIGHTS}")
    for damping, line in zip(DAMPINGS, means.reshape(len(DAMPINGS), -1), strict=True):
        print(f"  {damping:4g}  " + "  ".join(f"{score:.3f}" for score in line), flush=True)
    return pairs[int(means.argmax())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    best = chosen(asked.folder, known(lds_networks.CHOOSE, asked.folder, asked.share, asked.seeds))
    gains: dict[Pair, list[np.ndarray]] = {}
    for name, truth in known(lds_networks.JUDGE, asked.folder, asked.share, asked.seeds).items():
        rival = lds.resampled(truth.left @ lds.matrices(name)["kronfluence"][0].numpy(), truth.mean)
        for pair, answer in answers(name, asked.folder, list(dict.fromkeys([best, DEFAULT]))).items():
            predicted = truth.left @ answer
            gains.setdefault(pair, []).append(lds.resampled(predicted, truth.mean) - rival)
            score = lds.spearman(predicted, truth.mean).mean()
            print(f"{name:12} damping {pair[0]:g}, weight {pair[1]:.2f}: {score:.3f}, over kronfluence "
                  f"{lds.interval(gains[pair][-1])}", flush=True)  # fmt: skip
    for pair, each in gains.items():
        print(f"damping {pair[0]:g}, weight {pair[1]:.2f}: {lds.over_networks(each, judged=True)}")


if __name__ == "__main__":
    main()
