"""Six networks on three data sets, trained on all rows and on random subsets of them: the truth of `lds.py`.

A recipe says everything of a training but its rows and its seed, so that a subset is trained just as the whole was.
Losses of the evaluation rows are kept a subset at a time, and a run goes on where it stopped.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fashion
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHOOSE = ("softmax", "cnn", "memorised")
"""Methods, dampings and ways to combine them were chosen on these networks."""
JUDGE = ("table", "residual", "transformer")
"""And judged on these: another kind of network, another data set, or both."""
SHARES = (0.5, 0.9)
"""Of the rows a subset keeps. Half of them favours heavy damping; what is asked of influence is one row."""
TEXTS = ("transformer",)
TESTS = 100
FLIPPED = 0.1
TOKENS, WORDS, INTENTS = 20, 1500, 20


@dataclass(frozen=True)
class Recipe:
    """A network, its data, and how it is trained."""

    data: Callable[[Path], tuple[Tensor, Tensor, Tensor, Tensor]]
    """Training rows and given labels, evaluation rows and labels; from the folder of real data."""
    build: Callable[[], nn.Module]
    epochs: int
    decay: float
    """L2 penalty λ of ½ λ |θ|² on the mean loss."""
    optimiser: str = "sgd"
    rate: float = 0.05
    batch: int = 64


class Residual(nn.Module):
    """Two residual blocks with batch norms."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(5))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(4))
        self.head = nn.Linear(width * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 2)
        for first in (0, 2):
            inner = F.relu(self.norms[first + 1](self.convolutions[first](h)))
            h = F.relu(h + self.norms[first + 2](self.convolutions[first + 1](inner)))
        return self.head(F.adaptive_avg_pool2d(h, 3).flatten(1))


class Transformer(nn.Module):
    """Words and their places, one encoder layer, the mean of its tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.places = nn.Embedding(TOKENS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, INTENTS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x) + self.places(torch.arange(x.shape[1], device=x.device))
        return self.head(self.encoder(h).mean(1))


def convolutional() -> nn.Module:
    """A CNN of 26,698 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def pictures(rows: int, flat: bool = False) -> Callable[[Path], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Fashion-MNIST, a tenth of the training labels wrong."""

    def read(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        draw = np.random.default_rng(7)
        images, labels = fashion.images("train")
        tests, test_labels = fashion.images("t10k")
        some, few = draw.permutation(len(images))[:rows], draw.permutation(len(tests))[:TESTS]
        given = fashion.flipped(labels[some], FLIPPED, "uniform", 7)
        x = torch.stack([fashion.transform(image) for image in images[some]])
        z = torch.stack([fashion.transform(image) for image in tests[few]])
        if flat:
            x, z = x.flatten(1), z.flatten(1)
        return x, torch.from_numpy(given), z, torch.from_numpy(test_labels[few])

    return read


def flipped(labels: np.ndarray, classes: int, draw: np.random.Generator) -> Tensor:
    given = labels.copy()
    rows = draw.permutation(len(given))[: round(FLIPPED * len(given))]
    given[rows] = (given[rows] + draw.integers(1, classes, len(rows))) % classes
    return torch.from_numpy(given)


def adult(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """2,000 rows of UCI's adult: numbers standardised, others one-hot."""
    import pandas

    draw = np.random.default_rng(7)
    table = pandas.read_parquet(folder / "adult/train.parquet").iloc[draw.permutation(30_000)[: 2_000 + TESTS]]
    labels = np.unique(table["income"], return_inverse=True)[1].astype(np.int64)
    numbers = table.drop(columns="income").select_dtypes("number")
    words = pandas.get_dummies(table.drop(columns="income").select_dtypes(exclude="number"), dtype=float)
    columns = np.hstack([(numbers - numbers.mean()) / numbers.std(), words]).astype(np.float32)
    x = torch.from_numpy(columns)
    return x[:2_000], flipped(labels[:2_000], 2, draw), x[2_000:], torch.from_numpy(labels[2_000:])


def banking(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texts of the first intents of banking77, the words that stand in most of them, one number each."""
    import pandas

    draw = np.random.default_rng(7)
    table = pandas.read_parquet(folder / "banking77/train.parquet")
    names = np.unique(table["label"])[:INTENTS]
    table = table[table["label"].isin(names)]
    table = table.iloc[draw.permutation(len(table))[: 1_500 + TESTS]]
    texts = [re.findall(r"\w+|\?", text.lower()) for text in table["text"]]
    common = Counter(word for text in texts[:1_500] for word in text).most_common(WORDS - 2)
    number = {word: place + 2 for place, (word, _) in enumerate(common)}
    x = torch.tensor([[number.get(word, 1) for word in [*text, *[""] * TOKENS][:TOKENS]] for text in texts])
    labels = np.searchsorted(names, table["label"].to_numpy().astype(str)).astype(np.int64)
    return x[:1_500], flipped(labels[:1_500], INTENTS, draw), x[1_500:], torch.from_numpy(labels[1_500:])


RECIPES = {
    "softmax": Recipe(pictures(2_000, flat=True), lambda: nn.Linear(784, 10), 0, 1e-2, "lbfgs"),
    "cnn": Recipe(pictures(2_000), convolutional, 20, 1e-3),
    "memorised": Recipe(pictures(1_000), convolutional, 50, 0.0, "adam", 5e-3, 32),
    "table": Recipe(adult, lambda: nn.Sequential(nn.Linear(COLUMNS, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(),
                                                 nn.Linear(16, 2)), 20, 1e-3),
    "residual": Recipe(pictures(1_000), Residual, 20, 1e-3),
    "transformer": Recipe(banking, Transformer, 30, 1e-3, "adam", 3e-3),
}  # fmt: skip
COLUMNS = 0
"""Columns of the encoded table, set when it is read."""


@cache
def data(name: str, folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows and given labels, evaluation rows and labels of a network."""
    global COLUMNS
    found = RECIPES[name].data(folder)
    if name == "table":
        COLUMNS = found[0].shape[1]
    return found


def train(
    name: str, folder: Path, rows: Tensor, seed: int, after: Callable[[nn.Module, int, float], None] | None = None
) -> nn.Module:
    """The network after its recipe, on these rows; ``after`` is told each epoch with the rate at its end."""
    recipe = RECIPES[name]
    x, y, _, _ = data(name, folder)
    x, y = x[rows], y[rows]
    torch.manual_seed(seed)
    module = recipe.build()
    if recipe.optimiser == "lbfgs":
        return _to_optimum(module, x, y, recipe.decay)
    steps = recipe.epochs * -(-len(x) // recipe.batch)
    if recipe.optimiser == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(module.parameters(), recipe.rate)
    else:
        optimiser = torch.optim.SGD(module.parameters(), recipe.rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(recipe.epochs):
        for part in torch.randperm(len(x)).split(recipe.batch):
            optimiser.zero_grad(set_to_none=True)
            loss = F.cross_entropy(module(x[part]), y[part])
            if recipe.decay:
                loss = loss + 0.5 * recipe.decay * sum(value.square().sum() for value in module.parameters())
            loss.backward()
            optimiser.step()
            rate = schedule.get_last_lr()[0]
            schedule.step()
        if after is not None:
            after(module, epoch + 1, rate)
    return module.eval()


def _to_optimum(module: nn.Module, x: Tensor, y: Tensor, decay: float) -> nn.Module:
    for value in module.parameters():
        nn.init.zeros_(value)
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=300, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        penalty = sum(value.square().sum() for value in module.parameters())
        loss = F.cross_entropy(module(x), y) + 0.5 * decay * penalty
        loss.backward()
        return loss

    optimiser.step(closure)
    return module.eval()


@torch.no_grad()
def losses(name: str, folder: Path, module: nn.Module) -> Tensor:
    """Cross-entropy of each evaluation row, nats."""
    _, _, x, y = data(name, folder)
    return F.cross_entropy(module(x), y, reduction="none")


def subset(n: int, share: float, number: int) -> Tensor:
    """The rows of the numbered subset."""
    generator = torch.Generator().manual_seed(1_000_003 * round(100 * share) + number)
    return torch.randperm(n, generator=generator)[: round(share * n)].sort().values


def whole(name: str, folder: Path, home: Path) -> nn.Module:
    """The network that methods are asked about: trained on all rows with seed 0, once."""
    file = home / name / "whole.pt"
    n = len(data(name, folder)[1])
    if file.exists():
        module = RECIPES[name].build()
        module.load_state_dict(torch.load(file, weights_only=True))
        return module.eval()
    module = train(name, folder, torch.arange(n), 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), file)
    return module


def truth(home: Path, name: str, share: float, seed: int) -> dict[int, Tensor]:
    """By subset, the losses of the evaluation rows after a training with this seed: what was trained so far."""
    file = home / name / f"losses-{share}-{seed}.pt"
    return torch.load(file, weights_only=True) if file.exists() else {}


def fill(home: Path, folder: Path, name: str, share: float, seed: int, count: int) -> None:
    """Trains on the first ``count`` subsets, those that were not trained on before."""
    done = truth(home, name, share, seed)
    n = len(data(name, folder)[1])
    whole(name, folder, home)
    for number in range(count):
        if number not in done:
            done[number] = losses(name, folder, train(name, folder, subset(n, share, number), 100 * seed + number))
            partial = home / name / f"losses-{share}-{seed}.new"
            torch.save(done, partial)
            partial.replace(partial.with_suffix(".pt"))
