"""An ``.npz`` file with some labels changed and some rows left out of every array that has a row for each.

Knows the file's arrays; leaves which row changes to ``changes``.
"""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curate.errors import UsageError
from curate.export.changes import Change
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.sources.arrays import Archive
from curate.sources.labels import LABEL_NAMES


def export_arrays(parts: Sequence[tuple[Source, Mapping[int, Change]]], settings: ScanSettings, target: Path) -> None:
    """Write the archive that the sources share, same names, order, types and compression."""
    location = parts[0][0].location
    if Path(location).suffix.lower() != ".npz":
        raise UsageError(f"{location} is read, and not written", "Save its arrays as one .npz file, and scan that.")
    changes = {source.positions[row]: change for source, changed in parts for row, change in changed.items()}
    if not changes:
        shutil.copyfile(location, target)
        return
    with zipfile.ZipFile(location) as packed:
        names = [Path(name).stem if name.endswith(".npy") else name for name in packed.namelist()]
        compressed = any(info.compress_type == zipfile.ZIP_DEFLATED for info in packed.infolist())
    with Archive(location) as archive:
        label = archive.choose(settings.label, LABEL_NAMES, "--label")
        arrays = {name: archive.take(name) for name in names}
    given = arrays[label]
    values = given.reshape(len(given)).tolist()
    stored = {
        text: values[source.positions[row]]
        for source, _ in parts
        for row, text in reversed(list(enumerate(source.label_texts)))
        if text is not None
    }
    for position, change in changes.items():
        if change.label is not None:
            if change.label not in stored and given.dtype.kind != "U":
                raise UsageError(
                    f"{location}: '{label}' cannot hold '{change.label}', which no row of it has",
                    "Give a label that it has.",
                )
            values[position] = stored.get(change.label, change.label)
    # A longer text than any before needs a wider array; the others keep their type.
    new = np.array(values) if given.dtype.kind in "US" else np.array(values, dtype=given.dtype)
    kept = np.ones(len(given), dtype=bool)
    kept[[position for position, change in changes.items() if change.label is None]] = False
    wide = new.dtype.itemsize > given.dtype.itemsize or given.dtype.kind not in "US"
    arrays[label] = (new if wide else new.astype(given.dtype)).reshape(given.shape)
    out = {name: array[kept] if array.ndim and len(array) == len(given) else array for name, array in arrays.items()}
    # numpy's own functions take the names as arguments, and `file` is one of theirs
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as packed:
        for name, array in out.items():
            with packed.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
