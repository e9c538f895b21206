"""What networks return, read as one row of logits each.

Knows the forms (tensor, tuple, dict, ``.logits``), the meanings (logits, probabilities, log-probabilities, one number
for two classes) and what is no single-label classifier. Leaves the search for the head to `network`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from curate.errors import ModelError
from curate.process.frames import user_frame

READS = "curate reads single-label classifiers."
CLOSE = 1e-3
"""By how much a row of probabilities may miss 1: half precision."""


@dataclass(frozen=True)
class Outputs:
    """How a network's output becomes logits; ``reading`` names it, ``notes`` say it."""

    logits_of: Callable[[object], Tensor]
    reading: str
    one_output: bool
    notes: tuple[str, ...]


def failed(error: Exception, x: Tensor) -> ModelError:
    """What is said if a person's network raised on a batch: its code may raise anything."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = user_frame(error)
    said = f"the model failed on a batch of shape {tuple(x.shape)}: {reason}{f' ({line})' if line else ''}"
    if any(word in reason for word in ("CUDA", "cuda", "NVIDIA")):
        return ModelError(
            said, "Its code asks for a GPU: let it follow its weights, x.to(next(self.parameters()).device)."
        )
    return ModelError(said, "Does its `transform` give what the network takes? --debug shows the traceback.")


def parts_of(raw: object) -> dict[str, object]:
    """What a network returned, by the names and numbers of its parts; itself, without a name, if it is one tensor."""
    if isinstance(raw, Mapping):
        return {str(name): part for name, part in raw.items()}
    if isinstance(raw, (tuple, list)):
        return {str(number): part for number, part in enumerate(raw)}
    names = [name for name, part in vars(raw).items() if isinstance(part, Tensor)] if hasattr(raw, "__dict__") else []
    return {"": raw} if isinstance(raw, Tensor) or not names else {name: getattr(raw, name) for name in names}


def choose_part(
    raw: object, rows: int, classes: int, given: Sequence[Tensor], asked: str | None
) -> tuple[Callable[[object], object], str | None]:
    """Which part of a network's output is read: a function that takes it, and its name if there was a choice.

    ``given`` are the outputs of linear layers in the order of their calls: of parts with a column a class the one that
    the last of them gave. Raises `ModelError` for a part that is ``asked`` for and is not there.
    """
    parts = parts_of(raw)
    if asked is not None:
        if asked not in parts:
            there = ", ".join(name for name in parts if name) or "one part only"
            raise ModelError(f"--output {asked}: the model returns no such part", f"There is: {there}")
        return _taking(asked), asked
    fitting = [
        name
        for name, part in parts.items()
        if isinstance(part, Tensor) and part.ndim == 2 and part.shape == (rows, classes) and part.is_floating_point()
    ]
    usual = "logits" in parts or "" in parts
    if usual or not fitting or (len(parts) == 1 and not isinstance(raw, Mapping)):
        return (lambda raw: raw), None
    for output in reversed(given):
        for name in fitting:
            part = parts[name]
            assert isinstance(part, Tensor)
            if part.shape == output.shape and torch.allclose(part, output, atol=1e-5):
                return _taking(name), name
    return _taking(fitting[0]), fitting[0]


def _taking(name: str) -> Callable[[object], object]:
    return lambda raw: parts_of(raw)[name]


def matrix_of(raw: object, rows: int) -> Tensor:
    """``[b C]``: the tensor among what a network returned for ``rows`` rows; a single number a row as ``[b 1]``.

    Raises `ModelError` for detectors, segmentation and whatever else has not one row of numbers for each row.
    """
    output = _tensor_of(raw)
    if output.layout != torch.strided or not output.is_floating_point():
        kind = "a sparse tensor" if output.layout != torch.strided else f"numbers of type {output.dtype}"
        raise ModelError(f"The model returned {kind}; logits are floating-point numbers", READS)
    if output.ndim == 1 and len(output) == rows:
        output = output[:, None]
    if output.ndim == 4 and len(output) == rows:
        raise ModelError(
            f"The model returned a map for each row {tuple(output.shape)}: segmentation, or features without pooling",
            f"{READS} A backbone can be pooled in the model's file.",
        )
    if output.ndim != 2 or len(output) != rows:
        raise ModelError(
            f"The model returned {tuple(output.shape)} for {rows} rows; one row of logits each was expected", READS
        )
    return output


def read_outputs(output: Tensor, classes: int, last: Tensor | None) -> Outputs:
    """What ``output [b C]`` means; ``last`` is what the last linear layer gave, where it gave the same shape.

    Raises `ModelError` for one output where there are more than two classes.
    """
    if output.shape[1] == 1:
        return _one_output(output, classes, last)
    sums = output.exp().sum(1)
    if bool((output <= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=CLOSE):
        return Outputs(matrix, "log-probabilities", False, ("the outputs are log-probabilities, taken as logits",))
    sums = output.sum(1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=CLOSE):
        said = "the outputs are probabilities: their logarithm is taken as logits"
        return Outputs(lambda raw: matrix(raw).clamp_min(1e-12).log(), "probabilities", False, (said,))
    return Outputs(matrix, "logits", False, ())


def _one_output(output: Tensor, classes: int, last: Tensor | None) -> Outputs:
    if classes != 2:
        raise ModelError(
            f"The model has one output, for {classes} classes: this looks like regression",
            "curate works on classification: an output for each class, or one for two classes.",
        )
    if last is not None and torch.allclose(last, output, atol=1e-5):
        probability = False
    elif last is not None and torch.allclose(last.sigmoid(), output, atol=1e-5):
        probability = True
    else:
        probability = bool(((output >= 0) & (output <= 1)).all())
    what = "probability" if probability else "logit"
    note = f"one output: read as the {what} of the second class (--classes gives the order)"
    return Outputs(
        (lambda raw: two(torch.logit(matrix(raw), eps=1e-7))) if probability else (lambda raw: two(matrix(raw))),
        f"one {what}",
        True,
        (note,),
    )


def two(logit: Tensor) -> Tensor:
    """``[b 1]`` -> ``[b 2]``: (-z/2, z/2), whose softmax is (1 - σ(z), σ(z))."""
    return torch.cat([-logit / 2, logit / 2], dim=1)


def matrix(raw: object) -> Tensor:
    """As `matrix_of`, of what is known to be one."""
    output = _tensor_of(raw)
    return output[:, None] if output.ndim == 1 else output


def _tensor_of(output: Any) -> Tensor:
    for candidate in (output, getattr(output, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    if isinstance(output, Mapping):
        for name in ("logits", "out"):  # "out": torchvision's segmentation, which is told by its shape
            if isinstance(output.get(name), Tensor):
                return output[name]  # type: ignore[no-any-return]
    if isinstance(output, (tuple, list)) and output:
        if isinstance(output[0], Tensor):
            return output[0]
        if isinstance(output[0], Mapping) and "boxes" in output[0]:
            raise ModelError("The model returned boxes for each row: it is a detector", READS)
    raise ModelError(
        f"The model returned a {type(output).__name__} without logits",
        "Name the part that holds them with --output, a name or a number from 0.",
    )
