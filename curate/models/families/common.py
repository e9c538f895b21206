"""What the families share: what was asked for, what is handed back, and how a checkpoint fills an architecture.

Knows no library: the one file a family imports its own, and only when it is asked for.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from curate.errors import CurateError, ModelError
from curate.models.training import LEAST
from curate.models.weights import Checkpoint, State, fit_state_dict, outputs_in, read_checkpoint, without_prefixes
from curate.process.installing import needs

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ModelSpec:
    """What a person said: ``name`` within the family, the model's arguments, and the data that it is for.

    ``classes`` are the data's, in the order of the outputs; ``ordered`` says that a person gave that order.
    """

    spec: str
    name: str
    arguments: Mapping[str, object]
    weights: str | None
    trust: bool
    media: str
    classes: Sequence[str]
    ordered: bool


@dataclass(frozen=True)
class Built:
    """The model with its preprocessing; ``identity`` is what it depends on beside the spec and its arguments."""

    module: nn.Module
    transform: Callable[[Any], Any]
    weights_sha256: str
    identity: str
    notes: list[str]


def library(name: str, extra: str) -> ModuleType:
    """An optional library. Raises ``ModelError`` with the line that installs it."""
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ModelError(f"{name} cannot be imported: {error}.", needs(extra)) from error
        raise ModelError(f"{name} is not installed.", needs(extra)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries' own warnings are about versions of theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def building(spec: str) -> Iterator[None]:
    """Whatever a library raises becomes one line."""
    try:
        with quiet():
            yield
    except CurateError:
        raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"{spec} cannot be built: {type(error).__name__}: {first}", "Does it take what --model-arg gives?"
        ) from error


def only_pictures(asked: ModelSpec) -> None:
    """Raise ``ModelError`` if the data holds no pictures."""
    if asked.media != "image":
        raise ModelError(
            f"{asked.spec} reads pictures; the data holds {holds(asked.media)}.", "Name a model for such data."
        )


def image_size(asked: ModelSpec, arguments: dict[str, object], *, kept: bool = False) -> int | None:
    """``--model-arg size=N``, or ``image_size=N`` as some libraries say, taken out of the model's arguments.

    A model that is built for one size (``kept``) has it as its argument ``image_size`` in any case.
    """
    given = [name for name in ("size", "image_size") if arguments.get(name) is not None]
    if not given:
        return None
    size = arguments[given[0]]
    if not isinstance(size, int) or isinstance(size, bool) or size < LEAST:
        raise ModelError(
            f"{asked.spec}: {given[0]} is {size} (--model-arg).", "Give the pixels of a side, such as size=64."
        )
    for name in given:
        del arguments[name]
    if kept:
        arguments["image_size"] = size
    return size


def holds(media: str) -> str:
    """What rows are, in a sentence."""
    names = {"image": "pictures", "text": "texts", "features": "rows of numbers", "record": "rows of columns"}
    return names.get(media, "arrays")


def checkpoint_of(asked: ModelSpec) -> Checkpoint | None:
    """The file that ``--weights`` names; None without one."""
    return None if asked.weights is None else read_checkpoint(asked.weights, trust=asked.trust)


def fill(
    asked: ModelSpec, given: Checkpoint, build: Callable[[int | None], nn.Module], outputs: int, said: bool
) -> tuple[Any, str, list[str]]:
    """(the architecture with the ``given`` weights in it, their sha256, notes). ``build(None)`` has ``outputs``.

    The checkpoint's head gives the number of outputs, unless a person ``said`` it.
    """
    assert asked.weights is not None
    state, notes = given.state, list(given.notes)
    module = build(None)
    state, said_of_names = without_prefixes(set(module.state_dict()), dict(state), asked.weights)
    notes += said_of_names
    drop_positions(state, module)
    notes += _as_built(state, set(module.state_dict()))
    if not said:
        found = outputs_in(module, outputs, state, asked.weights)
        if found is not None and found != outputs:
            module = build(found)
            notes.append(f"{found} outputs, as the head of the checkpoint has")
    hint = (
        "Give the arguments it was trained with (--model-arg NAME=VALUE); "
        "where its head was rebuilt, write the model down: --model file.py:factory."
    )
    return module, given.sha256, [*notes, *fit_state_dict(module, state, asked.weights, hint)]


def _as_built(state: State, wanted: set[str]) -> list[str]:
    """Puts the names of a head that was rebuilt behind a dropout (fc.1 for fc), or without it, in place.

    A dropout changes nothing that is asked of the network; a head of several layers is not read so.
    """
    stems = [{name.rpartition(".")[0] for name in names} for names in (set(state) - wanted, wanted - set(state))]
    if any(len(names) != 1 for names in stems):
        return []
    theirs, ours = (next(iter(names)) for names in stems)
    inside = theirs.startswith(f"{ours}.") or ours.startswith(f"{theirs}.")
    if not inside or any(name.rpartition(".")[0] == ours for name in state):
        return []
    for name in [name for name in state if name.startswith(f"{theirs}.")]:
        state[f"{ours}{name[len(theirs) :]}"] = state.pop(name)
    return [f"the head '{theirs}' of the checkpoint is read as '{ours}'"]


def drop_positions(state: State, module: nn.Module) -> None:
    """Checkpoints of older transformers also hold the numbers 0, 1, 2 ... of the positions."""
    wanted = module.state_dict()
    for name in [name for name in state if name.endswith("embeddings.position_ids") and name not in wanted]:
        del state[name]


def picture(sample: Any, mode: str = "RGB") -> Image.Image:
    """A decoded row (PIL image or uint8 array) as PIL image in ``mode``."""
    if not isinstance(sample, Image.Image):
        pixels = np.asarray(sample)
        sample = Image.fromarray(
            np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        )
    converted: Image.Image = sample.convert(mode)
    return converted


def normalised(mean: Sequence[float], std: Sequence[float]) -> str:
    """``"ImageNet mean and std"`` or the numbers."""
    if (tuple(mean), tuple(std)) == IMAGENET:
        return "ImageNet mean and std"
    return f"mean {_numbers(mean)} and std {_numbers(std)}"


def _numbers(values: Sequence[float]) -> str:
    same = len(set(values)) == 1
    return " ".join(f"{value:.4g}" for value in (values[:1] if same else values))


def side(size: Sequence[int] | int) -> str:
    """``"224"`` for one number or a square, ``"224x288"`` (height x width) else."""
    sides = [size] if isinstance(size, int) else list(size)
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def no_download(asked: ModelSpec, missing: str, where: str, fetch: str) -> ModelError:
    """The error for pretrained weights that are not on this machine."""
    return ModelError(
        f"{asked.spec}: its pretrained weights ({missing}) are not in {where}, and curate does not download.",
        f'Fetch them with `python -c "{fetch}"`, or pass --weights FILE.',
    )
