"""Models of several inputs: a row is a dict of tensors (``input_ids``, ``attention_mask`` ...), or a tuple of them.

Everything above passes one tensor a batch. So a row's tensors are packed into one, and the network is wrapped to
unpack it; parameters and layers keep their names. Whole numbers stay exact, and so do float32 beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from curate.errors import ModelError
from curate.models.outputs import parts_of

PLACES = 8
"""Lengths of a batch are multiples of it."""


@dataclass
class Layout:
    """Names, shapes and types of a row's tensors: those of the first row, which all others must have."""

    spec: str
    parts: dict[str, tuple[torch.Size, torch.dtype]] = field(default_factory=dict)
    by_place: bool = False
    """The parts have no names: the model is called with them in their order."""
    trims: bool = False
    """Of a batch the last places, if they are padding in all of its rows, are not given to the model."""

    def pack(self, row: Mapping[str, Any]) -> Tensor:
        """``[p]``: the row's tensors one behind the other. Raises ``ModelError`` where they differ from the first's."""
        tensors = {str(name): self._tensor(name, value) for name, value in row.items()}
        parts = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        if not parts:
            raise ModelError(
                f"The transform of {self.spec} gave an empty dict.", "Return what the model is called with."
            )
        if not self.parts:
            self.parts = parts
        if parts != self.parts:
            raise ModelError(
                f"The transform of {self.spec} gave {_shapes(parts)} after {_shapes(self.parts)}.",
                "Let it pad and cut every row to one length.",
            )
        return torch.cat([tensor.flatten().to(self._packed) for tensor in tensors.values()])

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """``[b p]`` -> the batch by name."""
        pieces = rows.split([shape.numel() for shape, _ in self.parts.values()], dim=1)
        found = {
            name: piece.reshape(len(rows), *shape).to(kind)
            for (name, (shape, kind)), piece in zip(self.parts.items(), pieces, strict=True)
        }
        mask = found.get("attention_mask")
        if not self.trims or mask is None or mask.ndim != 2 or is_batchedtensor(mask):
            return found
        told = mask.any(0).nonzero()
        last = min(mask.shape[1], -(-(int(told[-1]) + 1) // PLACES) * PLACES) if len(told) else mask.shape[1]
        return {name: part[:, :last] if part.shape[:2] == mask.shape else part for name, part in found.items()}

    @property
    def _packed(self) -> torch.dtype:
        floating = [kind.is_floating_point for _, kind in self.parts.values()]
        if not any(floating):
            return torch.int64
        return torch.float32 if all(floating) else torch.float64  # exact up to 2^53, and for every float32

    def _tensor(self, name: str, value: Any) -> Tensor:
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise ModelError(
                f"The transform of {self.spec} gave '{name}' as a {type(value).__name__}, not a tensor.",
                "Every value of the dict is a tensor, without a batch axis.",
            ) from None
        if tensor.is_floating_point():
            return tensor.float()
        # tokenizers with return_tensors="pt" give a batch of one
        return tensor[0] if tensor.ndim == 2 and len(tensor) == 1 else tensor


class CalledByKeyword(nn.Module):
    """``inner``, called with what ``layout`` unpacks. The tables of parameters and layers are those of ``inner``."""

    def __init__(self, inner: nn.Module, layout: Layout) -> None:
        super().__init__()
        # One set of tables, so that replaced parameters, hooks and moves to a device reach the network itself;
        # and the network beside them, else its names would get a prefix.
        shared = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
        self.__dict__.update({name: inner.__dict__[name] for name in shared})
        self.__dict__["_called"] = (inner, layout)
        self.training = inner.training

    def train(self, mode: bool = True) -> "CalledByKeyword":
        """Put the inner model into training mode, or out of it."""
        self.__dict__["_called"][0].train(mode)
        self.training = mode
        return self

    def forward(self, rows: Tensor) -> Any:
        """Call the inner model with the parts of these rows by name."""
        inner, layout = self.__dict__["_called"]
        parts = layout.unpack(rows)
        return inner(*parts.values()) if layout.by_place else inner(**parts)


def called_as(module: nn.Module, transform: object) -> nn.Module:
    """``module``, wrapped where ``transform`` has turned a row into a dict of tensors."""
    layout = getattr(transform, "layout", None)
    return CalledByKeyword(module, layout) if isinstance(layout, Layout) and layout.parts else module


@torch.no_grad()
def trim_padding(module: nn.Module, sample: Tensor) -> None:
    """From now on padding that all rows of a batch end with is left out, if ``module`` then says the same of the
    shortest rows of ``sample``."""
    mask = attention_of(module, sample)
    if mask is None or module.training:
        return
    layout: Layout = module.__dict__["_called"][1]
    short, said = sample[mask.sum(1).argsort(stable=True)[:2]], []
    try:
        for layout.trims in (False, True):
            said.append([part for part in parts_of(module(short)).values() if isinstance(part, Tensor)])
        layout.trims = layout.unpack(short)["attention_mask"].shape[1] < mask.shape[1] and all(
            one.shape == other.shape and torch.allclose(one, other, 1e-4, 1e-5)
            for one, other in zip(*said, strict=True)
        )
    except Exception:  # a person's code may raise anything: who looks at the network next tells what
        layout.trims = False


def trims(module: nn.Module) -> bool:
    """Whether `trim_padding` has found that padding may be left out."""
    return isinstance(module, CalledByKeyword) and module.__dict__["_called"][1].trims


def attention_of(module: nn.Module, rows: Tensor) -> Tensor | None:
    """``[b t]``, 1 where a token is text and 0 where it is padding; None where the model is not told."""
    if not isinstance(module, CalledByKeyword):
        return None
    mask = module.__dict__["_called"][1].unpack(rows).get("attention_mask")
    return mask if mask is not None and mask.ndim == 2 else None


def _shapes(parts: Mapping[str, tuple[torch.Size, torch.dtype]]) -> str:
    return ", ".join(
        f"{name} {tuple(shape)} {str(kind).removeprefix('torch.')}" for name, (shape, kind) in parts.items()
    )
