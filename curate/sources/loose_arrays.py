"""Arrays by name that lie beside each other: ``.npy`` files in one folder, or tensors in one ``.pt`` file.

Answers as `npz.Arrays` does: ``names``, ``take``, ``close``; what cannot be read is a ``ValueError`` that says so.
Nothing pickled is loaded.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.files.reading import check_regular, memory_bytes
from curate.sources.npz import OBJECTS

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

TENSORS = (".pt", ".pth")


class FilesOfArrays:
    """The ``.npy`` files of a folder, by their names without the ending."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.npy"))}
        self.names = list(self._files)
        """Of the arrays."""

    def close(self) -> None:
        """No file stays open."""

    def take(self, name: str) -> "Array":
        """The array. Raises ``ValueError`` if it cannot be read."""
        import numpy as np

        try:
            check_regular(self._files[name], memory_bytes())
            array: Array = np.load(self._files[name], allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            if "allow_pickle" in str(error):
                raise ValueError(f"'{name}' is {OBJECTS}") from error
            raise ValueError(f"{self._files[name].name} cannot be read: {error}") from error
        return array


class FileOfTensors:
    """What ``torch.save`` wrote: a dict of tensors, or a pair (x, y) of them. Raises ``ValueError`` for another."""

    def __init__(self, path: Path) -> None:
        import torch

        try:
            check_regular(path, memory_bytes())
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it holds more than tensors, and no code of a file is run") from error
        except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
            raise ValueError(str(error).splitlines()[0]) from error
        if isinstance(loaded, tuple | list) and len(loaded) == 2:
            loaded = dict(zip("xy", loaded, strict=True))
        named = loaded if isinstance(loaded, Mapping) else {}
        self._tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
        self.names = list(self._tensors)
        """Of the tensors."""
        if not self.names:
            raise ValueError("it holds no dict of tensors and no pair (x, y) of them")

    def close(self) -> None:
        """No file stays open."""

    def take(self, name: str) -> "Array":
        """The tensor as an array; half precision as float32."""
        tensor = self._tensors[name].detach().to_dense()
        array: Array = (tensor.float() if str(tensor.dtype) in ("torch.bfloat16", "torch.float16") else tensor).numpy()
        return array
