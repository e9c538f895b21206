"""A device that is not there: tensors that say they are on it, cannot be mixed with those of the CPU, and compute.

What a GPU would refuse is refused here: an operation on tensors of two devices (numbers and indices apart), numpy.
What a GPU computes, and how fast, this cannot tell.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
"""Its name: torch knows this one, and asks nothing of it."""
INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
"""What a GPU takes indices of the CPU for."""
COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


class There(Tensor):
    """A tensor on it; ``here`` are its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype, device=ELSEWHERE
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        """As a GPU's tensor gives it."""
        return self.here.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused, as a GPU's tensor refuses it."""
        raise TypeError("can't convert a tensor elsewhere to numpy: use .cpu() first")

    def __repr__(self, **_: Any) -> str:
        return f"There({self.here!r})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Iterable[type], given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        return computed(function, given, dict(named or {}))


def computed(function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What an operation gives, on the device of what it was given, or the one it names."""
    name, first = function.overloadpacket, given[0] if given else None
    flat = tree_flatten((given, named))[0]
    refuse_two_devices(name, given, flat)
    on = isinstance(first, There) if name == torch.ops.aten.copy_ else any(isinstance(value, There) for value in flat)
    if named.get("device") is not None:
        on = torch.device(named["device"]).type == ELSEWHERE.type
        named = {**named, "device": torch.device("cpu")}
    given_here, named_here = tree_map(lambda value: value.here if isinstance(value, There) else value, (given, named))
    found = function(*given_here, **named_here)
    if isinstance(found, Tensor) and "(a!)" in str(function._schema):  # in place
        return named.get("out", first)
    if name in (torch.ops.aten._local_scalar_dense, torch.ops.aten.equal):
        return found
    return tree_map(lambda value: There(value) if on and isinstance(value, Tensor) else value, found)


def refuse_two_devices(name: Any, given: tuple[Any, ...], flat: list[Any]) -> None:
    """Fail if an operation is given tensors of both, as a GPU refuses it; numbers go with any tensor."""
    if not any(isinstance(value, There) for value in flat) or name in COPIES:
        return
    if name in INDEXED:
        assert isinstance(given[0], There), f"{name}: indices of another device"
        flat = list(given[2:]) if name != torch.ops.aten.index else []
    mixed = [value for value in flat if isinstance(value, Tensor) and not isinstance(value, There) and value.dim()]
    assert not mixed, f"{name}: tensors of two devices"


class Mode(TorchDispatchMode):
    """Under it tensors can be made on the device."""

    def __torch_dispatch__(
        self, function: Any, types: Iterable[type], given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        return computed(function, given, dict(named or {}))
