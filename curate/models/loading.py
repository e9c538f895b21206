"""Models by spec: ``file.py:factory`` or ``pkg.mod:factory``, with weights or as the factory made them.

Knows what a model is and what comes with it. Leaves a person's code to ``code``, models of a library (``timm:NAME``) to
``families``, checkpoints to ``weights`` and what goes into the model to ``transforms``.
"""

import ast
import copy
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from curate.errors import ModelError, UsageError
from curate.models.estimators import GivenEstimator
from curate.models.other_files import refuse_model, whole_module
from curate.models.weight_files import SUFFIXES
from curate.models.weights import fit_state_dict, read_state_dict
from curate.plugs import FAMILIES
from curate.settings.specs import split_code, split_model
from curate.sources.code import Role, call, import_code, importable, named

_ROLE = Role(ModelError, "model", "--model ", "file.py:factory or pkg.mod:factory")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked: in eval mode, float32, on the CPU; ``requires_grad`` as its author left it.

    ``transform`` turns one decoded row into a tensor, where the model's file or the model itself has one.
    ``source_sha256`` is over the spec, its arguments and the code in the file's folder, ``weights_sha256`` over the
    weights' file: together they say whether a stored result is of this model.
    ``source_sha256`` is None if any of it was given in memory: nobody can say then what code it is.
    ``notes`` are sentences for the report: what was taken from where.
    """

    module: nn.Module
    transform: Callable[[Any], Any] | None
    spec: str
    weights_sha256: str | None
    source_sha256: str | None
    notes: list[str]


@dataclass(frozen=True)
class GivenModel:
    """What a caller holds of the model in memory; None: the settings name it."""

    module: nn.Module | None = None
    transform: Callable[[Any], Any] | None = None
    estimator: GivenEstimator | None = None

    def load(self, spec: str, weights: str | None, trust: bool) -> LoadedModel:
        """A copy of the module in memory: the caller's own is never touched. Its weights' hash is that of its state.

        Raises ``ModelError`` if it cannot be copied or filled with the weights.
        """
        assert self.module is not None
        try:
            module = copy.deepcopy(self.module)
        except Exception as error:  # a boundary: anything may hang on a module
            raise ModelError(
                f"{spec} cannot be copied: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
                "Give what makes it, model='file.py:factory', and weights='FILE'.",
            ) from error
        notes: list[str] = []
        transform = self.transform or _transform(None, module, notes)
        if weights is not None:
            state, _, found = read_state_dict(weights, trust=trust, module=module)
            notes += found + fit_state_dict(module, state, weights)
        return _settled(LoadedModel(module, transform, spec, state_sha256(module), None, notes))


def load_model(
    spec: str,
    *,
    model_args: Mapping[str, object] | None = None,
    weights: str | None = None,
    trust_checkpoint: bool = False,
    media: str = "image",
    classes: Sequence[str] = (),
    ordered: bool = False,
) -> LoadedModel:
    """Import, build, fill with weights. ``model_args`` texts are read as Python literals where they are some.

    ``media`` and ``classes`` are the data's, for models of a library; ``ordered``: a person gave the classes' order.
    Raises ``ModelError`` for everything that is wrong with the code or the weights, ``UsageError`` for a spec that
    names nothing. A checkpoint is a pickle that may run code: only ``trust_checkpoint`` loads one unrestricted.
    """
    arguments = {name: _literal(value) for name, value in (model_args or {}).items()}
    family, name = split_model(spec)
    if family is None:
        if trust_checkpoint and Path(spec).suffix.lower() in SUFFIXES and Path(spec).is_file():
            return _settled(_whole(spec, arguments, weights))
        refuse_model(spec)
        return _settled(_own_code(spec, arguments, weights, trust_checkpoint))
    if not name:
        raise UsageError(f"--model '{spec}' names no model.", f"Give {family}:NAME.")
    from curate.models.families.common import ModelSpec

    built = FAMILIES[family].load()(
        ModelSpec(spec, name, arguments, weights, trust_checkpoint, media, classes, ordered)
    )
    source = hashlib.sha256(json.dumps([spec, arguments, built.identity], sort_keys=True, default=repr).encode())
    return _settled(
        LoadedModel(built.module, built.transform, spec, built.weights_sha256, source.hexdigest(), built.notes)
    )


def _named_otherwise(spec: str, error: ModelError | UsageError) -> ModelError | UsageError:
    """The same error; for a name that torchvision knows, or nearly, with the way to say so."""
    no_code = isinstance(error, UsageError) or isinstance(error.__cause__, ModuleNotFoundError)
    if not no_code or not spec.replace("-", "_").isidentifier():
        return error
    from torchvision.models import list_models

    near = get_close_matches(spec.lower(), list_models(), n=1, cutoff=0.8)
    if not near:
        return error
    return type(error)(error.message, f"Did you mean torchvision:{near[0]}? Your own code is FILE.py:NAME.")


def _own_code(spec: str, arguments: dict[str, object], weights: str | None, trust: bool) -> LoadedModel:
    where, name = split_code(spec)
    notes: list[str] = []
    with importable(where):
        try:
            holder = import_code(where, _ROLE)
        except (ModelError, UsageError) as error:
            raise _named_otherwise(spec, error) from error
        factory = named(holder, name, where, _ROLE, lambda value: isinstance(value, nn.Module))
        module = _build(factory, arguments, spec, where)
    transform = _transform(holder, module, notes)
    sha = None
    if weights is None:
        notes.append("no weights given: the model is used as its factory made it")
    else:
        state, sha, found = read_state_dict(weights, trust=trust, module=module)
        notes += found + fit_state_dict(module, state, weights)
    return LoadedModel(module, transform, spec, sha, _source_hash(holder, spec, arguments), notes)


def _whole(spec: str, arguments: dict[str, object], weights: str | None) -> LoadedModel:
    """A module that lies whole in a file, with the code of the current folder at hand."""
    if arguments or weights is not None:
        raise UsageError(f"{spec} holds a whole model: --model-arg and --weights have no use.", "Leave them out.")
    with importable(""):
        module = whole_module(spec)
    notes = ["the whole model was taken from the file, as --trust-checkpoint allows"]
    transform = _transform(None, module, notes)
    sha = hashlib.sha256(Path(spec).read_bytes()).hexdigest()
    return LoadedModel(module, transform, spec, sha, sha, notes)


def _settled(model: LoadedModel) -> LoadedModel:
    """In eval mode, float32, on the CPU."""
    notes = list(model.notes)
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.module.parameters()):
        notes.append("parameters turned into float32")
    return replace(model, module=model.module.to("cpu").float().eval(), notes=notes)


def _literal(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _build(factory: Any, arguments: dict[str, object], spec: str, where: str) -> nn.Module:
    if isinstance(factory, nn.Module):
        if arguments:
            raise UsageError(f"--model-arg has no use: {spec} is a model already, no factory.")
        return copy.deepcopy(factory)  # weights and eval mode must not reach the person's own object
    if not callable(factory):
        raise ModelError(f"{spec} is a {type(factory).__name__}, neither a model nor a function that makes one.")
    module = call(factory, arguments, spec, where, _ROLE, "Give what it takes with --model-arg NAME=VALUE.")
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec} returned a {type(module).__name__}, not a torch.nn.Module.")
    return module


def state_sha256(module: nn.Module) -> str:
    """Of parameters and buffers: a factory may draw or load other ones each time."""
    whole = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            given = value.detach().cpu()
            given = given.float() if given.dtype == torch.bfloat16 else given  # numpy has no such numbers
            whole.update(f"{name} {tuple(value.shape)} {value.dtype}".encode() + given.numpy().tobytes())
    return whole.hexdigest()


def _transform(holder: ModuleType | None, module: nn.Module, notes: list[str]) -> Callable[[Any], Any] | None:
    for owner, called in ((holder, "the model's file"), (module, "the model")):
        transform = getattr(owner, "transform", None)
        if transform is None or isinstance(transform, ModuleType):
            continue
        if not callable(transform):
            raise ModelError(
                f"`transform` of {called} is a {type(transform).__name__}, not a function.",
                "It takes one row (a picture or an array) and gives a tensor.",
            )
        notes.append(f"transform taken from {called}")
        return transform  # type: ignore[no-any-return]
    return None


def _source_hash(holder: ModuleType, spec: str, arguments: dict[str, object]) -> str:
    """Over the spec, its arguments and every loaded module beside the model's file, which may hold its layers."""
    whole = hashlib.sha256(json.dumps([spec, arguments], sort_keys=True, default=repr).encode())
    own = getattr(holder, "__file__", None)
    if own is None:
        return whole.hexdigest()
    folder = Path(own).resolve().parent
    files = {Path(own).resolve()}
    within = os.path.join(folder, "")
    resolved = functools.cache(os.path.realpath)  # thousands of modules stand in few folders
    for other in list(sys.modules.values()):
        file = getattr(other, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        beside, name = os.path.split(file)
        real = os.path.realpath(file) if os.path.islink(file) else os.path.join(resolved(beside), name)
        if real.startswith(within):
            files.add(Path(real))
    for path in sorted(files):
        if path.is_file() and ("site-packages" not in path.relative_to(folder).parts):
            whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
