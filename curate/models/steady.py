"""Does a network give the same outputs for the same rows, whatever stands beside them in the batch?

Dropout that runs in evaluation mode, noise that is drawn in ``forward``, statistics taken over the batch: a row's loss
is then a number of that moment, and so is all that rests on it. Knows one small batch; leaves what follows to others.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from curate.models.network import Network

TOLERANCE = 1e-3
"""Outputs that differ by more than this share of the largest of them differ beyond rounding (float32 on any device;
measured: below 1e-5 on a CPU)."""
HALF_TOLERANCE = 3e-2
"""The same of networks in 16 bits."""

Outputs = dict[str, tuple[Tensor | None, Tensor]]
"""Of each module by name, what it was given and what it gave."""


@torch.no_grad()
def unsteady(network: Network, sample: Tensor) -> str | None:
    """What makes the outputs of one batch differ, as a sentence; None where they are the same.

    The batch goes through the network twice, and once in other groups: two halves, of the rows in reverse order.
    """
    if len(sample) < 2:
        return None
    module = network.module
    first, before = _outputs(network, sample)
    second, after = _outputs(network, sample)
    if _differ(first, second):
        return f"the model gives other outputs each time for the same rows{_cause(module, before, after, lambda x: x)}"
    half, backwards = len(sample) // 2, torch.arange(len(sample) - 1, -1, -1, device=sample.device)
    turned = sample[backwards]
    parts = [_outputs(network, part) for part in (turned[:half], turned[half:]) if len(part)]
    grouped = torch.cat([outputs for outputs, _ in parts])[backwards.to(parts[0][0].device)]
    if _differ(first, grouped):
        last = parts[-1][1]  # the first rows of the batch, in reverse order
        count = len(turned) - half

        def of_part(x: Tensor) -> Tensor:
            return x[:count].flip(0) if len(x) == len(sample) else x

        cause = _cause(module, before, last, of_part)
        return f"the model's outputs for a row depend on the other rows of its batch{cause}"
    return None


def _outputs(network: Network, x: Tensor) -> tuple[Tensor, Outputs]:
    """Features and logits side by side, and what every module was given and gave at its last call."""
    seen: Outputs = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, given: Any, gave: Any) -> None:
            first = given[0] if isinstance(given, tuple) and given and isinstance(given[0], Tensor) else None
            if isinstance(gave, Tensor):
                seen[name] = (first, gave)

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.module.named_modules()]
    try:
        features, logits = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([features.flatten(1).cpu(), logits.cpu().to(features.dtype)], dim=1), seen


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    half = torch.float16 in (a.dtype, b.dtype) or torch.bfloat16 in (a.dtype, b.dtype)
    scale = float(a.abs().max()) if a.numel() else 0.0
    within = (HALF_TOLERANCE if half else TOLERANCE) * max(scale, 1e-6)
    return not bool(((a.float() - b.float()).abs() <= within).all())


def _cause(module: nn.Module, before: Outputs, after: Outputs, aligned: Callable[[Tensor], Tensor]) -> str:
    """The innermost module that was given the same and gave something else, with its kind; empty for none."""
    kinds = dict(module.named_modules())
    found = [
        name
        for name, (given, gave) in before.items()
        if name in after and _same(given, after[name][0], aligned) and _differ(aligned(gave), after[name][1])
    ]
    if not found:
        return ""
    deepest = max(found, key=lambda name: (name.count(".") + bool(name), -found.index(name)))
    return f": because of {deepest or 'its forward'} ({type(kinds[deepest]).__name__})"


def _same(given: Tensor | None, again: Tensor | None, aligned: Callable[[Tensor], Tensor]) -> bool:
    return given is not None and again is not None and not _differ(aligned(given), again)
