"""Which of torchvision's classifiers a checkpoint is of, by the names and shapes of its tensors.

Knows architectures only as shapes: none is filled with numbers. Leaves reading the file to ``weights`` and building the
model in earnest to ``loading``.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

OUTPUTS = 1000
"""Outputs of an architecture as torchvision builds it: what has this many rows is its head."""

MOST_TIMES = 30
"""An architecture has at most so many times the parameters of a checkpoint: alexnet has 25 times those of its body."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recognised:
    """An architecture whose body is in the checkpoint.

    ``outputs`` is what its head gives there, None where another head stands in its place; ``head`` are then that
    head's tensors. ``prefix`` stands before the names in the file.
    """

    name: str
    outputs: int | None
    prefix: str
    head: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """As --model names it."""
        return f"torchvision:{self.name}"


def recognise(state: Mapping[str, torch.Tensor]) -> Recognised | None:
    """The classifier of torchvision that fits apart from the number of its outputs, else one whose body alone fits."""
    import torchvision

    there: Shapes = {
        name.replace("_orig_mod.", ""): tuple(tensor.shape)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    body = None
    count = sum(math.prod(shape) for shape in there.values())
    known = torchvision.models.list_models(module=torchvision.models)
    times = {name: _parameters(name) / max(1, count) for name in known}
    for name in sorted(
        (name for name in known if times[name] < MOST_TIMES), key=lambda name: abs(math.log(times[name]))
    ):
        found = _fits(name, _shapes(name), there)
        if found is not None and found.outputs is not None:
            return found
        body = body or found
    return body


def _fits(name: str, wanted: Shapes, there: Shapes) -> Recognised | None:
    head = [tensor for tensor, shape in wanted.items() if shape and shape[0] == OUTPUTS]
    places = {tensor.split(".")[0] for tensor in head}
    body = [tensor for tensor in wanted if tensor.split(".")[0] not in places]
    anchor = body[0]
    for prefix in [other.removesuffix(anchor) for other in there if other == anchor or other.endswith("." + anchor)]:
        own = {other.removeprefix(prefix): shape for other, shape in there.items() if other.startswith(prefix)}
        if any(own.get(tensor) != wanted[tensor] for tensor in body):
            continue
        outputs = {own[tensor][0] for tensor in head if own.get(tensor)}
        # The whole network, but for the number of rows of what has a row for each output.
        fitted = {**wanted, **{tensor: (*outputs, *wanted[tensor][1:]) for tensor in head}}
        if len(outputs) == 1 and own == fitted:
            return Recognised(name, outputs.pop(), prefix)
        other_head = sorted(own.keys() - set(body))
        if all(tensor.split(".")[0] in places for tensor in other_head):
            return Recognised(name, None, prefix, tuple(other_head))
    return None


def _parameters(name: str) -> int:
    """Of an architecture with its own head, as torchvision says without building it: the nearest are tried first."""
    import torchvision

    (first, *_) = torchvision.models.get_model_weights(name)
    return int(first.meta["num_params"])


@cache
def _shapes(name: str) -> Shapes:
    import torchvision

    with _shapes_only():
        state = torchvision.models.get_model(name, weights=None).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


@contextmanager
def _shapes_only() -> Iterator[None]:
    """Parameters take no memory and no time; the numbers that an architecture computes with while it is built do."""
    with warnings.catch_warnings(), _EmptyOnMeta():
        warnings.simplefilter("ignore")  # torchvision's, about initialisation
        yield


class _EmptyOnMeta(TorchFunctionMode):
    # `with torch.device("meta")` takes all tensors there: regnet and swin read values of theirs and fail.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        more = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **more})
