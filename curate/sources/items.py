"""One item of a map-style data set: which part is the input, the label and the key, and what kind of input it is.

Knows the forms that items come in (pairs, triples, dicts; PIL, numpy, torch, text) and says what it cannot use.
Leaves going over the items to ``mapped`` and what labels mean to ``labels``. Nothing here imports torch: where it
was not imported there are no tensors.
"""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import DataError, UsageError
from curate.settings.specs import did_you_mean
from curate.sources.arrays import channels_first, is_picture, row_hash
from curate.sources.base import DataOptions
from curate.sources.labels import SCOPE
from curate.sources.pixels import as_read, upright_rgb

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

INPUT_NAMES = ("x", "image", "img", "pixel_values", "input", "inputs", "text", "sentence", "features", "data")
LABEL_NAMES = ("y", "label", "labels", "target", "targets", "class")
TOKENS = "input_ids"
TOKENIZED = (TOKENS, "token_type_ids", "attention_mask")
"""What tokenizers give, in the order of the arguments of the models of transformers by name."""
ID_NAMES = ("id", "key")


class OddItem(Exception):
    """An item that no row can be made of; the text goes on after "row 3"."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Value:
    """An input as ``base.Source`` promises it; ``size`` in bytes, ``shape`` of numbers, ``finite`` without NaN."""

    media: str
    value: Any
    sha256: str
    size: int
    shape: tuple[int, ...] = ()
    finite: bool = True
    ready: bool = False
    """A tensor of floats in two or more dimensions: its data set has made it what the model takes."""


def is_tensor(thing: object) -> bool:
    """Is this a tensor of torch? Torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def take_apart(item: Any, options: DataOptions) -> tuple[Any, Any, Any]:
    """(input, label, key or None) of an item. Raises ``OddItem``, ``DataError`` or ``UsageError``."""
    if isinstance(item, Mapping):
        several = _several_inputs(item, options)
        x = several[0] if several else _chosen(item, options.input, INPUT_NAMES, "--input")
        y = _chosen(item, options.label, LABEL_NAMES, "--label")
        key = next((name for name in ID_NAMES if name in item), None)
        if options.id is not None:
            key = _chosen(item, options.id, (), "--id")
        given = {name: item[name] for name in several} if several else item[x]
        return given, item[y], None if key is None else item[key]
    for value, option in ((options.input, "--input"), (options.label, "--label"), (options.id, "--id")):
        if value is not None:
            raise UsageError(
                f"{option} names a part of a dict, but the items are {type(item).__name__}s.",
                f"Leave out {option}, or let the data set give dicts.",
            )
    form = "Each item is (input, label), (input, label, key) or a dict with such names."
    if not isinstance(item, tuple | list):
        raise OddItem(f"is a {type(item).__name__}, not an input with its label", form)
    if len(item) not in (2, 3):
        raise OddItem(f"is a {type(item).__name__} of {len(item)}", form)
    both = len(item) == 3 and _has_axes(item[0]) and _has_axes(item[1]) and not _has_axes(item[2])
    if both and not _is_one_hot(item[1]):
        return (item[0], item[1]), item[2], None  # TensorDataset(a, b, labels)
    return item[0], item[1], item[2] if len(item) == 3 else None


def _several_inputs(item: Mapping[Any, Any], options: DataOptions) -> list[str]:
    """Parts that the model is called with together: those that `--input a,b` names, or a tokenizer's."""
    if options.input is not None:
        parts = [part.strip() for part in options.input.split(",")]
        return parts if options.input not in item and len(parts) > 1 and set(parts) <= set(item) else []
    if any(name in item for name in INPUT_NAMES) or TOKENS not in item:
        return []
    return [name for name in TOKENIZED if name in item]


def _chosen(item: Mapping[Any, Any], asked: str | None, usual: Sequence[str], option: str) -> str:
    there = [str(name) for name in item]
    listed = f"The items hold {', '.join(there) or 'nothing'}."
    if asked is not None:
        if asked in item:
            return asked
        raise OddItem(f"has no '{asked}' ({option})", f"{listed} {did_you_mean(asked, there)}".rstrip())
    found = [name for name in usual if name in item]
    if len(found) == 1:
        return found[0]
    if found:
        raise OddItem(f"holds {' and '.join(found)}, and each could be meant", f"Say which with {option}.")
    if option == "--label" and {"boxes", "bbox", "objects"} & set(there):
        raise OddItem("holds boxes: this is detection", SCOPE)
    raise OddItem(f"has no part called {', '.join(usual[:-1])} or {usual[-1]}", f"{listed} Name it with {option}.")


def as_input(x: Any) -> Value:
    """What an input is, with its content hash. Raises ``OddItem``, or ``UnreadableRow`` for a broken picture."""
    import numpy as np

    if isinstance(x, str):
        content = x.encode("utf-8", "backslashreplace")
        return Value("text", x, hashlib.sha256(content).hexdigest(), len(content))
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(x, image.Image):
        picture = upright_rgb(x)
        read = as_read(picture)  # of a deeper picture eight bits do not say which it is
        pixels = np.asarray(read.pixels if read.deep else picture)
        return Value("image", picture, row_hash(pixels), pixels.nbytes)
    named = isinstance(x, Mapping) and any(_has_axes(part) or isinstance(part, list) for part in x.values())
    if named or (isinstance(x, tuple) and len(x) > 1 and all(_has_axes(part) for part in x)):
        return _parts(x)
    tensor = None
    if is_tensor(x):
        tensor = x.detach().cpu().to_dense()
        tensor = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
        array: Array = tensor.numpy()
    elif isinstance(x, np.ndarray | np.generic | int | float | list | tuple):
        try:
            array = np.asarray(x)
        except (TypeError, ValueError) as error:
            raise OddItem(f"has an input of numbers that make no array ({error})") from error
    else:
        raise OddItem(
            f"has a {type(x).__name__} as its input",
            "Inputs are pictures (PIL), arrays or tensors of numbers, or texts: one for each row.",
        )
    return _numbers(array, tensor)


def _has_axes(part: Any) -> bool:
    return len(getattr(part, "shape", ())) > 0


def _is_one_hot(part: Any) -> bool:
    """Whether it may be a label with a place for each class, and no second input."""
    import numpy as np

    flat = np.asarray(part.detach().cpu().float() if is_tensor(part) else part).reshape(-1)
    return flat.size < 2 or (flat.dtype.kind in "biuf" and bool(((flat == 0) | (flat == 1)).all()) and flat.sum() == 1)


def _parts(x: Any) -> Value:
    """Several inputs: a dict of arrays by the names of the model's arguments, or a tuple in their order."""
    import numpy as np

    named = dict(x) if isinstance(x, Mapping) else {str(place): part for place, part in enumerate(x)}
    hashes, size, finite = [], 0, True
    for name, part in named.items():
        try:
            array = np.asarray(part.detach().cpu().float() if _is_half(part) else part)
        except (TypeError, ValueError) as error:
            raise OddItem(f"has an input '{name}' that is no array ({error})") from error
        if array.dtype.kind not in "biuf":
            raise OddItem(f"has an input '{name}' of the type {array.dtype}, which is no number")
        hashes.append(f"{name} {row_hash(array)}")
        size += array.nbytes
        finite = finite and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))
    sha = hashlib.sha256(" ".join(sorted(hashes)).encode()).hexdigest()
    return Value("array", Parts(x), sha, size, (), finite, ready=True)


def _is_half(part: Any) -> bool:
    return is_tensor(part) and str(part.dtype) == "torch.bfloat16"


class Parts:
    """Several inputs of a row, as the data set gave them."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def copy(self) -> "Parts":
        """The same: what they are packed into is a tensor of its own."""
        return self


def _numbers(array: "Array", tensor: Any) -> Value:
    import numpy as np

    if array.dtype.kind not in "biuf":
        raise OddItem(f"has an input of the type {array.dtype}, which is no number")
    if array.ndim == 0:
        array = array[None]
    if array.size == 0:
        raise OddItem(f"has an empty input (shape {array.shape})")
    sha = row_hash(array)
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and is_picture(array.shape))):
        if array.ndim == 3 and channels_first(array.shape):
            array = array.transpose(1, 2, 0)
        return Value("image", array.copy(), sha, array.nbytes)
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    if array.ndim == 1:
        return Value("features", array.copy(), sha, array.nbytes, array.shape, finite)
    ready = tensor is not None and array.dtype.kind == "f"
    kept = tensor.clone() if tensor is not None else array.copy()
    return Value("array", kept, sha, array.nbytes, array.shape, finite, ready)


def as_label(y: Any) -> Any:
    """None where it is blank; a str, int, float or bool; an array where it holds several. Raises ``OddItem``."""
    import numpy as np

    if isinstance(y, Mapping) or (isinstance(y, list | tuple) and any(isinstance(part, Mapping) for part in y)):
        names = list(y) if isinstance(y, Mapping) else list(next(part for part in y if isinstance(part, Mapping)))
        what = (
            "boxes: this is detection" if {"boxes", "bbox", "bndbox", "annotation"} & set(map(str, names)) else "parts"
        )
        raise OddItem(f"has a label with {what} ({', '.join(map(str, names[:6]))})", SCOPE)
    if type(y).__module__.startswith("PIL."):
        raise OddItem("has a picture as its label: this is segmentation", SCOPE)
    if is_tensor(y):
        y = y.detach().cpu().numpy()
    if isinstance(y, list | tuple):
        if any(isinstance(part, str) for part in y):
            raise OddItem(f"has {len(y)} texts as its label: several labels a row", SCOPE)
        try:
            y = np.asarray(y)
        except ValueError:
            raise OddItem("has lists as its label: several labels a row", SCOPE) from None
    if isinstance(y, np.ndarray):
        if y.size != 1:
            return y
        y = y.reshape(())[()]
    if isinstance(y, np.generic):
        y = y.item()
    if isinstance(y, bytes):
        y = y.decode("utf-8", "backslashreplace")
    if y is None or (isinstance(y, float) and math.isnan(y)) or (isinstance(y, str) and not y.strip()):
        return None
    if not isinstance(y, str | int | float):
        raise OddItem(f"has a {type(y).__name__} as its label", "Give whole numbers or strings.")
    return y


def as_key(key: Any) -> str:
    """A key as text. Raises ``OddItem`` for what is none: a dict, an array, a weight."""
    given = None
    if not isinstance(key, Mapping):
        try:
            given = as_label(str(key) if hasattr(key, "__fspath__") else key)
        except OddItem:
            given = key
    if given is None and (key is None or isinstance(key, str | float)):
        return ""
    if isinstance(given, float) or not isinstance(given, str | int):
        raise OddItem(
            f"has a {type(key).__name__} where its key would be",
            "The third part of an item is its key, a text or whole number; give (input, label) where there is none, "
            "and ((a, b), label) where there are two inputs.",
        )
    return str(given).strip()


def content_of_labels(values: Sequence[Any], where: str) -> "Array":
    """Labels of all rows (``as_label``) as one array for ``labels.label_texts``, blanks as NaN or empty text."""
    import numpy as np

    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else str(value) for value in values])
    if any(value is None or isinstance(value, float) for value in values):
        return np.array([np.nan if value is None else float(value) for value in values])
    array = np.array(list(values))
    if array.dtype.kind not in "biu":
        raise DataError(f"{where} holds whole numbers that are too large.", "Give them as strings.")
    return array
