"""Files of verdicts: ``.csv`` (as spreadsheets write them) and ``.jsonl``, one row a verdict.

Knows the columns and what a broken line is called; leaves which row a key means to ``marking``.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from curate.errors import DataError
from curate.files import strict_json
from curate.files.cells import quoted, unquoted
from curate.files.label_studio import task_rows
from curate.files.reading import read_text
from curate.settings.specs import near_path

COLUMNS = (
    "key",
    "verdict",
    "new_label",
    "note",
    "reviewer",
    "time",
    "dataset",
    "split",
    "given_label",
    "content_sha256",
    "fingerprint",
    "source",
    "state",
    "rule",
)
"""In the order they are written. ``key`` and ``verdict`` are needed; ``state`` and ``source`` are not read."""
SYNONYMS = {"label": "new_label"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict as a file gives it; ``where`` is the file and the line, for messages. Blank cells are None."""

    where: str
    key: str
    verdict: str
    new_label: str | None = None
    note: str | None = None
    reviewer: str | None = None
    time: str | None = None
    dataset: str | None = None
    split: str | None = None
    given_label: str | None = None
    content_sha256: str | None = None
    fingerprint: str | None = None
    rule: str | None = None


def read_entries(name: str, content: str | None = None) -> tuple[list[Entry], int]:
    """(the verdicts of a file, rows without one). ``content`` stands for the file where it came another way (stdin).

    JSON lines and Label Studio's tasks are told from a table by their first sign. Raises ``DataError``.
    """
    if content is None:
        path = Path(name)
        try:
            content = read_text(path)
        except FileNotFoundError:
            raise DataError(f"There is no file {name}", near_path(path)) from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name} is not in UTF-8: byte {error.start}", "Save it as CSV UTF-8, or as JSON lines"
            ) from None
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror}") from None
    first = content.lstrip()[:1]
    reader = {"{": _json_rows, "[": task_rows}.get(first, _csv_rows)
    rows = list(reader(name, content))
    if not rows:
        raise DataError(f"{name} holds no verdict", "Give a file with the columns key and verdict")
    entries = [_entry(where, row) for where, row in rows if row.get("verdict")]
    return entries, len(rows) - len(entries)


def _json_rows(name: str, content: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{where} is no JSON: {error}", 'One object a line: {"key": "...", "verdict": "keep"}'
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{where} is no object", 'One object a line: {"key": "...", "verdict": "keep"}')
        yield where, _named({str(key): "" if value is None else str(value) for key, value in row.items()})


def _csv_rows(name: str, content: str) -> Iterator[tuple[str, dict[str, str]]]:
    first = content.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        names = [cell.strip().lower() for cell in next(reader, [])]
    except csv.Error as error:
        raise DataError(f"{name}, line 1 cannot be read: {error}") from None
    missing = [column for column in ("key", "verdict") if column not in names]
    if missing and not {"fingerprint", "verdict"} <= set(names):
        raise DataError(
            f"{name} has no column {' and no column '.join(missing)}; it holds {', '.join(names) or 'nothing'}",
            "The first line names the columns: key,verdict,new_label,note,reviewer",
        )
    while True:
        where = f"{name}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{where} cannot be read: {error}") from None
        if any(cell.strip() for cell in cells):
            if len(cells) != len(names):
                raise DataError(f"{where} has {len(cells)} cells where {len(names)} were expected")
            yield where, _named({key: unquoted(cell) for key, cell in zip(names, cells, strict=True)})


def _named(row: dict[str, str]) -> dict[str, str]:
    for other, name in SYNONYMS.items():
        if other in row and name not in row:
            row[name] = row[other]
    return row


def _entry(where: str, row: dict[str, str]) -> Entry:
    facts: dict[str, Any] = {name: row.get(name) or None for name in COLUMNS if name not in ("source", "state")}
    facts["verdict"] = row["verdict"].strip().lower()
    if not facts["key"] and not facts["fingerprint"]:
        raise DataError(f"{where} names no row", "Give its key")
    return Entry(where, **{**facts, "key": facts["key"] or "", "time": _time(where, facts["time"])})


def _time(where: str, given: str | None) -> str | None:
    """ISO 8601 in UTC, to the second. A time to come would overrule every later word."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        raise DataError(f"{where}: '{given}' is no time", "Write it as 2025-01-31T12:00:00Z, or leave it out") from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if moment > datetime.now(UTC) + timedelta(minutes=5):
        raise DataError(f"{where}: the time {given} is still to come", "Correct it, or leave it out")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def write_csv(words: Iterable[Mapping[str, Any]]) -> str:
    """Verdicts as a table; cells that a spreadsheet would run get a ' before them, which ``read_entries`` takes off."""
    cells = (["" if word[name] is None else quoted(str(word[name])) for name in COLUMNS] for word in words)
    return "".join(map(_line, [COLUMNS, *cells]))


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)  # quotes a cell for any sign of its line's end
    return out.getvalue().removesuffix("\r\n") + "\n"


def write_jsonl(words: Iterable[Mapping[str, Any]]) -> str:
    """Verdicts as JSON, one a line."""
    return "".join(json.dumps({name: word[name] for name in COLUMNS}, ensure_ascii=False) + "\n" for word in words)
