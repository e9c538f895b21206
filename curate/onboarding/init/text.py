"""The text of a `curate.toml`: what was found as settings, every other option as a comment with its default.

Knows TOML and the layout of the file. The options come from the command line's own table, so that none is missing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from curate.onboarding.init.found import Found, Setting
from curate.settings.merge import ScanSettings
from curate.settings.options import OPTIONS

WIDTH = 110
_DEFAULT = re.compile(r"\s*\[([^\]]+)\]\s*$")

# What an option without a default value looks like; the comment above the line says what holds without it.
EXAMPLES: Mapping[str, Any] = {
    "train": ".", "eval": "val.csv", "input": "x", "label": "label", "id": "id", "split": "split", "limit": 1000,
    "classes": ["cat", "dog"], "name": "photos", "model": "model.py:build", "model_args": {"num_classes": 2},
    "weights": "weights.safetensors", "head": "fc", "output": "logits", "pred_probs": "probs.npy",
    "votes": ["judge.csv"], "damping": 0.01, "neighbours": 50, "slice": "label=cat",
    "expected_precision": 0.9, "noise_rate": "10-30%", "fail_on": ["mislabeled"], "max_findings": "2%",
    "max_noise_rate": ["5%", "class:10%"], "since": ".curate/main.db", "format": ["text"],
    "media_root": ["."],
}  # fmt: skip
DEFAULTS: Mapping[str, Any] = {"batch_size": "auto"}
"""Defaults that have a word of their own."""
OTHER_WORDS: Mapping[str, str] = {
    "header": "Whether the first line of a csv file names the columns; else they are numbered from 0.",
    "cache": "Whether rows that an earlier scan read are taken from the cache.",
    "thumbnails": "Whether small pictures of flagged rows are kept in the database.",
    "text": "Whether texts of rows are kept in the database.",
    "db": "The database, here relative to this file. By default: this path in the folder that curate runs in.",
}
"""Where the command line's sentence is about another thing: a flag that says no, a path from another folder."""


@dataclass(frozen=True)
class Line:
    """An option as the command line tells it: the heading it stands under, and its help."""

    heading: str
    key: str
    help: str


def file_text(lines: Iterable[Line], found: Found) -> str:
    """Each option once: set where it was found, else as a comment."""
    parts = [
        "# Settings of `curate scan`, written by `curate init`. Paths are relative to this file.",
        "# A line that begins with '# name =' is off: it shows the default, or an example where there is none.",
    ]
    heading = None
    for line in lines:
        if line.heading != heading:
            heading = line.heading
            parts += ["", "", f"# {heading}"]
        parts += ["", *_option(line, found.settings.get(line.key), found.remarks.get(line.key, []))]
    return "\n".join(parts) + "\n"


def _option(line: Line, setting: Setting | None, remarks: list[str]) -> list[str]:
    default = next(field for field in fields(ScanSettings) if field.name == line.key).default
    told = OTHER_WORDS.get(line.key) or _DEFAULT.sub("", line.help).strip()
    said = _DEFAULT.search(line.help)
    comments = [told]
    if setting is None:
        value = EXAMPLES.get(line.key, DEFAULTS.get(line.key, default))
        if line.key in EXAMPLES:
            comments = [f"{told} By default: {said[1]}. Example:" if said else f"{told} Example:"]
        off = True
    else:
        value, off = setting.value, bool(setting.failed)
        comments.append(f"{'A guess: ' if setting.guess else 'Found: '}{setting.why}.")
        if setting.failed:
            comments.append(f"Switched off, it did not work: {setting.failed}")
    comments += [f"{remark[0].upper()}{remark[1:]}." for remark in remarks]
    shown = f"{OPTIONS[line.key].flag} = {toml(value)}"
    return [*(part for comment in comments for part in _comment(comment)), f"# {shown}" if off else shown]


def _comment(text: str) -> list[str]:
    """Comment lines. None may look like a setting that is off, so what could goes on with the line before."""
    words = "".join(sign if sign.isprintable() else " " for sign in text).split()
    lines: list[str] = []
    for word in words:
        if lines and (len(lines[-1]) + len(word) < WIDTH or word.startswith("=")):
            lines[-1] += " " + word
        else:
            lines.append(f"# {word}")
    return lines


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
