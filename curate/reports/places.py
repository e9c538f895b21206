"""Where a finding is mended: the file, and the line of a table's row, relative to the repository.

Knows which kinds of data have files. Lines are looked up in the file as it is now, with the positions of the run: of a
file that was written since, unless the positions were looked up anew, no line is told rather than another row's.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from curate.files.lines import lines_of
from curate.reports.report import RunFacts
from curate.settings.specs import split_code, split_kind

TEXT_TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
TABLES = (*TEXT_TABLES, ".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Place:
    """A file and a line of it (from 1); None where there is none."""

    path: str | None = None
    line: int | None = None


def places_of(
    run: RunFacts, rows: Sequence[Mapping[str, Any]], positions: Mapping[tuple[str, str], int] | None = None
) -> list[Place]:
    """The place of each finding, from its split, plain key, position and media path."""
    files = {"train": _file(run.kind, run.location)}
    asked = run.settings.get("eval")
    files["eval"] = _file(*_spec(asked)) if isinstance(asked, str) else files["train"]
    header = run.settings.get("header") is not False
    at = [
        row["position"] if positions is None else positions.get((row["split"], row["plain_key"]), row["position"])
        for row in rows
    ]
    wanted: dict[str, set[int]] = defaultdict(set)
    for row, position in zip(rows, at, strict=True):
        file = files[row["split"]]
        if file is not None and position is not None and Path(file).suffix.lower() in TEXT_TABLES:
            wanted[file].add(position)
    lines = {
        file: _lines(file, places, header)
        for file, places in wanted.items()
        if positions is not None or _as_read(file, run.finished)
    }
    told = _Relative(repository().as_posix(), Path.cwd())
    found = []
    for row, position in zip(rows, at, strict=True):
        file = files[row["split"]] or row["media_path"]
        line = lines[file].get(position) if file in lines else None
        found.append(Place(None if file is None else told(file), line))
    return found


def repository() -> Path:
    """The folder that paths in a build's report are relative to: that of the repository, else the current one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def _spec(spec: str) -> tuple[str | None, str]:
    kind, location = split_kind(spec)
    if kind is None:
        kind = "table" if Path(location).suffix.lower() in TABLES else None
        kind = "arrays" if Path(location).suffix.lower() == ".npz" else kind
    return kind, location


def _file(kind: str | None, location: str) -> str | None:
    """The one file that holds all rows, where there is such a file."""
    if kind in ("table", "arrays"):
        return location
    if kind == "python":
        code = split_code(location.removeprefix("python:"))[0]
        return code if code.endswith(".py") else None
    return None


def _lines(file: str, positions: set[int], header: bool) -> dict[int, int]:
    try:
        return lines_of(Path(file), positions, header=header)
    except OSError:  # it is not here any more: the report is of the run, not of the file
        return {}


def _as_read(file: str, finished: str | None) -> bool:
    """Was the file last written before the run ended? Times of runs are whole seconds."""
    if finished is None:
        return False
    try:
        return os.stat(file).st_mtime < datetime.fromisoformat(finished).timestamp() + 1
    except OSError:
        return False


class _Relative:
    """Paths relative to the repository, without a Path for each: of many findings most lie in few folders."""

    def __init__(self, root: str, here: Path) -> None:
        self.root, self.here = root, here
        self.folders: dict[str, str] = {}

    def __call__(self, file: str) -> str:
        folder, name = os.path.split(file)
        if name in ("", os.curdir, os.pardir):
            return self._told(file)
        if folder not in self.folders:
            self.folders[folder] = self._told(folder)
        within = self.folders[folder]
        return name if within == "." else f"{within.rstrip('/')}/{name}"

    def _told(self, file: str) -> str:
        path = os.path.normpath(os.path.join(self.here, file)).replace(os.sep, "/")
        return path.removeprefix(f"{self.root.rstrip('/')}/") if path != self.root else "."
