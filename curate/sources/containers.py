"""Tables in other clothes: a JSON array of objects, COCO with one label a picture, a tar of samples (WebDataset).

Knows how each of them is one table; what its columns mean is left to `tables`.
"""

import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from curate.errors import DataError, NothingScanned
from curate.files import strict_json
from curate.files.lines import decode_text
from curate.files.reading import memory_bytes, read_unpacked
from curate.sources.images import SUFFIXES as PICTURES
from curate.sources.labels import SCOPE
from curate.sources.table_files import RawTable, rows_table

COCO = ("images", "annotations", "categories")
LABELS = ("cls", "label", "class", "target", "txt")
"""Endings of a sample's member that holds its label."""


def read_json(path: Path, location: str, header: bool) -> RawTable:
    """A list of objects, or an object that holds one such list, or COCO's three. Raises ``DataError``."""
    text, notes = decode_text(read_unpacked(path, memory_bytes()))
    try:
        content = strict_json.loads(text)
    except ValueError as error:
        raise DataError(f"{location} is no JSON: {error}.", "A file of one object a line ends in .jsonl.") from error
    if isinstance(content, dict) and all(isinstance(content.get(name), list) for name in COCO):
        rows = _coco(content, location)
    elif isinstance(content, dict):
        lists = [value for value in content.values() if _are_rows(value)]
        if len(lists) != 1:
            raise DataError(
                f"{location} is an object with {len(lists)} lists of objects in it; one is needed.",
                'Save the rows as a list: [{"text": "...", "label": "..."}, ...].',
            )
        rows = lists[0]
    elif isinstance(content, list) and (_are_rows(content) or not content):
        rows = content
    else:
        raise DataError(
            f"{location} is no list of objects.", 'Save the rows as a list: [{"text": "...", "label": "..."}, ...].'
        )
    table = rows_table(rows)
    table.notes.extend(notes)
    return table


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _coco(content: dict[str, Any], location: str) -> list[dict[str, Any]]:
    """A row a picture: its file and the one category of its annotations."""
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        found: dict[Any, set[str]] = defaultdict(set)
        for annotation in content["annotations"]:
            found[annotation["image_id"]].add(names[annotation["category_id"]])
        files = [(str(image["file_name"]), found[image["id"]]) for image in content["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{location} looks like COCO, and {error} is missing or wrong in it.") from error
    several = next((file for file, labels in files if len(labels) > 1), None)
    if several is not None:
        raise DataError(f"{location}: {several} has annotations of several categories.", SCOPE)
    return [{"file_name": file, "label": next(iter(labels), None)} for file, labels in files]


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
