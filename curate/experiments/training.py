"""A user's own training, ``function(dataset, seed)``: what it is given, and what it may return.

Knows changed training sets, how the function is found and how its answer is asked; leaves what is compared to others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from curate.engine.passes import pieces
from curate.errors import ModelError, NumericalError
from curate.models.outputs import matrix_of, read_outputs
from curate.settings.specs import split_code
from curate.sources.code import Role, call, import_code, importable, named
from curate.stages.forward import Forward

if TYPE_CHECKING:
    import numpy.typing as npt

TrainingFunction = Callable[..., Any]
WAY = "It is called with dataset (pairs of input and label) and seed, and returns the trained model."
_ROLE = Role(ModelError, "training function", "--retrain ", "file.py:function or pkg.mod:function")
ASKED_AT_ONCE = 256
"""Rows that a network is asked about at once."""
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class TrainingSet:
    """The training rows that are kept, and the label of each row."""

    kept: Bool[Tensor, " n"]
    labels: Int[Tensor, " n"]

    @classmethod
    def of(cls, rows: Forward) -> "TrainingSet":
        """As it is."""
        return cls(torch.ones(len(rows), dtype=torch.bool), rows.labels)

    def without(self, rows: Int[Tensor, " m"]) -> "TrainingSet":
        """The same without these rows."""
        kept = self.kept.clone()
        kept[rows] = False
        return TrainingSet(kept, self.labels)

    def relabelled(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> "TrainingSet":
        """The same with other labels on these rows."""
        changed = self.labels.clone()
        changed[rows] = labels
        return TrainingSet(self.kept, changed)


class RowDataset(Dataset[tuple[Tensor, int]]):
    """(input as the model reads it, label) of the kept rows: what a training function is given.

    A label is the class's number; ``classes`` are their names, ``keys`` those of the rows.
    """

    def __init__(self, rows: Forward, training: TrainingSet) -> None:
        self._inputs, self._places = rows.inputs, training.kept.nonzero()[:, 0]
        self._labels = training.labels
        self.classes = list(rows.source.classes)
        keys = rows.keys
        self.keys = [keys[place] for place in self._places.tolist()]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place = self._places[index]
        return self._inputs.batch(place[None])[0], int(self._labels[place])

    def arrays(self) -> "tuple[npt.NDArray[Any], npt.NDArray[Any]]":
        """Inputs ``[n ...]`` and labels ``[n]`` of all rows, for what is not trained by batches."""
        return self._inputs.batch(self._places).cpu().numpy(), self._labels[self._places].numpy()


@dataclass(frozen=True)
class Training:
    """The function, and what it is called; ``where`` its code lies, None for one that the caller holds."""

    function: TrainingFunction
    name: str
    where: str | None = None

    @classmethod
    def of(cls, asked: str | TrainingFunction) -> "Training":
        """A function, or ``FILE.py:NAME``. Raises ``ModelError``, ``UsageError``."""
        if not isinstance(asked, str):
            if not callable(asked):
                raise ModelError(f"The training function is a {type(asked).__name__}.", WAY)
            return cls(asked, getattr(asked, "__qualname__", type(asked).__name__))
        where, name = split_code(asked)
        with importable(where):
            found = named(import_code(where, _ROLE), name, where, _ROLE, lambda value: False)
        return cls(found, asked, where)

    def __call__(self, rows: Forward, training: TrainingSet, seed: int) -> Any:
        """What it returns of a changed training set."""
        arguments: dict[str, object] = {"dataset": RowDataset(rows, training), "seed": seed}
        if self.where is None:
            with torch.enable_grad():
                return self.function(**arguments)  # whoever called is shown where it fails
        with importable(self.where), torch.enable_grad():
            return call(self.function, arguments, self.name, self.where, _ROLE, WAY)

    def refuse(self, returned: object, wanted: str = "torch.nn.Module") -> ModelError:
        """What is said of something that is not what was ``wanted``."""
        return ModelError(f"--retrain {self.name} returned {type(returned).__name__}, no {wanted}.", WAY)


@torch.no_grad()
def logits_on(
    logits_of: Callable[[object], Tensor], module: nn.Module, rows: Forward, places: Int[Tensor, " m"]
) -> Float[Tensor, "m C"]:
    """Logits of these rows. Raises `NumericalError` where they are not finite."""
    parts = pieces(places, ASKED_AT_ONCE)
    logits = torch.cat([logits_of(module(rows.inputs.batch(part))).float().cpu() for part in parts])
    if not bool(torch.isfinite(logits).all()):
        raise NumericalError("The refit diverged: its outputs are not finite", "Try a smaller --rate.")
    return logits


def log_probabilities(
    training: Training, trained: Any, rows: Forward, places: Int[Tensor, " m"]
) -> Float[Tensor, "m C"]:
    """What a trained model says of these rows: a torch module, or an estimator with ``predict_proba``.

    Raises `ModelError` for anything else, and for outputs that are not one a class.
    """
    classes = len(rows.source.classes)
    if isinstance(trained, nn.Module):
        sample = rows.inputs.batch(places[:ASKED_AT_ONCE])
        with torch.no_grad():
            outputs = matrix_of(trained.eval()(sample), len(sample))
        said = logits_on(read_outputs(outputs.cpu(), classes, None).logits_of, trained, rows, places)
    elif callable(getattr(trained, "predict_proba", None)):
        said = _of_estimator(trained, rows.inputs.batch(places).cpu().numpy(), classes)
    else:
        raise training.refuse(trained, "torch.nn.Module and no estimator with predict_proba")
    if said.shape[1] != classes:
        raise ModelError(f"{training.name} trained {said.shape[1]} outputs, and there are {classes} classes.", WAY)
    return said.double().log_softmax(1)


def _of_estimator(trained: Any, x: "npt.NDArray[Any]", classes: int) -> Float[Tensor, "m C"]:
    """Logarithms of its probabilities; of classes that it has not seen next to nothing."""
    given = torch.as_tensor(trained.predict_proba(x), dtype=torch.float64)
    whole = torch.zeros(len(given), classes, dtype=torch.float64)
    whole[:, torch.as_tensor([int(number) for number in getattr(trained, "classes_", range(classes))])] = given
    return whole.clamp_min(LEAST_PROBABILITY).log()
