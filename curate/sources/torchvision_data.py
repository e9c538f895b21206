"""Classification sets of torchvision (``torchvision:NAME`` or ``torchvision:NAME:ROOT``), as they lie on disk.

Knows which sets have one class a row and how each names its parts; downloads nothing. Leaves the items to
``mapped``. torchvision is imported only where a set is opened.
"""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import CurateError, DataError, UsageError
from curate.process.frames import first_line
from curate.settings.specs import did_you_mean
from curate.sources.base import DataOptions, Source
from curate.sources.labels import SCOPE
from curate.sources.mapped import MappedSource
from curate.sources.python_data import refuse_columns

Part = dict[str, Any]

_BY_TRAIN: tuple[Part, Part] = ({"train": True}, {"train": False})
_TEST: tuple[Part, Part] = ({"split": "train"}, {"split": "test"})
_VAL: tuple[Part, Part] = ({"split": "train"}, {"split": "val"})
_TRAINVAL: tuple[Part, Part] = ({"split": "trainval"}, {"split": "test"})

PARTS: dict[str, tuple[Part, Part | None]] = {
    "CIFAR10": _BY_TRAIN,
    "CIFAR100": _BY_TRAIN,
    "CLEVRClassification": _VAL,  # the labels of its test split are not public
    "Caltech101": ({}, None),
    "Caltech256": ({}, None),
    "Country211": _TEST,
    "DTD": _TEST,
    "EMNIST": ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "EuroSAT": ({}, None),
    "FER2013": _TEST,
    "FGVCAircraft": _TRAINVAL,
    "FakeData": ({}, None),
    "FashionMNIST": _BY_TRAIN,
    "Flowers102": _TEST,
    "Food101": _TEST,
    "GTSRB": _TEST,
    "INaturalist": ({"version": "2021_train"}, {"version": "2021_valid"}),
    "ImageNet": _VAL,
    "Imagenette": _VAL,
    "KMNIST": _BY_TRAIN,
    "LFWPeople": _TEST,
    "MNIST": _BY_TRAIN,
    "Omniglot": ({}, None),
    "OxfordIIITPet": _TRAINVAL,
    "PCAM": _TEST,
    "Places365": ({"split": "train-standard"}, {"split": "val"}),
    "QMNIST": _BY_TRAIN,
    "RenderedSST2": _TEST,
    "SEMEION": ({}, None),
    "STL10": _TEST,
    "SUN397": ({}, None),
    "SVHN": _TEST,
    "StanfordCars": _TEST,
    "USPS": _BY_TRAIN,
}
"""How each set is asked for its training and its evaluation rows."""


class TorchvisionSource(MappedSource):
    """A data set of torchvision, as it lies on disk."""

    kind: ClassVar[str] = "torchvision"


def open_torchvision(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """Training and evaluation rows, pictures without a transform; for ``--eval`` the latter where there are some."""
    name, _, root = location.partition(":")
    spec = f"torchvision:{location}"
    refuse_columns(spec, options)
    for value, option in ((options.input, "--input"), (options.label, "--label"), (options.id, "--id")):
        if value is not None:
            raise UsageError(f"{option} has no meaning for {spec}.", f"Leave out {option}.")
    maker = _maker(name)
    root = root or "data"
    first, second = PARTS[name]
    notes = ["the split 'balanced' of EMNIST was taken"] if name == "EMNIST" else []
    train: Any = None
    held_out: Any = None
    if options.evaluation and second is not None:
        train = _open(maker, name, root, second)
    else:
        train = _open(maker, name, root, first)
        if second is not None:
            try:
                held_out = _open(maker, name, root, second)
            except DataError as error:
                notes.append(f"no evaluation rows of {name} were found in {root}: {error.hint}")
    _name_classes(train)
    called = options.name or name
    source = TorchvisionSource(train, location=spec, name=called, where="", options=options, notes=notes)
    if held_out is None:
        return source, None
    _name_classes(held_out)
    asked = replace(options, classes=tuple(source.classes), name=called, evaluation=True)
    return source, TorchvisionSource(held_out, location=spec, name=called, where="", options=asked, train=train)


def _maker(name: str) -> Any:
    if name in ("ImageFolder", "DatasetFolder"):
        raise UsageError(f"torchvision:{name} is any folder of class folders.", "Give the folder: images:FOLDER.")
    from torchvision import datasets

    there = [known for known in PARTS if hasattr(datasets, known)]
    if name in there:
        return getattr(datasets, name)
    if isinstance(getattr(datasets, name, None), type):
        raise DataError(f"torchvision:{name} is none of torchvision's sets for single-label classification.", SCOPE)
    near = did_you_mean(name, there) or next(
        (f"Did you mean {known}?" for known in there if known.lower() == name.lower().replace("-", "")), ""
    )
    raise DataError(f"There is no torchvision:{name}.", near or f"The sets are {', '.join(there)}.")


def _open(maker: Any, name: str, root: str, part: Part) -> Any:
    takes = _takes(maker)
    given = dict(part)
    if "root" in takes:
        given = {"root": root, **given}
    if "download" in takes:
        given["download"] = False  # some sets would download unless told not to
    try:
        return maker(**given)
    except CurateError:
        raise
    except Exception as error:  # each set says in its own way what is missing
        said = first_line(error).removesuffix(".")
        if isinstance(error, ImportError) or "install" in said:  # scipy, h5py ...
            raise DataError(f"torchvision:{name} cannot be read: {said}.", "Install what it names.") from error
        if "download" in takes:
            line = "".join(f", {key}={value!r}" for key, value in part.items())
            line = f"import torchvision; torchvision.datasets.{name}({root!r}{line}, download=True)"
            hint = f'curate downloads nothing; this does: python -c "{line}"'
        else:
            hint = f"torchvision cannot download {name}: its page says which files to put there."
        raise DataError(
            f"torchvision:{name} was not found in the folder {Path(root).as_posix()}: {said}.", hint
        ) from error


def _takes(maker: Any) -> set[str]:
    """Names of the arguments; EMNIST, QMNIST and ImageNet hand some on to the class that they are made of."""
    found: set[str] = set()
    for cls in maker.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters
        found |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


def _name_classes(dataset: Any) -> None:
    """Caltech's sets call their classes categories, iNaturalist's all_categories."""
    for other in ("categories", "all_categories"):
        if not hasattr(dataset, "classes") and isinstance(getattr(dataset, other, None), list):
            dataset.classes = list(getattr(dataset, other))
