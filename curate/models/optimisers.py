"""The L2 penalty that an optimiser's state tells, in a checkpoint or beside it.

Knows the forms in which torch's optimisers, Lightning and the Trainer keep their settings; leaves what a penalty is
worth to whoever asks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.errors import ModelError
from curate.models.weight_files import weights_at
from curate.models.weights import read_pickle

KEYS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optimizers", "optim", "opt")
BESIDE = ("optimizer.pt", "optimizer.bin", "optimizer.pth")


def kept_penalty(location: str) -> float | None:
    """λ of the penalty ½ λ |θ|² that the weights there were trained with.

    None where no state is kept, where its groups of parameters differ by more than having none, or where its weight
    decay is no penalty: AdamW takes it off the weights beside the gradient.
    """
    found = weights_at(location).files[0]
    files = [found] if found.suffix.lower() != ".safetensors" else []
    files += [found.parent / name for name in BESIDE if (found.parent / name).is_file()]
    for file in files:
        try:
            loaded = read_pickle(file.as_posix())
        except ModelError:  # what stands beside the weights may be anything
            continue
        decays = {decay for decay in map(_penalty, _groups(loaded)) if decay != 0}
        if decays:
            (decay, *others) = decays
            return None if others else decay
    return None


def _groups(loaded: Any) -> Iterator[Mapping[str, Any]]:
    """The groups of parameters of every optimiser's state in it."""
    if not isinstance(loaded, Mapping):
        return
    kept = [loaded, *(loaded.get(key) for key in KEYS)]
    for one in kept:
        for state in one if isinstance(one, (list, tuple)) else [one]:
            groups = state.get("param_groups") if isinstance(state, Mapping) else None
            yield from (group for group in groups or [] if isinstance(group, Mapping))


def _penalty(group: Mapping[str, Any]) -> float | None:
    """Of one group; None where it is none. Only SGD, RMSprop and Adam by its word add the decay to the gradient."""
    decay = group.get("weight_decay")
    if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
        return None
    plain = "dampening" in group or "centered" in group or group.get("decoupled_weight_decay") is False
    return float(decay) if plain or decay == 0 else None
