"""Data sets of the library ``datasets`` (``hf:``): folders that ``save_to_disk`` wrote, or names in its local cache.

Knows splits and class names as that library keeps them; what it holds is a table, read by ``tables``. Nothing is
downloaded.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import DataError
from curate.process.installing import needs
from curate.sources.base import DataOptions, Source
from curate.sources.splits import EVALUATION, TRAIN
from curate.sources.table_files import RawTable, name_numbers
from curate.sources.tables import TableSource, table_sources


class HfSource(TableSource):
    """A data set of the library datasets, saved on disk."""

    kind: ClassVar[str] = "hf"


def open_hf(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """The training set, and the evaluation set where the data set has splits."""
    loaded = load_hf(location)
    if not isinstance(loaded, Mapping):
        return _sources(loaded, location, options)
    train, held_out = chosen_splits(loaded)
    if options.evaluation:
        return _sources(loaded[held_out or train or next(iter(loaded))], location, options)
    if train is None:
        raise DataError(
            f"hf:{location} has no split called train; it has {', '.join(map(str, loaded))}.",
            "Save the split that trains as a folder of its own, or name it 'train'.",
        )
    training, _ = _sources(loaded[train], location, options)
    if held_out is None:
        return training, None
    asked = replace(
        options, classes=tuple(training.classes), name=training.name, evaluation=True, like=training, split=None
    )
    return training, _sources(loaded[held_out], location, asked)[0]


def chosen_splits(loaded: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Names of the splits that train and that evaluate; None where there is none."""
    names = {str(name).lower(): name for name in loaded}
    held_out = next((names[name] for name in EVALUATION if name in names), None)
    return next((names[name] for name in names if name in TRAIN), None), held_out


def _sources(part: Any, location: str, options: DataOptions) -> tuple[Source, Source | None]:
    return table_sources(HfSource, hf_table(part), location, options)


def load_hf(location: str) -> Any:
    """What ``save_to_disk`` wrote: a data set, or a dict of them by split. Raises ``DataError``."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf:{location} needs the library datasets, which is not installed.", needs("hf")) from error
    if not Path(location).exists():
        raise DataError(
            f"hf:{location}: there is no such folder, and curate downloads nothing.",
            f"Fetch it in Python: datasets.load_dataset('{location}').save_to_disk('data'); then scan hf:data.",
        )
    datasets.disable_progress_bars()
    try:
        return datasets.load_from_disk(location)
    except (FileNotFoundError, OSError, ValueError, KeyError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"hf:{location} is no data set that `save_to_disk` wrote, or it is damaged ({first}).",
            "Save it again; a folder of class folders or a table needs no hf: before it.",
        ) from error


def hf_table(part: Any) -> RawTable:
    """The columns, class numbers replaced by names, and the order of the names."""
    from datasets import ClassLabel

    # A selection or a shuffle lies over the file as a list of rows: only then are they copied.
    arrow = part.data.table if part._indices is None else part.with_format("arrow")[:]
    columns = {str(name): arrow.column(name) for name in arrow.column_names}
    orders: dict[str, tuple[str, ...]] = {}
    for name, feature in part.features.items():
        if isinstance(feature, ClassLabel):
            columns[name] = name_numbers(columns[name], feature.names)
            orders[name] = tuple(feature.names)
    return RawTable(columns, list(range(part.num_rows)), orders=orders)
