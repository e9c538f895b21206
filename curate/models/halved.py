"""Whether a network's forward pass may compute in 16 bits: only if its numbers agree with those of 32 on a sample.

Knows `torch.autocast` and one small batch. Derivatives are never taken in 16 bits: influence is
of the network as it is.
"""

from dataclasses import replace

import torch
from torch import Tensor

from curate.models.network import Network

AGREE = 0.03
"""Of the length of a row's features, or outputs: beyond it 16 bits are not taken (bfloat16 keeps 1 part in 256)."""


@torch.no_grad()
def halved(network: Network, sample: Tensor) -> Network:
    """The network whose `at_depths` computes in bfloat16 if it agrees on ``sample [b ...]``, else as it is.

    Its notes say which, and by how much features and outputs differ.
    """
    half = replace(network, half=0.0)
    both = zip(network(sample), half(sample), strict=True)
    gap = max(_gap(whole.float(), rounded.float()) for whole, rounded in both)
    told = f"on {len(sample)} rows features and outputs differ by {gap:.1%} of their length at most"
    if gap <= AGREE:
        note = f"the forward pass computed in bfloat16 (--autocast): {told}"
        return replace(half, half=gap, notes=(*network.notes, note))
    note = f"--autocast was not followed, the forward pass computed in 32 bits: {told}, allowed are {AGREE:.0%}"
    return replace(network, notes=(*network.notes, note))


def _gap(whole: Tensor, rounded: Tensor) -> float:
    """The largest distance of a row ``[b d]``, as a share of the median row's length; infinite if it is no number."""
    lengths = whole.norm(dim=1)
    gap = float(((rounded - whole).norm(dim=1) / lengths.median().clamp_min(1e-12)).max())
    return gap if gap == gap else float("inf")
