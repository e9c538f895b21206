"""A loaded network as the scan sees it: inputs to features and logits, split at the last linear layer.

Knows how to find that layer and how to read the outputs people return (tensor, tuple, dict, ``.logits``; logits,
probabilities or log-probabilities). Leaves data to `forward` and derivatives to `curvature`.
The module is never changed: hooks come off again, and nothing but its mode was set by the loader.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import ModelError, NumericalError


@dataclass(frozen=True)
class Network:
    """``head`` is the last linear layer: its inputs are the features, its outputs the logits."""

    module: nn.Module
    head: nn.Linear
    head_name: str
    logits_of: Callable[[object], Tensor]
    """From the module's output to logits; only their differences within a row mean anything."""
    own_classes: bool
    """Whether the outputs are the data set's classes; else the network serves as a feature extractor."""
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[b d]`` and logits ``[b C]``."""
        caught: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            output = self.module(x)
        finally:
            hook.remove()
        return caught[-1].reshape(len(x), -1), self.logits_of(output)


@torch.no_grad()
def inspect_network(module: nn.Module, sample: Tensor, classes: int, head_name: str | None = None) -> Network:
    """Runs one small batch through ``module`` and finds its head. Raises `ModelError` where it cannot."""
    calls: list[tuple[str, nn.Linear, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda _, args, out, name=name, layer=layer: calls.append((name, layer, out)))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        raw = module(sample)
    except Exception as error:
        raise ModelError(
            f"the model failed on a batch of shape {tuple(sample.shape)}: {first_line(error)}",
            "Does its `transform` give what the network takes? --debug shows the traceback.",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    output = _tensor_of(raw)
    if output.ndim != 2 or len(output) != len(sample):
        raise ModelError(
            f"the model returned {tuple(output.shape)} for {len(sample)} rows; one row of logits each was expected",
            "curate reads single-label classifiers.",
        )
    if not bool(torch.isfinite(output).all()):
        raise NumericalError(
            "the model's outputs are not finite on the first rows", "Are these the weights you trained?"
        )
    notes: list[str] = []
    logits_of = _reader(output, notes)
    fitting = [(name, layer, out) for name, layer, out in calls if out.ndim == 2 and len(out) == len(sample)]
    if head_name is not None:
        fitting = [call for call in fitting if call[0] == head_name]
        if not fitting:
            names = ", ".join(name for name, _, _ in calls) or "none"
            raise ModelError(
                f"--head {head_name}: no linear layer of that name gives a row each", f"There are: {names}"
            )
    if not fitting:
        raise ModelError("the model has no linear layer that gives a row of outputs each", "Name its head with --head.")
    name, layer, out = fitting[-1]
    same = out.shape == output.shape and torch.allclose(out.softmax(1), logits_of(raw).softmax(1), atol=1e-4)
    own = output.shape[1] == classes and same
    if output.shape[1] != classes:
        notes.append(
            f"the model has {output.shape[1]} outputs for {classes} classes: it serves as a feature extractor "
            "for the probe"
        )
    elif not same:
        notes.append(f"the outputs are not those of {name}: it serves as a feature extractor for the probe")
    return Network(module, layer, name, logits_of, own, tuple(notes))


def first_line(error: BaseException) -> str:
    """An exception as one line for an error message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _tensor_of(output: Any) -> Tensor:
    for candidate in (output, getattr(output, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    if isinstance(output, dict) and isinstance(output.get("logits"), Tensor):
        return output["logits"]  # type: ignore[no-any-return]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(
        f"the model returned a {type(output).__name__} without logits",
        "Return a tensor, a tuple that starts with it, or a dict or object with `logits`.",
    )


def _reader(output: Tensor, notes: list[str]) -> Callable[[object], Tensor]:
    sums = output.sum(1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        notes.append("the outputs are probabilities: their logarithm is taken as logits")
        return lambda raw: _tensor_of(raw).clamp_min(1e-12).log()
    return _tensor_of
