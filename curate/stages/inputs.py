"""What a network reads, as short rows: a depth that no training has touched.

Knows how decoded inputs become at most `WIDTH` numbers a row; leaves what is made of them to `experts`.
"""

import torch
from torch import Tensor, nn

from curate.engine.passes import Passes
from curate.models.early import EarlyLayer
from curate.stages.forward import INPUT_BYTES, Forward

BATCH = 256
COMPARED = 32
"""Rows on which inputs and early features are compared."""


def input_rows(rows: Forward, early: Tensor | None, passes: Passes) -> Tensor | None:
    """Inputs of the rows, ``[n e]`` float32, e <= `early.WIDTH`.

    None if they are no numbers (tokens are places in a vocabulary), if they are too large to be kept in memory, so that
    every row would be read again, or if they are the early features themselves.
    """
    sample = rows.inputs.batch(torch.arange(min(len(rows), COMPARED)))
    if not sample.is_floating_point() or sample[0].numel() * sample.element_size() * len(rows) > INPUT_BYTES:
        return None
    # The same projection as of early features, so that equal ones are seen to be equal.
    reader, nothing = EarlyLayer("inputs", nn.Identity()), nn.Identity()
    first = reader.rows(sample, nothing, sample).cpu()
    if early is not None and first.shape[1] == early.shape[1] and torch.allclose(first, early[: len(first)], atol=1e-4):
        return None
    parts = [
        reader.rows(batch, nothing, batch).cpu()
        for places in passes.parts(len(rows), passes.budget.share(BATCH))
        for batch in [rows.inputs.batch(places)]
    ]
    return passes.collect(parts)
