"""A loaded network as the scan sees it: inputs to features and logits, split at the last linear layer.

Knows how to find that layer. Leaves the meaning of the outputs to `outputs`, data to `forward` and derivatives to
`curvature`. The module is never changed: hooks come off again, and nothing but its mode was set by the loader.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from curate.errors import NumericalError, UsageError, out_of_memory
from curate.models.early import EarlyLayer, find_early_layer
from curate.models.outputs import choose_part, failed, matrix, matrix_of, parts_of, read_outputs, two

Calls = list[tuple[str, nn.Linear, Tensor]]


@dataclass(frozen=True)
class Network:
    """``head`` is the last linear layer: its inputs are the features, its outputs the logits.

    Without one (None) the outputs themselves are the features, of a network that gives embeddings.
    """

    module: nn.Module
    head: nn.Linear | None
    head_name: str | None
    logits_of: Callable[[object], Tensor]
    """From the module's output to logits; only their differences within a row mean anything."""
    own_classes: bool
    """Whether the outputs are the data set's classes; else the network serves as a feature extractor."""
    notes: tuple[str, ...] = ()
    one_output: bool = False
    """One output stands for two classes: logits are (-z/2, z/2)."""
    reading: str = "logits"
    """What the outputs were taken for."""
    differentiable: bool = True
    """Whether the outputs have gradients in the parameters."""
    early: EarlyLayer | None = None
    """Where the early features are taken; None where nothing stands between the inputs and the head."""
    half: float | None = None
    """The forward pass computes in bfloat16, by so much apart from 32 bits (`halved`); None: as the network is."""

    @property
    def own_head(self) -> nn.Linear:
        """The head of a network whose outputs are the classes: it always has one."""
        assert self.head is not None
        return self.head

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[b d]`` and logits ``[b C]``."""
        features, logits, _ = self.at_depths(x)
        return features, logits

    @torch.no_grad()
    def at_depths(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``[b d]``, logits ``[b C]``, and early features ``[b e]`` (e = 0 where there are none)."""
        caught: dict[nn.Module, Tensor] = {}
        early: list[Tensor] = []
        hooks = []
        if self.head is not None:
            hooks.append(self.head.register_forward_pre_hook(lambda layer, args: caught.__setitem__(layer, args[0])))
        if self.early is not None:
            hooks.append(self.early.layer.register_forward_pre_hook(lambda _, args: early.append(args[0])))
        try:
            with torch.autocast(x.device.type, torch.bfloat16) if self.half is not None else nullcontext():
                logits = self.logits_of(_called(self.module, x))
        finally:
            for hook in hooks:
                hook.remove()
        if self.half is not None:
            early = [rows.float() for rows in early]
        rows = self.early.rows(early[0], self.module, x) if self.early is not None else x.new_empty(len(x), 0)
        return (logits if self.head is None else caught[self.head].reshape(len(x), -1)), logits, rows


@torch.no_grad()
def inspect_network(
    module: nn.Module, sample: Tensor, classes: int, head_name: str | None = None, part: str | None = None
) -> Network:
    """Runs one small batch through ``module`` and finds its head. Raises `ModelError` if it cannot.

    ``head_name`` and ``part`` are what a person said of the last linear layer and of the part of the output to read.
    """
    raw, calls = _run(module, sample)
    matrices = [out for _, _, out in calls if out.ndim == 2]
    pick, chosen = choose_part(raw, len(sample), classes, matrices, part)
    output = matrix_of(pick(raw), len(sample)).float()
    if not bool(torch.isfinite(output).all()):
        raise NumericalError(
            "The model's outputs are not finite on the first rows", "Are these the weights you trained?"
        )
    fitting = [(name, layer, out.float()) for name, layer, out in calls if out.ndim == 2 and len(out) == len(sample)]
    if head_name is not None:
        fitting = _named(head_name, fitting, calls)
    else:
        giving = [call for call in fitting if _gives([call], output)]
        fitting = giving[-1:] or _feeding(lambda: pick(_called(module, sample)), len(sample), fitting, output)
    last = fitting[-1][2] if fitting and fitting[-1][2].shape == output.shape else None
    read = read_outputs(output, classes, last)
    outputs = 2 if read.one_output else output.shape[1]
    notes = list(read.notes)
    if chosen not in (None, "0") and len(parts_of(raw)) > 1:
        notes.append(f"the model returns several parts: '{chosen}' is read (--output names another)")
    gradient = _has_gradient(module, sample[:2], pick)
    if not gradient:
        notes.append("the model's forward pass gives no gradients (no_grad or detach in it): influence is at the head")
    if outputs != classes:
        notes.append(_other_number(outputs, classes))
    if not fitting:
        notes.append("no linear layer gives the outputs: they are the features, for the probe")
        early = find_early_layer(module, sample, None)
        return Network(module, None, None, lambda raw: matrix(pick(raw)), False, tuple(notes), early=early)
    same = last is not None and torch.allclose(
        (two(last) if read.one_output else last).softmax(1), read.logits_of(pick(raw)).float().softmax(1), atol=1e-4
    )
    name, layer, _ = fitting[-1]
    if outputs == classes and not same:
        notes.append(f"the outputs are not those of {name}: it serves as a feature extractor for the probe")
    own = outputs == classes and same
    early = find_early_layer(module, sample, layer)
    return Network(
        module,
        layer,
        name,
        lambda raw: read.logits_of(pick(raw)),
        own,
        tuple(notes),
        read.one_output,
        read.reading if chosen is None else f"{read.reading} of {chosen}",
        gradient,
        early,
    )


def _named(head: str, fitting: Calls, calls: Calls) -> Calls:
    """Those of this layer among what is ``fitting``. Raises `UsageError` if it has none."""
    found = [call for call in fitting if call[0] == head]
    if not found:
        names = ", ".join(name for name, _, _ in calls) or "none"
        raise UsageError(f"--head {head}: no linear layer of that name gives a row each", f"There are: {names}")
    return found


def _gives(fitting: Calls, output: Tensor) -> bool:
    return bool(fitting) and fitting[-1][2].shape == output.shape and torch.allclose(fitting[-1][2], output, atol=1e-5)


def _has_gradient(module: nn.Module, x: Tensor, pick: Callable[[object], object]) -> bool:
    """Whether what the network returns can be differentiated in its parameters, frozen ones too; none have none."""
    parameters = {
        name: value.detach().requires_grad_() for name, value in module.named_parameters() if value.is_floating_point()
    }
    with torch.enable_grad():
        found = pick(functional_call(module, parameters, (x,)))
    tensors = [part for part in parts_of(found).values() if isinstance(part, Tensor)]
    return not parameters or any(part.requires_grad for part in tensors)


def _feeding(outputs: Callable[[], object], rows: int, fitting: Calls, output: Tensor) -> Calls:
    """The last call whose result the outputs depend on, if there is one: a pooler beside the way out is no head."""
    for call in reversed(fitting):
        hook = call[1].register_forward_hook(
            lambda _, __, out: torch.linspace(-1, 1, out.shape[-1]).to(out).expand_as(out)
        )
        try:
            changed = not torch.equal(matrix_of(outputs(), rows).float(), output)
        finally:
            hook.remove()
        if changed:
            return [call]
    return []


def _run(module: nn.Module, sample: Tensor) -> tuple[object, Calls]:
    """What ``module`` returns for ``sample``, and the outputs of its linear layers in the order of the calls."""
    calls: Calls = []
    hooks = [
        layer.register_forward_hook(lambda _, args, out, name=name, layer=layer: calls.append((name, layer, out)))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        return _called(module, sample), calls
    finally:
        for hook in hooks:
            hook.remove()


def _called(module: nn.Module, x: Tensor) -> object:
    """What ``module`` returns. A boundary: a person's code may raise anything, on any batch."""
    try:
        return module(x)
    except Exception as error:
        if out_of_memory(error):  # nobody's fault, and fewer rows may fit
            raise
        raise failed(error, x) from error


def _other_number(outputs: int, classes: int) -> str:
    note = f"the model has {outputs} outputs for {classes} classes: it serves as a feature extractor for the probe"
    if outputs > classes:
        note += f" (if the classes are among its outputs, name all {outputs} in their order with --classes)"
    return note


def first_line(error: BaseException) -> str:
    """An exception as one line for an error message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
