"""A folder of the library ``datasets`` with some labels changed and some rows left out, under the same features.

Knows the splits of the folder and the column of labels in its Arrow tables; leaves which row changes to ``changes``.
Nothing is decoded: pictures and sounds stay the bytes they are.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.export.changes import Change
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.sources.base import DataOptions
from curate.sources.hf import chosen_splits, hf_table, load_hf
from curate.sources.roles import label_column

Part = tuple[Source, Mapping[int, Change]]


def export_hf(parts: Sequence[Part], settings: ScanSettings, target: Path) -> None:
    """Write the folder that the sources share. ``UsageError`` for a label that the column cannot hold.

    A split without a change is copied byte for byte.
    """
    location = parts[0][0].location
    changed = [part for part in parts if part[1]]
    loaded = load_hf(location)
    if not isinstance(loaded, Mapping):
        if changed:
            _changed(loaded, changed, settings, location).save_to_disk(str(target))
        else:
            shutil.copytree(location, target)
        return
    shutil.copytree(location, target)
    by_split: dict[str, list[Part]] = {}
    for source, changes in changed:
        by_split.setdefault(_split(loaded, source, parts, settings), []).append((source, changes))
    for split, sources in by_split.items():
        shutil.rmtree(target / split)
        _changed(loaded[split], sources, settings, location).save_to_disk(str(target / split))


def _split(loaded: Mapping[str, Any], source: Source, parts: Sequence[Part], settings: ScanSettings) -> str:
    """The split that the source was read from, as ``open_hf`` chose it."""
    train, held_out = chosen_splits(loaded)
    first = source is parts[0][0] and source.location == settings.train.removeprefix("hf:")
    if first or (settings.eval is None and settings.split is not None):
        return str(train)
    return str(held_out or train or next(iter(loaded)))


def _changed(part: Any, sources: Sequence[Part], settings: ScanSettings, location: str) -> Any:
    import pyarrow
    from datasets import ClassLabel, Dataset
    from datasets.table import InMemoryTable

    table = hf_table(part)
    label = label_column(table, location, DataOptions(label=settings.label))
    arrow = part.data.table if part._indices is None else part.with_format("arrow")[:]
    values = arrow.column(label).to_pylist()
    feature = part.features[label]
    stored: dict[str, Any] = {}
    if isinstance(feature, ClassLabel):
        stored = {name: number for number, name in enumerate(feature.names)}
    for source, _ in sources:
        for row, text in enumerate(source.label_texts):
            if text is not None:
                stored.setdefault(text, values[source.positions[row]])
    kept = [True] * arrow.num_rows
    for source, changes in sources:
        for row, change in changes.items():
            position = source.positions[row]
            if change.label is None:
                kept[position] = False
            elif change.label in stored:
                values[position] = stored[change.label]
            elif isinstance(values[position], str):
                values[position] = change.label
            else:
                raise UsageError(
                    f"hf:{location}: the feature {label} cannot hold '{change.label}', which is no class of it",
                    "Give a label that it has.",
                )
    field = arrow.schema.field(label)
    new = pyarrow.chunked_array([pyarrow.array(values, field.type)])
    arrow = arrow.set_column(arrow.schema.get_field_index(label), field, new)
    if not all(kept):
        arrow = arrow.filter(pyarrow.array(kept))
    return Dataset(InMemoryTable(arrow), info=part.info.copy(), split=part.split)
