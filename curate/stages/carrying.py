"""How rows reach the device and what is made of them comes back, while the CPU goes on with the next ones.

Copies to and from a GPU go by pinned memory, and nobody waits for one before it is asked for what it brings. Knows
devices; leaves to `forward` what the rows are.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def moved(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on the device, which may still be on its way."""
    if device.type != "cuda" or batch.is_cuda:
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def coming(found: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """What was found, on the CPU, once it is asked for: until then the device computes it."""
    if not any(value.is_cuda for value in found):
        return lambda: [value.cpu() for value in found]
    back = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in found]
    for here, value in zip(back, found, strict=True):
        here.copy_(value, non_blocking=True)
    there = torch.cuda.Event()
    there.record()

    def arrived() -> list[Tensor]:
        there.synchronize()
        return back

    return arrived
