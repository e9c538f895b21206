"""The data in a folder: class folders, tables, arrays; which file trains and which evaluates; where the label stands.

Knows layouts and usual names; whether the data can be opened is left to the check of the written file.
"""

import contextlib
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError, DataError
from curate.onboarding.init.found import Discovery, FoundSetting, inside, listed, visible
from curate.sources.arrays import INPUT_NAMES
from curate.sources.images import layout
from curate.sources.labels import LABEL_NAMES
from curate.sources.roles import LABEL_NAMES as COLUMN_NAMES
from curate.sources.splits import EVALUATION
from curate.sources.table_files import SUFFIXES, read_table

if TYPE_CHECKING:
    import numpy.typing as npt

_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_EVALUATION = {word: re.compile(rf"(?<![a-z]){word}(?![a-z])", re.IGNORECASE) for word in EVALUATION}


def find_data(folder: Path) -> Discovery:
    """Settings that name the data. Raises ``DataError`` where there is none."""
    found = Discovery()
    files = _files(folder)
    if not _pictures(folder, found):
        if not files:
            raise DataError(
                f"{folder.as_posix()} holds no data: no class folders with pictures, no table and no .npz file.",
                f"Expected CLASS/picture.jpg (two classes at least), or a file: {', '.join((*SUFFIXES, '.npz'))}.",
            )
        train = _pair(folder, files, found)
        (_array_names if train.suffix.lower() == ".npz" else _columns)(train, found)
    taken = {found.settings[key].value for key in ("train", "eval") if key in found.settings}
    others = [name for path in files if (name := inside(path, folder)) not in taken]
    if others:
        found.remark("train", f"also there: {listed(others)}")
    return found


def _pictures(folder: Path, found: Discovery) -> bool:
    train, held_out, classes = layout(folder)
    below = [child for child in visible(folder) if child.is_dir() and layout(child)[2] >= 2]
    if train is not None and train != folder:
        told = f", {held_out.name}/ the evaluation set" if held_out else ""
        found.settings["train"] = FoundSetting(".", f"{train.name}/ is the training set{told}")
        return True
    if (folder / "train").is_dir() and layout(folder / "train")[2] >= 2:
        found.settings["train"] = FoundSetting("train", "class folders to train on")
        return True
    # Pictures in docs/ beside the data set's folder make no second class.
    if len(below) == 1 and classes - 1 < 2:
        name = below[0].name
        inner, held_out, classes = layout(below[0])
        told = ", with a split" if inner != below[0] else ""
        found.settings["train"] = FoundSetting(name, f"{classes} class folders with pictures{told}", guess=True)
        return True
    if classes >= 2:
        found.settings["train"] = FoundSetting(".", f"{classes} class folders with pictures")
        return True
    return False


def _files(folder: Path) -> list[Path]:
    """Tables, then arrays, of the folder; else of the folders in it."""
    for place in ([folder], [child for child in visible(folder) if child.is_dir()]):
        files = [path for here in place for path in visible(here) if path.is_file()]
        found = [path for wanted in (SUFFIXES, (".npz",)) for path in files if path.suffix.lower() in wanted]
        if found:
            return found
    return []


def _pair(folder: Path, files: list[Path], found: Discovery) -> Path:
    """The file to train on, and its evaluation file as far as there is one."""
    training = [path for path in files if _TRAIN.search(path.stem)]
    held = {word: [path for path in files if sign.search(path.stem)] for word, sign in _EVALUATION.items()}
    plain = [path for path in files if not any(path in paths for paths in held.values())]
    train = (training or plain or files)[0]
    if not training and len(plain) > 1:
        kind = [path for path in plain if path.suffix == plain[0].suffix]
        train = max(kind, key=lambda path: path.stat().st_size)
        found.settings["train"] = FoundSetting(inside(train, folder), "the largest of several files", guess=True)
    else:
        found.settings["train"] = FoundSetting(inside(train, folder), "the training rows" if training else "the data")
    alike = [path for paths in held.values() for path in paths if path != train and path.suffix == train.suffix]
    if alike:
        found.settings["eval"] = FoundSetting(inside(alike[0], folder), "the evaluation rows, by the file's name")
    return train


def _columns(path: Path, found: Discovery) -> None:
    try:
        names = list(read_table(str(path), header=True).columns)
    except CurateError:
        with contextlib.suppress(CurateError):  # told by the check
            read_table(str(path), header=False)
            found.settings["header"] = FoundSetting(False, "the first line looks like a row", guess=True)
            found.settings["label"] = FoundSetting(-1, "the last column: none has a name", guess=True)
        return
    usual = [name for name in names if name.lower() in COLUMN_NAMES]
    if len(usual) == 1:
        found.settings["label"] = FoundSetting(usual[0], "the column with a usual name")
    elif names:
        why = f"{' and '.join(usual)} could each be it" if usual else "the last column, none has a usual name"
        found.settings["label"] = FoundSetting((usual or names)[-1], f"{why}; columns: {listed(names, 12)}", guess=True)


def _array_names(path: Path, found: Discovery) -> None:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            names = list(stored.files)
            missing = [usual for usual in (INPUT_NAMES, LABEL_NAMES) if len(set(usual) & set(names)) != 1]
            arrays = {name: stored[name] for name in names} if missing else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # told by the check
        return
    if not missing:
        return
    known = next((arrays[name] for name in INPUT_NAMES if name in arrays), None)
    rows = _choose(
        [n for n, a in arrays.items() if a.ndim >= 2 and (known is None or a is known)], arrays, largest=True
    )
    if rows is None:
        return
    flat = [
        name
        for name, array in arrays.items()
        if array.ndim == 1 and len(array) == len(arrays[rows]) and array.dtype.kind in "iubSU"
    ]
    label = _choose(flat, arrays, largest=False)
    said = f"arrays: {listed(list(arrays), 12)}"
    if INPUT_NAMES in missing:
        found.settings["input"] = FoundSetting(rows, f"the largest array; {said}", guess=True)
    if LABEL_NAMES in missing and label is not None:
        found.settings["label"] = FoundSetting(
            label, f"as many rows, and the fewest different values; {said}", guess=True
        )


def _choose(names: list[str], arrays: "dict[str, npt.NDArray[Any]]", *, largest: bool) -> str | None:
    """The array of the training rows, where names say so; the largest, or that with the fewest different values."""
    import numpy as np

    names = [name for name in names if _TRAIN.search(name)] or names
    if largest:
        return max(names, key=lambda name: arrays[name].size, default=None)
    return min(names, key=lambda name: len(np.unique(arrays[name])), default=None)
