"""How an evaluation row's loss rises when the network is trained again without the rows that are said to help it most.

    python tests/bench/qld.py train FOLDER [--networks table,cnn] [--seeds 2]
    python tests/bench/qld.py table FOLDER [--networks table,cnn] [--seeds 2] [--against kronfluence]

The test of the head of a ranking, where the linear datamodeling score of `lds.py` tests all: for each of 20 evaluation
rows and each method the network is trained again without that row's top 1 %, by the recipe of `lds_networks.py`. It
takes the matrices that `lds.py score` and `lds_peers.py` keep, and goes on where it stopped. Rises are over trainings
on all rows with the same seeds, the mean over seeds; intervals are of 95 %, by a bootstrap over the evaluation rows.
"""

import argparse
from pathlib import Path

import lds
import lds_networks
import numpy as np
import torch
from torch import Tensor

METHODS = (lds.DEFAULT, "kronfluence", "gradient product", "cosine", "chance")
ROWS = 20
SHARE = 0.01
ALL = "all rows"

Losses = dict[str, Tensor]
"""By method, ``[20]``: of each evaluation row after a training without its top rows, NaN where that was not done."""


def kept_at(name: str, seed: int) -> Path:
    return lds.HOME / name / f"qld-{seed}.pt"


def kept(name: str, seed: int) -> Losses:
    file = kept_at(name, seed)
    return torch.load(file, weights_only=True) if file.exists() else {}


def keep(name: str, seed: int, done: Losses) -> None:
    partial = kept_at(name, seed).with_suffix(".new")
    torch.save(done, partial)
    partial.replace(kept_at(name, seed))


def without(influence: Tensor, row: int) -> Tensor:
    """The training rows but those of most influence on an evaluation row."""
    n = len(influence)
    order = influence[:, row].argsort(descending=True, stable=True)
    return order[round(SHARE * n) :].sort().values


def train(name: str, folder: Path, seed: int) -> None:
    """Every training of this seed that was not done before."""
    done = kept(name, seed)
    influence = {method: lds.matrices(name)[method][0] for method in METHODS}

    def losses(rows: Tensor) -> Tensor:
        return lds_networks.losses(name, folder, lds_networks.train(name, folder, rows, seed))[:ROWS]

    if ALL not in done:
        done[ALL] = losses(torch.arange(len(influence["chance"])))
        keep(name, seed, done)
    for row in range(ROWS):
        for method in METHODS:
            mine = done.setdefault(method, torch.full((ROWS,), torch.nan))
            if mine[row].isnan():
                mine[row] = losses(without(influence[method], row))[row]
                keep(name, seed, done)


def rises(name: str, seeds: int) -> dict[str, np.ndarray]:
    """By method, ``[20]`` nats: the mean over those seeds that were trained whole."""
    by_seed = [done for done in (kept(name, seed) for seed in range(seeds)) if set(METHODS) <= set(done)]
    by_seed = [done for done in by_seed if not any(bool(done[method].isnan().any()) for method in METHODS)]
    return {
        method: np.mean([(done[method] - done[ALL]).numpy() for done in by_seed], axis=0)
        for method in METHODS
        if by_seed
    }


def table(name: str, seeds: int, against: str) -> None:
    found = rises(name, seeds)
    if not found:
        return
    draw = np.random.default_rng(0).integers(0, ROWS, (lds.BOOTSTRAPS, ROWS))
    print(f"\n{name}: rise of the loss of {ROWS} rows, nats, without the {SHARE:.0%} that help each most")
    for method, values in sorted(found.items(), key=lambda pair: -pair[1].mean()):
        beside = (
            "" if method == against else f"  {lds.interval((values - found[against])[draw].mean(1))} beside {against}"
        )
        print(f"  {values.mean():+.3f} ({lds.interval(values[draw].mean(1))})  {method}{beside}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default="table,cnn")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--against", default="kronfluence")
    asked = parser.parse_args()
    for name in asked.networks.split(","):
        if asked.part == "table":
            table(name, asked.seeds, asked.against)
            continue
        for seed in range(asked.seeds):
            train(name, asked.folder, seed)


if __name__ == "__main__":
    main()
