"""Forms of JSON in which tables come: a list of objects, columns as pandas writes them, splits, chats, tasks.

Knows each form by its shape and makes plain rows of it; leaves what the columns mean to `tables`.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from curate.errors import DataError
from curate.sources.labels import SCOPE
from curate.sources.splits import EVALUATION, TRAIN

Row = dict[str, Any]
COCO = ("images", "annotations", "categories")
CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
"""Columns of turns, with the names that a turn has for who speaks and what is said."""
ASKING, ANSWERING = ("user", "human"), ("assistant", "gpt")
ASIDE = ("label", "labels", "y", "target", "class")
EXAMPLE = 'Save the rows as a list: [{"text": "...", "label": "..."}, ...].'


def rows_in(content: Any, location: str) -> tuple[list[Row], list[str]]:
    """The rows of a JSON document, and notes. Raises ``DataError`` for a document that holds none."""
    if isinstance(content, list):
        if (rows := _as_rows(content)) is None and content:
            raise DataError(f"{location} is no list of objects.", EXAMPLE)
        return plain_rows(rows or [])
    if not isinstance(content, dict):
        raise DataError(f"{location} is no list of objects.", EXAMPLE)
    if all(isinstance(content.get(name), list) for name in COCO):
        return _coco(content, location), []
    if (rows := _of_splits(content)) is not None or (rows := _of_columns(content)) is not None:
        return plain_rows(rows)
    lists = [rows for value in content.values() if (rows := _as_rows(value))]
    if len(lists) != 1:
        raise DataError(f"{location} is an object with {len(lists)} lists of objects in it; one is needed.", EXAMPLE)
    return plain_rows(lists[0])


def plain_rows(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Rows with chats and annotation tasks taken apart into a text and a label, and notes."""
    if not rows:
        return [], []
    first = rows[0]
    chat = next((name for name in CHATS if _is_chat(first.get(name), name)), None)
    if chat is not None and not any(name in first for name in ASIDE):
        said = f"the label is the last answer in '{chat}', the text what was asked before it"
        return [_of_chat(row, chat) for row in rows], [said]
    if isinstance(first.get("data"), dict) and isinstance(first.get("annotations"), list):
        said = "tasks of Label Studio: the label is the choice, of several annotations the one given most often"
        return [_of_task(row) for row in rows], [said]
    return list(rows), []


def _as_rows(value: Any) -> list[Row] | None:
    """A list of objects as it is; of pairs (text, label) objects are made. None for another value."""
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(row, dict) for row in value):
        return value
    if all(isinstance(row, list) and len(row) == 2 and all(isinstance(part, str) for part in row) for row in value):
        return [{"text": text, "label": label} for text, label in value]
    return None


def _of_splits(content: Mapping[str, Any]) -> list[Row] | None:
    """Rows of an object with a list for each split, told apart by a column `split`."""
    parts = {name: rows for name, value in content.items() if (rows := _as_rows(value)) is not None}
    words = {name.lower() for name in parts}
    if not words & TRAIN or not words & set(EVALUATION):
        return None
    known = [name for name in parts if name.lower() in TRAIN or name.lower() in EVALUATION]
    return [{**row, "split": name.lower()} for name in known for row in parts[name]]


def _of_columns(content: Mapping[str, Any]) -> list[Row] | None:
    """Rows of an object of columns: lists of one length, or values by row as pandas' ``to_json`` writes them."""
    values = list(content.values())
    if set(content) >= {"columns", "data"} and all(isinstance(row, list) for row in content["data"]):  # orient="split"
        return [dict(zip(content["columns"], row, strict=False)) for row in content["data"]]
    if len(values) > 1 and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        if any(isinstance(cell, dict | list) for value in values for cell in value[:1]):
            return None
        return [dict(zip(content, row, strict=True)) for row in zip(*values, strict=True)]
    if len(values) > 1 and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        if len(values) <= len(values[0]):  # by column, then by row
            return [{name: column[row] for name, column in content.items()} for row in values[0]]
        return values
    return None


def _is_chat(value: Any, name: str) -> bool:
    who, what = CHATS[name]
    return (
        isinstance(value, list) and bool(value) and all(isinstance(t, dict) and who in t and what in t for t in value)
    )


def _of_chat(row: Row, name: str) -> Row:
    who, what = CHATS[name]
    rest = {key: value for key, value in row.items() if key != name}
    turns: Any = row.get(name)
    if not _is_chat(turns, name):
        return {"text": None, "label": None, **rest}
    answers = [place for place, turn in enumerate(turns) if turn[who] in ANSWERING]
    before = turns[: answers[-1]] if answers else turns
    asked = [_words(turn[what]) for turn in before if turn[who] in ASKING]
    label = _words(turns[answers[-1]][what]).strip() if answers else None
    return {"text": "\n".join(asked), "label": label, **rest}


def _words(content: Any) -> str:
    """What a turn says: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _of_task(row: Row) -> Row:
    """A task's data, and the choice of most annotations; of a tie the first."""
    data = row.get("data")
    choices: dict[str, int] = defaultdict(int)
    for annotation in row.get("annotations") or []:
        for result in annotation.get("result") or [] if isinstance(annotation, dict) else []:
            for choice in (result.get("value") or {}).get("choices") or [] if isinstance(result, dict) else []:
                choices[str(choice)] += 1
    label = max(choices, key=lambda name: choices[name], default=None)
    kept = {"id": row["id"]} if "id" in row else {}
    return {**kept, **(data if isinstance(data, dict) else {}), "label": label}


def _coco(content: dict[str, Any], location: str) -> list[Row]:
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


def lines_of_objects(text: str) -> list[Row] | None:
    """The objects of a text with one on each line, which a file called .json may be; None for another text."""
    found: list[Row] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            return None
        if not isinstance(row, dict):
            return None
        found.append(row)
    return found or None
