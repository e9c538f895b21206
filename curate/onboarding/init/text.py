"""The text of a `curate.toml`: what was found as settings, each with a word on where it comes from.

Knows TOML and the layout of the file. What an option is called and means stands in ``curate.settings.options``.
"""

import json
from collections.abc import Mapping
from typing import Any

from curate.onboarding.init.found import Discovery, FoundSetting
from curate.settings.option import Option
from curate.settings.options import OPTIONS

WIDTH = 110
HEAD = (
    "Settings of `curate scan`, written by `curate init`. Paths are relative to this file.",
    "Every other option is a setting too: `curate scan --help` lists them, docs/reference/commands.md says more.",
)


def file_text(found: Discovery) -> str:
    """What was found, in the order of the options; what is switched off as a comment."""
    parts = [f"# {line}" for line in HEAD]
    for option in OPTIONS.values():
        setting, remarks = found.settings.get(option.key), found.remarks.get(option.key, [])
        if setting is not None or remarks:
            parts += ["", *_told(option, setting, remarks)]
    return "\n".join(parts) + "\n"


def _told(option: Option, setting: FoundSetting | None, remarks: list[str]) -> list[str]:
    """An option's lines; without a value the remarks alone."""
    if setting is None:
        return [line for remark in remarks for line in _comment(f"{option.flag}: {remark}.")]
    said = [f"{remark[0].upper()}{remark[1:]}." for remark in remarks]
    said.insert(0, f"{'A guess: ' if setting.guess else 'Found: '}{setting.why}.")
    if setting.failed:
        said.insert(1, f"Switched off, it did not work: {setting.failed}")
    shown = f"{option.flag} = {toml(setting.value)}"
    return [*(line for remark in said for line in _comment(remark)), f"# {shown}" if setting.failed else shown]


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
