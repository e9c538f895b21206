"""Five small networks on 1,000 rows and seven classes of Fashion-MNIST, trained to convergence."""

from pathlib import Path

import fashion
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS, TESTS, CLASSES, DECAY = 1000, 8, 7, 1e-3


class Residual(nn.Module):
    """Two residual blocks with batch norms."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(5))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(4))
        self.head = nn.Linear(width * 9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 2)
        for first in (0, 2):
            inner = F.relu(self.norms[first + 1](self.convolutions[first](h)))
            h = F.relu(h + self.norms[first + 2](self.convolutions[first + 1](inner)))
        return self.head(F.adaptive_avg_pool2d(h, 3).flatten(1))


class Transformer(nn.Module):
    """Rows of the picture as tokens, one encoder layer with attention and layer norms."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Linear(28, width)
        self.positions = nn.Parameter(torch.randn(28, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.view(len(x), 28, 28)) + self.positions).mean(1))


NETWORKS = {
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, CLASSES)),
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES)
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(4), nn.Flatten(), nn.Linear(108, 40), nn.ReLU(), nn.Linear(40, CLASSES),
    ),
    "residual": Residual,
    "transformer": Transformer,
}  # fmt: skip


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows and labels, evaluation rows and labels; a tenth of the training labels is wrong."""
    generator = torch.Generator().manual_seed(0)
    pictures, labels = (torch.from_numpy(np.array(part)) for part in fashion.images("train"))
    few = (labels < CLASSES).nonzero()[:, 0]
    order = few[torch.randperm(len(few), generator=generator)[: ROWS + TESTS]]
    x = ((pictures[order].float().view(-1, 1, 28, 28) / 255) - 0.286) / 0.353
    y = labels[order].long()
    wrong = torch.arange(ROWS // 10)
    y[wrong] = (y[wrong] + torch.randint(1, CLASSES, (len(wrong),), generator=generator)) % CLASSES
    return x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:]


def trained(name: str, folder: Path, epochs: int = 150) -> nn.Module:
    """The network at the end of its training, from ``folder`` where it was trained before."""
    torch.manual_seed(0)
    module = NETWORKS[name]()
    file = folder / f"{name}.pt"
    if file.exists():
        module.load_state_dict(torch.load(file, weights_only=True))
        return module.eval()
    x, y, _, _ = data()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.0)
    steps = epochs * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            penalty = sum(value.square().sum() for value in module.parameters())
            (F.cross_entropy(module(x[part]), y[part]) + 0.5 * DECAY * penalty).backward()
            optimiser.step()
            schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), file)
    return module.eval()
