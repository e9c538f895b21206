r"""Basu, Pope & Feizi 2021, deeper networks: LeNet and a small residual one, or any of torchvision's, by refits of 6 %.

    python docs/studies/fragility/deep.py [--quick] [--seeds 0,1] [--out FOLDER]
    python docs/studies/fragility/deep.py --model torchvision:resnet18 --data torchvision:CIFAR10 --folder DATA \
        --rows 50000 --epochs 30 --device cuda

Trained for 20 epochs by SGD with momentum and weight decay 0.001 on 2,000 rows of Fashion-MNIST, pooled to 14 x 14.
Test points: the highest loss and the median loss. For each the 40 rows of most influence (by size), left out one by
one; refits from the checkpoint by 6 % of the training steps, batch norms as they are, the same rows in the same order;
the drift of a refit without change subtracted. Gauss-Newton through all parameters: curate's EK-FAC at λ = 0.01, and at
1 over the reach of the refit (see mnist.py), there also curate's conjugate gradients. The gradient product is the
control.

The second command is the experiment on CIFAR-10 (Basu et al.), for a GPU; --download lets torchvision fetch the data.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import common
import numpy as np
import optima
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.loss import SOFTMAX
from curate.engine.solvers.cg import ConjugateGradients

DECAY = 1e-3
POINTS = ("highest loss", "median loss")


class Residual(nn.Module):
    """A convolution and two residual blocks with batch norms, a linear head."""

    def __init__(self, channels: int, classes: int, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(5))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(4))
        self.head = nn.Linear(width * 9, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 2)
        for first in (0, 2):
            inner = F.relu(self.norms[first + 1](self.convolutions[first](h)))
            h = F.relu(h + self.norms[first + 2](self.convolutions[first + 1](inner)))
        out: Tensor = self.head(F.adaptive_avg_pool2d(h, 3).flatten(1))
        return out


def lenet(channels: int, classes: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with max pooling, the second kernel 3 x 3 for pictures of 14 x 14."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip


def network(spec: str, x: Tensor, classes: int) -> nn.Module:
    """A network for inputs like ``x``. torchvision's take three channels: grey rows are repeated."""
    if spec == "lenet":
        made = lenet(x.shape[1], classes)
    elif spec == "residual":
        made = Residual(x.shape[1], classes)
    else:
        import torchvision

        made = torchvision.models.get_model(spec.removeprefix("torchvision:"), weights=None, num_classes=classes)
        if x.shape[1] == 1:
            made = nn.Sequential(_Coloured(), made)
    with torch.no_grad():
        made.eval()(x[:2])
    return made


class _Coloured(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


def rows(spec: str, part: str, count: int, seed: int, asked: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Standardised pictures ``[n c h w]`` and labels; ``part`` is train or test."""
    if spec == "fashion":
        return common.fashion_rows(count, seed, 14, "train" if part == "train" else "t10k")
    data = torchvision_data(spec.removeprefix("torchvision:"), part, count, asked)
    order = np.random.default_rng(seed).permutation(len(data))[:count]
    pictures = torch.stack([torch.from_numpy(np.array(data[int(row)][0])) for row in order]).float() / 255
    pictures = pictures[:, None] if pictures.ndim == 3 else pictures.permute(0, 3, 1, 2)
    return (pictures - 0.45) / 0.25, torch.tensor([int(data[int(row)][1]) for row in order])


def torchvision_data(name: str, part: str, count: int, asked: argparse.Namespace) -> Sequence[tuple[object, int]]:
    from torchvision import datasets

    if name == "FakeData":
        return datasets.FakeData(count, (3, 32, 32), 10, random_offset=0 if part == "train" else 10**6)
    made = getattr(datasets, name)
    try:
        return made(asked.folder, train=part == "train", download=asked.download)
    except TypeError:  # some of torchvision's data sets name the part `train`, some `split`
        return made(asked.folder, split=part, download=asked.download)


@dataclass
class Trained:
    """A network on its device, its rows, and how it was trained."""

    module: nn.Module
    x: Tensor
    y: Tensor
    recipe: optima.Recipe
    decay: float = DECAY

    def fit(self, recipe: optima.Recipe, seed: int, left_out: int | None = None, norms: bool = False) -> nn.Module:
        """A copy of the network trained on; ``norms``: batch norms learn their statistics."""
        module = copy.deepcopy(self.module).train(norms)
        optimiser = torch.optim.SGD(module.parameters(), recipe.rate, recipe.momentum, weight_decay=self.decay)
        n = len(self.x)
        steps = max(1, round(recipe.epochs * -(-n // recipe.batch)))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        weights = torch.ones(n, device=self.x.device)
        if left_out is not None:
            weights[left_out] = 0
            weights *= n / (n - 1)
        order, left = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            if not len(left):
                left = torch.randperm(n, generator=order)
            of, left = left[: recipe.batch].to(self.x.device), left[recipe.batch :]
            optimiser.zero_grad(set_to_none=True)
            losses = F.cross_entropy(module(self.x[of]), self.y[of], reduction="none")
            (losses * weights[of]).mean().backward()
            optimiser.step()
            schedule.step()
        return module.eval()


@torch.no_grad()
def losses_of(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    parts = zip(x.split(512), y.split(512), strict=True)
    return torch.cat([F.cross_entropy(module(part).double(), labels, reduction="none") for part, labels in parts])


def influences(trained: Trained, x: Tensor, y: Tensor, reached: float, seed: int) -> dict[str, Tensor]:
    """Influence of every training row on each of the few rows ``x``, ``[t n]``, by forward mode."""
    module = trained.module
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    with torch.no_grad():
        logits = torch.cat([module(part) for part in trained.x.split(512)])
        rights = objective.row_gradients(x, SOFTMAX.residuals(module(x), y))
    operator = GaussNewton(objective, optima.Rows(trained.x), logits.softmax(1))
    ekfac = EKFAC.fit(operator, seed)
    solver = ConjugateGradients(tolerance=1e-2, preconditioner=lambda right: ekfac.solve(right, reached), seed=seed)
    solved = {
        "gradient product": rights,
        "EK-FAC, λ = 0.01": ekfac.solve(rights, 0.01),
        "EK-FAC, λ = 1 / reach": ekfac.solve(rights, reached),
        "CG, λ = 1 / reach": solver.prepare(operator, reached).solve(rights).rows,
    }
    rests, directions = SOFTMAX.residuals(logits, trained.y), torch.cat(list(solved.values()))
    parts = [
        torch.einsum("kbc,bc->kb", objective.tangents(part, directions), rest)
        for part, rest in zip(trained.x.split(512), rests.split(512), strict=True)
    ]
    products = torch.cat(parts, dim=1)
    found = (products - products.mean(1, keepdim=True)) / len(trained.x)
    return dict(zip(solved, found.split(len(x)), strict=True))


def one(study: common.Study, spec: str, seed: int) -> list[dict[str, object]]:
    """For each test point: loss, drift, sizes and agreements."""
    asked, device = study.asked, torch.device(study.asked.device)
    n, each = asked.rows or (200 if study.quick else 2000), asked.top or (6 if study.quick else 40)
    x, y = rows(asked.data, "train", n, seed, asked)
    tests, labels = rows(asked.data, "test", 100 if study.quick else 1000, seed, asked)
    torch.manual_seed(seed)
    fresh = network(spec, x, int(y.max()) + 1).to(device)
    recipe = optima.Recipe(asked.epochs or 20, 0.02)
    trained = Trained(fresh, x.to(device), y.to(device), recipe)
    return agreements(trained, tests.to(device), labels.to(device), each, seed)


def agreements(trained: Trained, tests: Tensor, labels: Tensor, each: int, seed: int) -> list[dict[str, object]]:
    """The same of a fresh network, after its training; ``each``: rows left out for each test point."""
    recipe, n = trained.recipe, len(trained.x)
    trained = replace(trained, module=trained.fit(recipe, seed, norms=True))
    losses = losses_of(trained.module, tests, labels)
    order = losses.argsort()
    points = torch.stack([order[-1], order[len(order) // 2]])
    refit = recipe.refit()
    # A refit sees every row at least once, else most rows change nothing.
    refit = optima.Recipe(max(1.0, refit.epochs), refit.rate, refit.momentum, refit.batch)
    predicted = influences(trained, tests[points], labels[points], 1 / refit.reach(n), seed)
    unchanged = losses_of(trained.fit(refit, seed), tests[points], labels[points])
    found = []
    for t, point in enumerate(POINTS):
        top = predicted["CG, λ = 1 / reach"][t].abs().argsort(descending=True)[:each]
        own = tests[points[t]][None], labels[points[t]][None]
        after = [losses_of(trained.fit(refit, seed, int(row)), *own)[0] for row in top]
        actual = torch.stack(after) - unchanged[t]
        found.append(
            {"test point": point, "loss": float(losses[points[t]]),
             "accuracy": float((trained.module(tests).argmax(1) == labels).double().mean()),
             "drift": abs(float(unchanged[t] - losses[points[t]])), "size": float(actual.abs().mean()),
             **{name: common.Agreement.of(values[t, top], actual) for name, values in predicted.items()}}
        )  # fmt: skip
    return found


def add(study: common.Study, runs: list[list[dict[str, object]]], axes: list[object], **first: object) -> None:
    """The lines of a network, one for each test point, and its dots; ``first`` says which network it is."""
    for t, point in enumerate(POINTS):
        lines = [run[t] for run in runs]
        names = [key for key, value in lines[0].items() if isinstance(value, common.Agreement)]
        study.add(
            "Agreement with refits of 6 % of the steps",
            **first,
            **{"test point": point, "its loss": [line["loss"] for line in lines]},
            **{
                f"{kind.title()}, {name}": [getattr(line[name], kind) for line in lines]
                for name in names
                for kind in ("pearson", "spearman", "slope")
            },
            **{"mean actual change": [line["size"] for line in lines], "drift": [line["drift"] for line in lines]},
            **{"test accuracy": [line["accuracy"] for line in lines]},
        )
        for axis, name in zip(axes, names, strict=True):
            values = [line[name].spearman for line in lines]
            label = "\n".join(map(str, (*first.values(), point)))
            axis.plot([label] * len(values), values, "o", markersize=4, alpha=0.6)
            axis.set(ylabel="Spearman with refits", title=name, ylim=(-1, 1.05))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="lenet, residual or torchvision:NAME, commas between")
    parser.add_argument("--data", default="fashion", help="fashion or torchvision:NAME")
    parser.add_argument("--folder", default="data", help="where torchvision's data set lies")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, help="training rows (2,000)")
    parser.add_argument("--epochs", type=int, help="of training (20)")
    parser.add_argument("--top", type=int, help="rows left out for each test point (40)")


def main() -> None:
    study = common.Study.of("deep", __doc__ or "", "0,1", options)
    made, axes = common.figure(4)
    models = study.asked.model or ("residual" if study.quick else "lenet,residual")
    for spec in models.split(","):
        add(study, [one(study, spec, seed) for seed in study.seeds], axes, network=spec)
    study.write(made)


if __name__ == "__main__":
    main()
