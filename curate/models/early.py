"""Features from halfway up the network: what it knew of a row before its labels were learnt by heart.

The last features of a network that has memorised its labels are fitted to the wrong ones too; those from halfway up
hardly are (Arpit et al. 2017 and Cohen, Sapiro & Giryes 2018 on where memorisation sits). Knows which layer to listen
at and how its input becomes a short row; leaves what is made of the rows to `suspicion`.
"""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.keywords import attention_of

WIDTH = 1024
"""Numbers kept of a row: a fixed random projection of the layer's input, which keeps distances and angles
(Johnson & Lindenstrauss 1984)."""
MOST_INPUTS = 2**14
"""Larger inputs of a layer are averaged over neighbouring positions first."""


@dataclass
class EarlyLayer:
    """A layer about halfway up, and its input as a row of at most ``WIDTH`` numbers."""

    name: str
    layer: nn.Module
    _projections: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def rows(self, value: Tensor, module: nn.Module, batch: Tensor) -> Tensor:
        """The layer's input on ``batch`` as float32 rows ``[b e]``, e <= WIDTH, on its device."""
        value = value.float()
        if value.ndim == 3:
            value = _token_mean(value, attention_of(module, batch))
        elif value.ndim > 3:
            value = _pooled(value)
        value = value.flatten(1)
        if value.shape[1] > WIDTH:
            value = value @ self._projection(value.shape[1], value.device)
        return value

    def _projection(self, width: int, device: torch.device) -> Tensor:
        if (width, device) not in self._projections:
            draw = torch.Generator().manual_seed(width)
            made = torch.randn(width, WIDTH, generator=draw) / math.sqrt(WIDTH)
            self._projections[width, device] = made.to(device)
        return self._projections[width, device]


def find_early_layer(module: nn.Module, sample: Tensor, head: nn.Module | None) -> EarlyLayer | None:
    """The layer with weights that stands halfway between the inputs and the head, in the order of the calls.

    None where nothing stands between them: the features are the inputs then.
    """
    layers = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.modules.conv._ConvNd) and not layer.transposed)
    ]
    order: dict[str, tuple[nn.Module, Tensor]] = {}

    def listen(name: str, layer: nn.Module, args: tuple[object, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            order.setdefault(name, (layer, args[0]))

    hooks = [layer.register_forward_pre_hook(partial(listen, name)) for name, layer in layers]
    try:
        module(sample)
    finally:
        for hook in hooks:
            hook.remove()
    before: list[tuple[str, nn.Module]] = []
    for name, (layer, value) in order.items():
        if layer is head:
            break
        if value.ndim >= 2 and len(value) == len(sample):
            before.append((name, layer))
    return EarlyLayer(*before[min((len(before) + 1) // 2, len(before) - 1)]) if before else None


def _token_mean(value: Tensor, attention: Tensor | None) -> Tensor:
    """``[b t d]`` -> ``[b d]``; padding does not count where the model was told of it."""
    if attention is None or attention.shape != value.shape[:2]:
        return value.mean(1)
    weight = attention.to(value)[..., None]
    return (value * weight).sum(1) / weight.sum(1).clamp_min(1)


def _pooled(value: Tensor) -> Tensor:
    """``[b c ...]`` with the positions averaged in blocks until a row has at most ``MOST_INPUTS`` numbers."""
    while value[0].numel() > MOST_INPUTS and max(value.shape[2:]) > 1:
        pool = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[value.ndim]
        value = pool(value, [min(2, size) for size in value.shape[2:]], ceil_mode=True)
    return value
