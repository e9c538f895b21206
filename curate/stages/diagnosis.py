"""The two failures that show nowhere: outputs in another class order, inputs prepared otherwise than in training.

Knows how each looks from outside: a head that fits after a permutation of the classes, a head far below a probe on its
own features. Says what would mend it; leaves the scan to go on or not to `prepare` and the scan.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.passes import slices, summed
from curate.errors import ModelError
from curate.models.network import Network
from curate.process.numbers import percent
from curate.stages.forward import Forward

LEAST_GAIN = 0.1
"""Accuracy that another class order or another preparation must win before it is spoken of."""
FAR_BELOW = 0.15
"""Accuracy of the probe left out on the row, minus that of the head, from which the inputs are doubted."""
NEAR = 0.05
"""Below this difference nothing is tried: the head is as good as its features allow."""
TRIED_ROWS = 256

USUAL_SIDES = (28, 32, 64, 96, 128, 160, 192, 224, 256)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ClassOrder:
    """The order under which the outputs fit the labels, and the accuracy before and under it."""

    classes: tuple[str, ...]
    before: float
    after: float

    def __str__(self) -> str:
        names = ",".join(self.classes)
        quoted = names if all(sign.isalnum() or sign in ",._-" for sign in names) else f"'{names}'"
        return (
            f"the model's outputs fit the labels in another order of the classes ({percent(self.after, 0)} instead of "
            f"{percent(self.before, 0)}): --classes {quoted}"
        )


def other_order(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> ClassOrder | None:
    """The permutation of the classes under which ``logits`` ``[n C]`` fit ``labels`` ``[n]``, if one is clearly better.

    Label noise cannot mimic it as long as most rows of a class are labelled right. The gain must be over
    ``LEAST_GAIN``, and the best order must beat by 3/√n what the best one wins on labels dealt out at random: with
    many classes and few rows that is not little.
    """
    n, count = logits.shape
    if n == 0 or count != len(classes):
        return None
    predicted = logits.argmax(1)
    order, after = matched(predicted, labels, count)
    before = float((predicted == labels).double().mean())
    if after - before <= max(LEAST_GAIN, 3 / n**0.5):
        return None
    dealt = labels[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    if after - matched(predicted, dealt, count)[1] <= 3 / n**0.5:
        return None
    return ClassOrder(tuple(classes[place] for place in order.tolist()), before, after)


def matched(said: Int[Tensor, " n"], given: Int[Tensor, " n"], classes: int) -> tuple[Int[Tensor, " C"], float]:
    """The class of each output number, one to one, by which most of what is ``said`` is what is given; and which share.

    Mostly the class that an output goes with most often is another for each of them, and nothing can be better.
    """
    table = torch.bincount(said * classes + given, minlength=classes * classes).view(classes, classes)
    order = table.argmax(1)
    if len(order.unique()) < classes:
        from scipy.optimize import linear_sum_assignment  # scikit-learn brings it

        order = torch.from_numpy(linear_sum_assignment(table.numpy(), maximize=True)[1])
    return order, float(table.gather(1, order[:, None]).sum()) / len(said)


def doubtful_inputs(network: Network, train: Forward, left_out: Tensor) -> str | None:
    """A warning where the head is far below the probe, or where another preparation of the inputs suits it better.

    ``left_out`` ``[n C]`` are the probe's leave-one-out logits on the features of the same rows.
    """
    assert train.logits is not None
    head = float((train.logits.argmax(1) == train.labels).double().mean())
    probe = float((left_out.argmax(1) == train.labels).double().mean())
    if probe - head <= NEAR:
        return None
    better = better_preparation(network, train)
    if better is not None:
        what, before, after, rows = better
        return (
            f"the inputs do not seem to be prepared as in training: {what}, the model's head is right on "
            f"{percent(after, 0)} of {rows:,} rows instead of {percent(before, 0)}; give the model a `transform` "
            "that does so" + (" (for models by name: --model-arg size=N)" if "pixels" in what else "")
        )
    if probe - head <= FAR_BELOW:
        return None
    return (
        f"the model's head is right on {percent(head, 0)} of the labels, a probe on the same features, "
        f"without each row's own label, on {percent(probe, 0)}: are the inputs prepared as in training (size, "
        "normalisation, order of channels), and are these the trained weights?"
    )


@torch.no_grad()
def better_preparation(network: Network, train: Forward) -> tuple[str, float, float, int] | None:
    """(what to do, accuracy now, accuracy then, rows) for pictures; None where nothing tried is clearly better."""
    rows = torch.arange(min(TRIED_ROWS, len(train)))
    x = train.inputs.batch(rows)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
        return None
    labels = train.labels[rows]

    def accuracy(batch: Tensor) -> float:
        def right(part: slice) -> Tensor:
            return (network(batch[part])[1].argmax(1).cpu() == labels[part]).sum()

        return float(summed(slices(len(rows), 64), right)) / len(rows)

    now = accuracy(x)
    tried = [(name, accuracy(batch)) for name, batch in _preparations(x).items()]
    for side in USUAL_SIDES:
        if side < max(x.shape[2:]):
            # A network with a fixed size refuses the others.
            with contextlib.suppress(ModelError, RuntimeError, ValueError, AssertionError):
                resized = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
                tried.append((f"at {side}x{side} pixels", accuracy(resized)))
    what, best = max(tried, key=lambda one: one[1])
    return (what, now, best, len(rows)) if best - now > max(LEAST_GAIN, 3 / len(rows) ** 0.5) else None


def _preparations(x: Tensor) -> dict[str, Tensor]:
    """What people forget, or do twice."""
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    own_mean, own_std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    tried = {
        "standardised by their own mean and standard deviation": (x - own_mean) / own_std,
        "scaled to -1..1": 2 * x - 1,
        "scaled to 0..255": 255 * x,
        "divided by 255": x / 255,
        "with light and dark exchanged": x.amin() + x.amax() - x,
    }
    if x.shape[1] == 3:
        tried |= {
            "normalised with ImageNet's mean and standard deviation": (x - mean) / std,
            "without ImageNet's normalisation": x * std + mean,
            "with the channels in the order BGR": x.flip(1),
        }
    return tried
