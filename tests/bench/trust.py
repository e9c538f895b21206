"""What `curate verify` says of models that deserve trust and of models that do not, ten seeds each.

    python tests/bench/trust.py [--cases softmax,control,one-epoch,memorised,probe,iris,kinked] [--seeds 10]

softmax: softmax regression on handwritten digits (scikit-learn), at its optimum with an L2 penalty of 0.01.
control: the same with the predictions dealt out at random.
one-epoch: a perceptron on the digits after one epoch of SGD. memorised: the same after 300 epochs without weight decay,
a tenth of the labels wrong and learnt by heart.
probe: the probe on the features of a CNN, 5,000 rows of Fashion-MNIST, a tenth of the labels wrong.
iris: one hidden layer of width 8 (tanh) with weight decay 0.005 on Iris, at its minimum, where its refits go. kinked:
the same with ReLU (Basu et al. 2021), where L-BFGS ends in a kink of the loss that is mostly told to be no minimum.
Rows and initial weights change with the seed. `time`: wall seconds of the whole command.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import fashion
import numpy as np
import torch
from sklearn.datasets import load_digits, load_iris
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.passes import ALONE
from curate.experiments.verify.protocol import Verification, verify
from curate.experiments.verify.refit import Recipe
from curate.process.progress import Progress
from curate.settings.merge import ScanSettings
from curate.stages.joining import Together

MODEL = """
import torch
from torch import nn

def build():
    return {code}

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32)
"""
MLP = "nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))"
SILENT = Progress.silent()


def folder_of(case: str, seed: int, code: str, x: np.ndarray, y: np.ndarray, train: int, fit: object) -> ScanSettings:
    """Rows dealt by the seed into training and evaluation, and a model that ``fit`` trained on the former."""
    folder = fashion.HOME / "trust" / f"{case}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    np.savez(folder / "train.npz", x=x[:train], y=y[:train])
    np.savez(folder / "eval.npz", x=x[train:], y=y[train:])
    (folder / "model.py").write_text(MODEL.format(code=code))
    torch.manual_seed(seed)
    module = eval(code)
    fit(module, torch.from_numpy(x[:train]), torch.from_numpy(y[:train]).long())
    torch.save(module.state_dict(), folder / "weights.pt")
    return ScanSettings(
        str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:build",
        weights=(str(folder / "weights.pt"),), db=str(folder / "curate.db"), seed=seed,
    )  # fmt: skip


def to_minimum(penalty: float, dtype: torch.dtype = torch.float64):
    """L-BFGS on the whole set with an L2 penalty on everything, as far as it goes."""

    def fit(module: nn.Module, x: Tensor, y: Tensor) -> None:
        module.to(dtype)
        optimiser = torch.optim.LBFGS(
            module.parameters(), lr=1, max_iter=3000, tolerance_grad=1e-9, tolerance_change=1e-14, history_size=50,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            optimiser.zero_grad()
            squares = sum(value.square().sum() for value in module.parameters())
            loss = F.cross_entropy(module(x.to(dtype)), y) + 0.5 * penalty * squares
            loss.backward()
            return loss

        optimiser.step(closure)
        module.float()

    return fit


def by_sgd(epochs: int, rate: float = 0.1, momentum: float = 0.9):
    def fit(module: nn.Module, x: Tensor, y: Tensor) -> None:
        optimiser = torch.optim.SGD(module.parameters(), lr=rate, momentum=momentum)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                F.cross_entropy(module(x[rows]), y[rows]).backward()
                optimiser.step()

    return fit


def digits(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    wrong = random.random(len(y)) < noise
    y[wrong] = (y[wrong] + random.integers(1, 10, wrong.sum())) % 10
    return x / 16, y


def check(settings: ScanSettings, **asked: object) -> Verification:
    fresh = Path(settings.db)
    fresh.unlink(missing_ok=True)
    given = {"at": "model", "recipe": Recipe(), "minutes": 10.0, **asked}
    return verify(settings, Together(ALONE, SILENT), announce=lambda plan: None, **given)  # type: ignore[arg-type]


def softmax(seed: int) -> Verification:
    return check(folder_of("softmax", seed, "nn.Linear(64, 10)", *digits(), 1000, to_minimum(0.01)))


def control(seed: int) -> Verification:
    settings = folder_of("softmax", seed, "nn.Linear(64, 10)", *digits(), 1000, to_minimum(0.01))
    return check(settings, control=True)


def one_epoch(seed: int) -> Verification:
    return check(folder_of("one-epoch", seed, MLP, *digits(), 500, by_sgd(1)), recipe=Recipe(epochs=3))


def memorised(seed: int) -> Verification:
    return check(folder_of("memorised", seed, MLP, *digits(0.1, seed), 500, by_sgd(300)))


def probe(seed: int) -> Verification:
    folder = fashion.make(5_000, 1_000, 0.1, "uniform", seed % 3)
    settings = ScanSettings(
        str(folder / "train.npz"), eval=str(folder / "eval.npz"), model=f"{folder / 'model.py'}:factory",
        weights=(str(folder / "weights.safetensors"),), classes=fashion.CLASSES, db=str(folder / "trust.db"), seed=seed,
    )  # fmt: skip
    return check(settings, at="probe")


def iris(seed: int, bend: str = "Tanh") -> Verification:
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    code = f"nn.Sequential(nn.Linear(4, 8), nn.{bend}(), nn.Linear(8, 3))"
    settings = folder_of(f"iris-{bend}", seed, code, x, y, 120, to_minimum(0.005))
    return check(settings, minutes=2.0)


CASES = {"softmax": softmax, "control": control, "one-epoch": one_epoch, "memorised": memorised, "probe": probe,
         "iris": iris, "kinked": lambda seed: iris(seed, "ReLU")}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    for case in asked.cases.split(","):
        words: Counter[str] = Counter()
        for seed in range(asked.seeds):
            started = time.monotonic()
            found = CASES[case](seed)
            words[found.answer.trust] += 1
            mean = found.targets[0].evidence.agreement
            told = "-" if mean is None else f"Pearson {mean.pearson.value:.3f}, Spearman {mean.spearman.value:.3f}"
            print(
                f"{case} seed {seed}: {found.answer.trust} ({found.answer.because}); mean loss: {told}; "
                f"{found.refits} refits, {time.monotonic() - started:.0f} s",
                flush=True,
            )
        print(f"{case}: {dict(words)}\n", flush=True)


if __name__ == "__main__":
    main()
