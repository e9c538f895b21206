"""A perceptron on rows of numbers, for the benchmarks: the network of sets that are no pictures.

A scan imports a copy of this file as the model's.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from curate.settings.merge import ScanSettings


def factory(columns: int, classes: int, width: int = 64) -> nn.Module:
    """Two hidden layers of ``width``."""
    return nn.Sequential(
        nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )


def train(x: torch.Tensor, y: torch.Tensor, classes: int, *, epochs: int, weight_decay: float, width: int) -> nn.Module:
    """AdamW and a cosine schedule; ``weight_decay`` 0, many epochs and much width memorise the labels."""
    torch.manual_seed(0)
    model = factory(x.shape[1], classes, width)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
    return model.eval()


def standardised(features: np.ndarray, rows: int) -> np.ndarray:
    """Columns by the mean and the spread of the first ``rows``, float32."""
    mean, spread = features[:rows].mean(0), features[:rows].std(0)
    return ((features - mean) / np.maximum(spread, 1e-6)).astype(np.float32)


def workload(
    folder: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], classes: int, recipe: dict[str, float]
) -> tuple[ScanSettings, nn.Module]:
    """The scan of a perceptron trained on ``parts["train"]``, features and class numbers; an ``eval`` part is its
    evaluation set."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, labels) in parts.items():
        np.savez(folder / f"{name}.npz", x=x, y=np.array([f"{label:04}" for label in labels]))
    x, labels = parts["train"]
    model = train(torch.from_numpy(x), torch.from_numpy(labels), classes, **recipe)
    (folder / "model.py").write_text(Path(__file__).read_text())
    save_file(model.state_dict(), folder / "weights.safetensors")
    settings = ScanSettings(
        str(folder / "train.npz"),
        eval=str(folder / "eval.npz") if "eval" in parts else None,
        model=f"{folder / 'model.py'}:factory",
        model_args={"columns": x.shape[1], "classes": classes, "width": recipe["width"]},
        weights=(str(folder / "weights.safetensors"),),
        cache=False,
        classes=tuple(f"{label:04}" for label in range(classes)),
    )
    return settings, model
