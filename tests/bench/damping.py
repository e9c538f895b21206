"""How much damping finds the rows that harm, judged by refits: λ from a 100,000th of the largest eigenvalue to a fifth.

    python tests/bench/damping.py [--seeds 0,1,2] [--sets fashion,digits]

fashion: the CNN and the pairs of `harm.py`, 540 rows; digits: a perceptron on scikit-learn's digits, 600 rows. Fifteen
rows of one class are relabelled to another. Harm is measured on half of the evaluation rows of the class that lost
them, through all parameters, by the exact solve. Each line: a damping, how many of the first fifteen by harm are
planted, the fall of the mean loss that is predicted for leaving these out, and how far the loss of the other half falls
for a probe that is refitted without them, in nats. At the end the means over pairs and seeds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import fashion
import harm
import numpy as np
import torch
import trust
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from curate.engine.influence.damping import default_damping, tenth_of_mean
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.solvers.dual import WoodburyInverse
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.deep import deep_objective
from curate.stages.prepare import Data, load, read

PLANTED = 15
SHARES = (1e-4, 1e-3, 2e-3, 6e-3, 2e-2, 6e-2, 0.2)
"""Dampings, as shares of the largest eigenvalue."""
SILENT = Progress.silent()


def fashion_sets(seed: int) -> Iterator[tuple[str, ScanSettings, int, np.ndarray]]:
    """A name, the settings, the class that lost rows, and which rows of the source are planted."""
    for pair in harm.PAIRS.values():
        folder = harm.workload(pair, seed, 540, PLANTED)
        yield f"{pair[0]} -> {pair[1]}", harm.with_model(folder), fashion.CLASSES.index(pair[0]), planted_of(folder)


def digits_sets(seed: int) -> Iterator[tuple[str, ScanSettings, int, np.ndarray]]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    for source, target in ((0, 1), (3, 8), (7, 9)):
        given, planted = y.copy(), np.flatnonzero(y[:600] == source)[:PLANTED]
        given[planted] = target
        folder = harm.HOME / f"digits-{source}-{target}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "train.npz", x=x[:600], y=given[:600])
        np.savez(folder / "eval.npz", x=x[600:], y=y[600:])
        np.save(folder / "planted.npy", np.isin(np.arange(600), planted))
        (folder / "model.py").write_text(trust.MODEL.format(code=trust.MLP))
        model = perceptron(torch.from_numpy(x[:600]), torch.from_numpy(given[:600]), seed)
        save_file(model.state_dict(), folder / "weights.safetensors")
        settings = ScanSettings(
            str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:build",
            weights=(str(folder / "weights.safetensors"),),
        )  # fmt: skip
        yield f"{source} -> {target}", settings, source, planted_of(folder)


def perceptron(x: torch.Tensor, y: torch.Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = eval(trust.MLP)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(32):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model


def planted_of(folder: Path) -> np.ndarray:
    return np.load(folder / "planted.npy")


def tell(name: str, settings: ScanSettings, source: int, planted: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Prints the lines of one workload; by damping: planted rows, predicted and refitted fall."""
    data = read(settings, load(settings, SILENT), SILENT)
    train, truth = data.train, planted[data.train.indices]
    objective, _ = deep_objective(settings, data)
    assert objective is not None
    problem = Problem(objective, train)
    operator = problem.operator
    of_class = (data.evaluation.labels == source).nonzero()[:, 0]
    asked, judged = data.evaluation.taken(of_class[::2].tolist()), data.evaluation.features[of_class[1::2]]
    nobody = torch.empty(0, dtype=torch.long)
    right = right_hand_sides(problem.over(asked), nobody, SILENT).mean
    whole = WoodburyInverse(operator.whole_factor(), tenth_of_mean(operator, 0))
    top = whole.largest_eigenvalue()
    loss = loss_without(data, np.empty(0, dtype=int), judged, source)
    fall = loss - loss_without(data, np.flatnonzero(truth), judged, source)
    print(f"{name}: loss of the other half {loss:.3f}; without the planted rows {fall:+.3f} less", flush=True)
    default = default_damping(operator, problem.gradient, 0)
    dampings = {"a tenth of the mean eigenvalue": whole.damping, "default": default}
    dampings |= {f"{share:g} of the largest": share * top for share in SHARES}
    found = {}
    for words, damping in dampings.items():
        direction = whole.damped(damping)(right.double()).to(right)
        harms = -problem.influence_along(direction, SILENT)[:, 0].numpy()
        first = np.argsort(-harms, kind="stable")[:PLANTED]
        fall = loss - loss_without(data, first, judged, source)
        found[words] = (float(truth[first].sum()), float(harms[first].sum()), fall)
        print(line(f"λ {damping:8.5f}, {words}", found[words]), flush=True)
    return found


def line(words: str, found: tuple[float, ...]) -> str:
    planted, predicted, fall = found
    return f"    {words:42} {planted:4.1f} planted, predicted {predicted:+.3f}, refitted {fall:+.3f}"


def loss_without(data: Data, rows: np.ndarray, judged: torch.Tensor, source: int) -> float:
    """Mean loss of evaluation rows of one class by a probe refitted without some training rows, nats."""
    labels = torch.full((len(judged),), source)
    return harm.loss_without(rows, data.train.features, data.train.labels, judged, labels)


SETS = {"fashion": fashion_sets, "digits": digits_sets}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="fashion,digits")
    options = parser.parse_args()
    for name in options.sets.split(","):
        every = [
            tell(f"{name} seed {seed}, {workload[0]}", *workload[1:])
            for seed in map(int, options.seeds.split(","))
            for workload in SETS[name](seed)
        ]
        print(f"{name}: means over {len(every)}")
        for words in every[0]:
            print(line(words, tuple(np.mean([found[words] for found in every], axis=0))), flush=True)
