"""Checkpoints: from a file to a state dict, and from there into a module.

Knows file formats, where trainers put the state dict, and the prefixes that wrappers leave. Never runs a pickle's
code unless told to. Whether the weights suit the data is left to the report's accuracies.
"""

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from curate.errors import ModelError
from curate.models.other_files import is_scripted, refuse_weights
from curate.models.training import AsTrained, as_trained
from curate.models.weight_files import WeightsAt, weights_at
from curate.sources.images import LFS_REASON, is_lfs_pointer

# Plain weights before averaged ones: a trainer that reports the averaged ones saves them alone.
STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
EMA_KEYS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
KNOWN_PREFIXES = ("module.", "model.", "net.")
OPTIONS = "argparse.Namespace"
"""A trainer's options as names and values: the one class beside tensors that is read, for it runs nothing."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, its sha256, what was found where, and what it tells of its training."""

    state: State
    sha256: str
    notes: list[str]
    trained: AsTrained


def read_state_dict(
    location: str, *, trust: bool = False, module: nn.Module | None = None
) -> tuple[State, str, list[str]]:
    """(state dict, sha256 of the file, what was found where); of several the one that fits ``module``.

    Raises ``ModelError``.
    """
    found = read_checkpoint(location, trust=trust, module=module)
    return found.state, found.sha256, found.notes


def read_checkpoint(location: str, *, trust: bool = False, module: nn.Module | None = None) -> Checkpoint:
    """All that curate takes from a file of weights, or from shards of one. Raises ``ModelError``."""
    found = weights_at(location)
    parts = [_read_file(path, trust, found, module) for path in found.files]
    if len(parts) == 1:
        return parts[0]
    state = {name: tensor for part in parts for name, tensor in part.state.items()}
    notes = [f"weights joined from {len(parts)} shards", *dict.fromkeys(note for part in parts for note in part.notes)]
    return Checkpoint(
        state, hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest(), notes, parts[0].trained
    )


def read_pickle(location: str) -> Any:
    """What torch saved in a file, tensors and plain values alone. Raises `ModelError`."""
    return _torch_load(location, False, [])


def _read_file(path: Path, trust: bool, asked: WeightsAt, module: nn.Module | None) -> Checkpoint:
    location = path.as_posix()
    refuse_weights(path)
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(0)
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    if is_lfs_pointer(head):
        raise ModelError(f"{location} is {LFS_REASON}.")
    if not head:
        raise ModelError(f"{location} is empty.")
    notes: list[str] = []
    if path.suffix.lower() == ".safetensors":
        loaded: Any = _safetensors(location)
    else:
        loaded = _torch_load(location, trust, notes)
    wanted = set() if module is None or len(asked.files) > 1 else set(module.state_dict())
    state = _chosen_state(loaded, location, notes, asked.key, wanted)
    for name, tensor in state.items():
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            raise ModelError(f"{location}: '{name}' holds NaN.", "Take an earlier checkpoint.")
    return Checkpoint(state, sha, notes, as_trained(loaded))


def _safetensors(location: str) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(location)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{location} is no safetensors file, or was cut short ({error}).", "Copy or save it again."
        ) from error


class _Unread:
    """Stands for an object of a class that curate does not load: it takes anything, keeps nothing, does nothing."""

    def __new__(cls, *_args: Any, **_named: Any) -> "_Unread":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


def _torch_load(location: str, trust: bool, notes: list[str]) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return _load(location, weights_only=not trust)
    except pickle.UnpicklingError as error:
        names = _refused_globals(location, str(error))
        if not names:
            raise _broken(location, error) from error
        beside = _without_objects(location, names)
        shown = _first(names)
        if beside is None:
            raise ModelError(
                f"{location} is a pickle that asks for more than tensors ({shown}) and was refused.",
                "Save its state_dict, as safetensors at best; or pass --trust-checkpoint where you trust its author: "
                "it may run any code.",
            ) from error
        notes.append(f"the checkpoint's other objects were left unread ({shown})")
        return beside
    except ImportError as error:  # a trusted pickle whose classes are elsewhere
        raise ModelError(
            f"{location} needs Python code that is not here: {error}.", "Save its state_dict instead."
        ) from error
    except Exception as error:  # torch.load raises nearly anything on broken files
        raise _broken(location, error) from error


def _load(location: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(location, map_location="cpu", **options)


def _without_objects(location: str, names: list[str]) -> Any | None:
    """The checkpoint with its foreign objects (paths, settings) left out; None where the weights are such an object.

    Every class that torch refuses is read as ``_Unread``: none of the file's code is found, let alone run.
    """
    known = list(names)
    while True:
        try:
            with torch.serialization.safe_globals([argparse.Namespace, *((_Unread, name) for name in known)]):
                loaded = _load(location, weights_only=True)
                break
        except Exception as error:  # an old format names one class at a time
            more = [name for name in _refused_globals(location, str(error)) if name not in known]
            if not more:
                return None
            known += more
    try:
        state = _state_dict(loaded, location, [])
    except ModelError:
        return None
    return loaded if _whole(loaded) and state else None


def _whole(loaded: Any) -> bool:
    """Whether nothing that stands where weights are looked for was left unread."""
    if not isinstance(loaded, Mapping):
        return False
    for key in (*STATE_KEYS, *EMA_KEYS):
        if isinstance(loaded.get(key), _Unread):
            return False
        if isinstance(loaded.get(key), Mapping):
            return _whole(loaded[key])
    # At the bottom only the weights themselves stand, or they stand beside a trainer's own things.
    return not any(isinstance(value, _Unread) for value in loaded.values())


def _broken(location: str, error: Exception) -> ModelError:
    first = (str(error) or type(error).__name__).splitlines()[0][:160]
    told = ModelError(f"{location} is no checkpoint, or was cut short ({first}).", "Copy or save it again.")
    return is_scripted(Path(location), str(error)) or told


def _refused_globals(location: str, message: str) -> list[str]:
    try:
        names = list(torch.serialization.get_unsafe_globals_in_checkpoint(location))
    except Exception:  # files of old formats: the message names the first one
        names = []
    if not names and "GLOBAL " in message:
        names = [message.split("GLOBAL ", 1)[1].split()[0]]
    return sorted(name for name in names if name != OPTIONS)


def _chosen_state(loaded: Any, location: str, notes: list[str], key: str | None, wanted: set[str]) -> State:
    """The state dict under ``key``; else the one of the usual keys, unless another fits the ``wanted`` names better."""
    if key is not None:
        loaded = _part(loaded, key, location)
        notes.append(f"weights taken from the key '{key}'")
        return _state_dict(loaded, location, notes)
    found = _states(loaded)
    said: list[str] = []
    try:
        usual = _state_dict(loaded, location, said)
    except ModelError:
        if not found:
            raise
        usual = {}
    cover = {name: _cover(wanted, state, location) for name, state in found.items()}
    most = max(cover.values(), default=0.0)
    if usual and _cover(wanted, usual, location) >= most:
        notes += said
        return usual
    best = [name for name, share in cover.items() if share == most]
    if len(best) > 1:
        fit = "that fit the model alike" if wanted else "none under a usual name"
        shown = ", ".join(f"{name} ({len(found[name])} tensors)" for name in best[:6])
        raise ModelError(
            f"{location} holds {len(best)} state dicts, {fit}: {shown}.", f"Say which: --weights {location}#{best[0]}."
        )
    notes.append(f"weights taken from the key '{best[0]}', whose names fit")
    return found[best[0]]


def _cover(wanted: set[str], state: State, location: str) -> float:
    """Share of the wanted names that a state dict has, prefixes taken off."""
    if not wanted:
        return 0.0
    try:
        return len(wanted & set(without_prefixes(wanted, state, location)[0])) / len(wanted)
    except ModelError:  # fits twice within itself
        return 0.0


def _states(loaded: Any, depth: int = 4) -> dict[str, State]:
    """Every mapping with tensors in it, by the path of its keys."""
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        return {}
    found: dict[str, State] = {}
    for name, value in loaded.items():
        if not isinstance(value, Mapping | nn.Module) or (isinstance(value, Mapping) and not value):
            continue
        held = value.state_dict() if isinstance(value, nn.Module) else value
        tensors = {str(key): tensor for key, tensor in held.items() if isinstance(tensor, torch.Tensor)}
        if tensors:
            found[str(name)] = tensors
        if depth > 1:
            found |= {f"{name}.{inner}": state for inner, state in _states(held, depth - 1).items()}
    return found


def _part(loaded: Any, key: str, location: str) -> Any:
    """What stands under a key, or a path of keys with points between."""
    held = loaded
    rest = key
    while rest:
        names = {} if not isinstance(held, Mapping) else {str(name): name for name in held}
        name = next((name for name in sorted(names, key=len, reverse=True) if f"{rest}.".startswith(f"{name}.")), None)
        if name is None:
            there = ", ".join([*_states(loaded), *(map(str, loaded) if isinstance(loaded, Mapping) else [])][:8])
            raise ModelError(f"{location} has no key '{key}'.", f"There is: {there or 'no key'}.")
        held, rest = held[names[name]], rest[len(name) + 1 :]
    return held


def _state_dict(loaded: Any, location: str, notes: list[str]) -> State:
    for _ in range(4):
        if isinstance(loaded, nn.Module):
            notes.append(f"weights taken from the {type(loaded).__name__} in the checkpoint")
            loaded = loaded.state_dict()
        if not isinstance(loaded, Mapping):
            raise ModelError(
                f"{location} holds a {type(loaded).__name__}, no state dict.", "Save model.state_dict() instead."
            )
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        keys = [key for key in (*STATE_KEYS, *EMA_KEYS) if isinstance(loaded.get(key), Mapping | nn.Module)]
        if not keys:
            break
        notes.append(f"weights taken from the key '{keys[0]}'")
        averaged = [key for key in keys[1:] if key in EMA_KEYS]
        if averaged and keys[0] not in EMA_KEYS:
            notes.append(f"the checkpoint's averaged weights were not used (--weights {location}#{averaged[0]})")
        loaded = loaded[keys[0]]
    if not tensors:
        there = ", ".join(map(str, list(loaded)[:8])) or "nothing"
        raise ModelError(
            f"{location} holds no state dict; its keys are {there}.",
            f"Looked under {', '.join((*STATE_KEYS, *EMA_KEYS))}.",
        )
    return tensors


def fit_state_dict(module: nn.Module, state: State, location: str, hint: str = "") -> list[str]:
    """Load ``state`` into ``module``, wrappers' prefixes taken off where that makes the names fit.

    Every name must fit: raises ``ModelError`` with the names that do not. Returns what was done.
    """
    wanted = module.state_dict()
    state, notes = without_prefixes(set(wanted), state, location)
    # safetensors keeps one name of tied weights: the others are filled with it
    filled = {tensor.data_ptr() for name, tensor in wanted.items() if name in state and tensor.numel()}
    missing = [
        name
        for name, tensor in wanted.items()
        if name not in state and not name.endswith("num_batches_tracked") and tensor.data_ptr() not in filled
    ]
    unexpected = [name for name in state if name not in wanted]
    other = [
        f"{name} ({_shape(state[name])} in the file, {_shape(wanted[name])} in the model)"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or other:
        parts = (("missing", missing), ("not in the model", unexpected), ("of another shape", other))
        said = "; ".join(f"{len(names)} {what}: {_first(names)}" for what, names in parts if names)
        raise ModelError(
            f"{location} does not fit the model. {said}.",
            hint or "Give the factory the arguments it was trained with (--model-arg NAME=VALUE), or other weights.",
        )
    try:
        module.load_state_dict(state, strict=False)  # names and shapes are checked above
    except RuntimeError as error:
        raise ModelError(f"{location} does not fit the model: {str(error).splitlines()[-1].strip()}") from error
    return notes


def outputs_in(module: nn.Module, outputs: int, state: State, location: str) -> int | None:
    """How many outputs the checkpoint has where ``module`` has ``outputs``; None where its shapes do not tell."""
    wanted = module.state_dict()
    state, _ = without_prefixes(set(wanted), state, location)
    pairs = [
        (state[name].shape, tensor.shape)
        for name, tensor in wanted.items()
        if name in state and tensor.ndim and state[name].ndim
    ]
    heads = [theirs[0] for theirs, ours in pairs if ours[0] == outputs and theirs[1:] == ours[1:] and theirs != ours]
    if heads:
        return heads[0] if len(set(heads)) == 1 else None
    return outputs


def without_prefixes(wanted: set[str], state: State, location: str) -> tuple[State, list[str]]:
    """The state dict without what wrappers put before its names, if that makes the wanted ones fit, and notes."""
    notes: list[str] = []
    if wanted <= set(state) or not state:
        return _without_count(wanted, state), notes
    if any("_orig_mod." in name for name in state) and not any("_orig_mod." in name for name in wanted):
        state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
        notes.append("prefix '_orig_mod.' removed (torch.compile)")
    for _ in range(3):
        have = len(wanted & set(state))
        fits = {prefix: len(wanted & set(_strip(state, prefix))) for prefix in _prefixes(wanted, state)}
        best = max(fits.values(), default=0)
        if best <= have:
            break
        tied = sorted((p for p, count in fits.items() if count == best), key=lambda p: (p not in KNOWN_PREFIXES, p))
        if len(tied) > 1 and tied[0] not in KNOWN_PREFIXES:
            raise ModelError(
                f"{location}: the model's names fit under {_first([repr(p) for p in tied])} alike.",
                "Save the one that is meant in a file of its own.",
            )
        prefix = tied[0]
        # A trainer's own tensors (a criterion's, a counter) stand beside the model, not under its attribute.
        left = [name for name in state if not name.startswith(prefix)]
        state = _strip(state, prefix)
        beside = f" ({len(left)} beside it left out: {_first(left)})" if left else ""
        notes.append(f"prefix '{prefix}' removed{beside}")
    return _without_count(wanted, state), notes


def _prefixes(wanted: set[str], state: State) -> set[str]:
    """Every ``p`` for which some name of the file is ``p`` + a name of the model."""
    found = {
        name[: cut + 1] for name in state for cut, sign in enumerate(name) if sign == "." and name[cut + 1 :] in wanted
    }
    return found | {prefix for prefix in KNOWN_PREFIXES if any(name.startswith(prefix) for name in state)}


def _strip(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _without_count(wanted: set[str], state: State) -> State:
    # torch.optim.swa_utils.AveragedModel counts beside its module
    return {name: tensor for name, tensor in state.items() if name != "n_averaged" or name in wanted}


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
