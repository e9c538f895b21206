"""Rows in memory, as the engine takes them."""

from dataclasses import dataclass

import torch
from torch import nn


class TensorRows:
    device = torch.device("cpu")

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        return self.x[indices]


@dataclass(frozen=True)
class LabelledRows:
    """An `engine.rows.Rows`; ``name`` tells its rows' contents from those of others."""

    inputs: TensorRows
    labels: torch.Tensor
    logits: torch.Tensor | None
    name: str = ""

    @classmethod
    def of(cls, module: nn.Module, x: torch.Tensor, labels: torch.Tensor, name: str = "") -> "LabelledRows":
        return cls(TensorRows(x), labels, module(x).detach(), name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> list[str]:
        return [f"{self.name}{row}" for row in range(len(self))]
