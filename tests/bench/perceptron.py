"""A perceptron on rows of numbers, for the benchmarks: the network of sets that are no pictures."""

import torch
from torch import nn
from torch.nn import functional as F


def factory(columns: int, classes: int, width: int = 64) -> nn.Module:
    """Two hidden layers of ``width``."""
    return nn.Sequential(
        nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )


def train(x: torch.Tensor, y: torch.Tensor, classes: int, *, epochs: int, weight_decay: float, seed: int) -> nn.Module:
    """AdamW and a cosine schedule; ``weight_decay`` 0 and many epochs memorise the labels."""
    torch.manual_seed(seed)
    model = factory(x.shape[1], classes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
    return model.eval()
