"""The loss that ``--loss`` names, for the classes of a training set.

Knows how class weights are said; leaves what a loss is to `engine.trained_loss`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.loss import Loss
from curate.errors import UsageError
from curate.plugs import loss_asked


def training_loss(asked: str, labels: Int[Tensor, " n"], classes: int) -> Loss:
    """Raises `UsageError` for weights that are not one a class, and for a smoothing of 1 and more."""
    plug, settings = loss_asked(asked)
    smoothing = settings.get("smoothing", 0.0)
    if isinstance(smoothing, float) and smoothing >= 1:
        raise UsageError(f"--loss {asked}: a smoothing lies between 0 and 1", "0.1 is usual.")
    weights = _weights(asked, settings.pop("weights", None), labels, classes)
    loss: Loss = plug.load()(weights, **settings)
    return loss


def _weights(asked: str, said: object, labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, " C"]:
    """Of each class; their mean over the rows is 1, as a weighted mean of losses has it."""
    if said is None:
        return torch.ones(classes)
    counts = torch.bincount(labels, minlength=classes)
    if said == "balanced":
        weights = torch.where(counts > 0, 1 / counts.clamp_min(1), torch.zeros(())).double()
    else:
        try:
            weights = torch.tensor([float(part) for part in str(said).split("/")], dtype=torch.float64)
        except ValueError:
            weights = torch.empty(0)
        if len(weights) != classes or not bool((weights > 0).all()):
            raise UsageError(
                f"--loss {asked}: {classes} weights above 0 were expected, one for each class in their order",
                "As weights=1/3/0.5; weights=balanced is 1 over the rows of each class.",
            )
    return (weights / weights[labels].mean()).float()
