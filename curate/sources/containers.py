"""Tables in other clothes: a JSON document, a tar of samples (WebDataset).

Knows how each of them is one table; what its columns mean is left to `tables`.
"""

import io
import json
import lzma
import tarfile
import zlib
from collections import defaultdict
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from curate.errors import DataError, NothingScanned
from curate.files import strict_json
from curate.files.lines import decode_text
from curate.files.reading import ending, memory_bytes, read_unpacked
from curate.sources.images import SUFFIXES as PICTURES
from curate.sources.json_rows import lines_of_objects, plain_rows, rows_in
from curate.sources.table_files import RawTable, rows_table

LOOKED_AT = 1000
"""Members that show what a tar holds."""
LABELS = ("cls", "label", "class", "target", "txt")
"""Endings of a sample's member that holds its label."""


def read_json(path: Path, location: str, header: bool) -> RawTable:
    """A document of rows in one of their forms; a text with an object on each line too. Raises ``DataError``."""
    text, notes = decode_text(read_unpacked(path, memory_bytes()))
    try:
        rows, said = rows_in(strict_json.loads(text), location)
    except ValueError as error:
        lines = lines_of_objects(text)
        if lines is None:
            raise DataError(
                f"{location} is no JSON: {error}.", "A file of one object a line ends in .jsonl."
            ) from error
        rows, said = plain_rows(lines)
        said.append("the file holds one object a line")
    table = rows_table(rows)
    table.notes.extend([*notes, *said])
    return table


def is_webdataset(path: Path) -> bool:
    """Whether a tar's members are samples, each with a label beside it, and not files in class folders."""
    if ending(path) != ".tar":
        return False
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in islice(archive, LOOKED_AT) if member.isfile()]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return True  # told where it is read
    ends = {PurePosixPath(name).name.partition(".")[2].lower() for name in names}
    return bool(ends & {*LABELS, "json"})


def read_tar(path: Path, location: str, header: bool) -> RawTable:
    """Members of one name and several endings are a sample: `0001.jpg` and `0001.cls` (or `.json` with a label)."""
    samples: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        with tarfile.open(fileobj=io.BytesIO(read_unpacked(path, memory_bytes() // 2)), mode="r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                stem, _, ending = name.name.partition(".")
                if not stem or not ending:
                    continue
                file = archive.extractfile(member)
                assert file is not None  # of a regular file
                samples[(name.parent / stem).as_posix()][ending.lower()] = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{location} is no tar archive, or was cut short ({error}).") from error
    if not samples:
        raise NothingScanned(f"{location} holds no sample, so nothing was scanned.")
    return rows_table([_sample(key, parts, location) for key, parts in samples.items()])


def _sample(key: str, parts: dict[str, bytes], location: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    picture = next((ending for ending in parts if f".{ending.split('.')[-1]}" in PICTURES), None)
    if picture is not None:
        row["image"] = parts[picture]
    elif "txt" in parts and any(name in parts for name in LABELS[:-1]):
        row["text"] = parts["txt"].decode("utf-8", "replace")
    if "json" in parts:
        try:
            told = json.loads(parts["json"])
        except ValueError as error:
            raise DataError(f"{location}: {key}.json is no JSON: {error}.") from error
        if isinstance(told, dict):
            row |= {name: value for name, value in told.items() if name not in row}
    for name in LABELS:
        if name in parts and (name != "txt" or "text" not in row) and "label" not in row:
            row["label"] = parts[name].decode("utf-8", "replace").strip()
    return row | {"key": key}
