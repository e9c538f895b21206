"""What is read from TOML or from text to the value of a setting, and what was expected where it is none.

Knows no option and no file: ``options`` says which reader an option has. Standard library only.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from curate.plugs import loss_asked, solver_asked
from curate.settings.specs import whole


class WrongValue(ValueError):
    """The text says what was expected: "a whole number, at least 1"."""


_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def read_text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise WrongValue("a text")
    return value


def read_column(value: Any) -> str:
    """A name, or a number where columns have none."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else read_text(value)


def read_run(value: Any) -> str:
    """The number of a run, or a database."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else read_text(value)
    if text.isdecimal() and whole(text) is None:
        raise WrongValue("the number of a run, or a database")
    return text


def read_flag(value: Any) -> bool:
    """True or false, as TOML or as a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise WrongValue("true or false")


LEAST_MEMORY = 64 * 10**6
"""Bytes: below it chunks are single rows."""
LARGEST_SEED = 2**32 - 1
"""numpy and scikit-learn take no larger one."""
LARGEST = 2**63 - 1
"""A database holds no larger whole number."""


def at_least(least: int, *words: str, most: int = LARGEST) -> Callable[[Any], int | None]:
    """A reader of whole numbers; each of ``words`` stands for None."""

    def read(value: Any) -> int | None:
        if isinstance(value, str) and value in words:
            return None
        expected = f"a whole number, at least {least}" + "".join(f", or '{word}'" for word in words)
        if most < LARGEST:
            expected = f"a whole number, {least} to {most}"
        if isinstance(value, bool | float):
            raise WrongValue(expected)
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise WrongValue(expected) from None
        if not least <= number <= most:
            raise WrongValue(expected)
        return number

    return read


def read_eval_rows(value: Any) -> int | str:
    """How many rows to solve for one by one, or which rows harm is measured on."""
    expected = "a whole number, at least 1, or mistakes, all, keys with commas between, or a file of keys"
    if isinstance(value, str) and value.strip() and not value.strip().lstrip("-+").isdigit():
        return value.strip()
    try:
        number = at_least(1)(value)
    except WrongValue:
        raise WrongValue(expected) from None
    assert number is not None
    return number


def read_slice(value: Any) -> str:
    """A column and one of its values, or a column alone."""
    column, sign, wanted = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not column.strip() or (sign and not wanted.strip()):
        raise WrongValue("COLUMN=VALUE, like label=cat, or a COLUMN")
    return f"{column.strip()}={wanted.strip()}" if sign else column.strip()


def read_positive(value: Any) -> float:
    """A number above 0."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WrongValue("a number above 0")
    return number


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_memory(value: Any) -> int:
    """Bytes, of a number with a unit; as many as a run keeps are taken as they are."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= LEAST_MEMORY:
        return value
    text = str(value).replace(" ", "").upper()
    unit = next((unit for unit in _UNITS if text.endswith(unit)), None)
    try:
        size = int(float(text.removesuffix(unit)) * _UNITS[unit]) if unit is not None else 0
    except (OverflowError, ValueError):
        size = 0
    if size < LEAST_MEMORY:
        raise WrongValue("a size of 64MB or more, like 500MB or 2GB")
    return size


def read_solver(value: Any) -> str:
    """A solver's name, with its settings behind it."""
    try:
        solver_asked(str(value))
    except ValueError as error:
        raise WrongValue(str(error)) from error
    return str(value)


def read_loss(value: Any) -> str:
    """A loss's name, with its settings behind it."""
    try:
        loss_asked(str(value))
    except ValueError as error:
        raise WrongValue(str(error)) from error
    return str(value)


def one_of(*words: str) -> Callable[[Any], str]:
    """A reader of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise WrongValue(f"one of {', '.join(words)}")
        return str(value)

    return read


def read_device(value: Any) -> str:
    """A device as torch calls it, or auto."""
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise WrongValue("auto, cpu, cuda, cuda:N or mps")
    return value


def read_share(value: Any) -> float:
    """A probability below one: 0.9, or 90%."""
    number = value
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1:
        raise WrongValue("a share between 0 and 1, like 0.9")
    return float(number)


def read_noise_rate(value: Any) -> tuple[float, float]:
    """A share of wrong labels, or a range of them: 20%, 0.2, 10-30%. As (low, high)."""
    expected = "a share like 20%, or a range like 10-30%"
    text = value.strip() if isinstance(value, str) else value
    if not isinstance(text, str):
        parts = list(text) if isinstance(text, list | tuple) else [text, text]
    else:
        low, dash, high = text.partition("-")
        # One sign of percent stands for both ends.
        parts = [low + "%" if high.endswith("%") and not low.endswith("%") else low, high] if dash else [low, low]
    try:
        found = [0.0 if _is_zero(part) else read_share(part) for part in parts]
    except WrongValue:
        raise WrongValue(expected) from None
    if len(found) != 2 or found[0] > found[1] or found[1] == 0:
        raise WrongValue(expected)
    return found[0], found[1]


def _is_zero(value: Any) -> bool:
    return str(value).strip() in ("0", "0%", "0.0")


def _percent(text: str) -> bool:
    """Is this 0% to 100%?"""
    number = text.removesuffix("%").strip()
    shaped = re.fullmatch(r"\d{1,9}(\.\d{1,300})?", number, re.ASCII) is not None
    return text.endswith("%") and shaped and float(number) <= 100


def read_count(value: Any) -> str:
    """A number of findings, or a share of the rows: "20", "1.5%"."""
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if whole(text) is None and not _percent(text):
        raise WrongValue("a whole number, or a share of the rows like 2%")
    return text


def read_noise_rates(value: Any) -> tuple[str, ...]:
    """``5%`` of all labels, ``class:5%`` of each class, ``class:NAME:5%`` of one; several of them as a list.

    ``estimate:`` before any of them compares the bare estimate in place of what is known for sure.
    """
    found = read_list(value)
    for text in found:
        plain = text.removeprefix("estimate:")
        limit = plain.rpartition(":")[2]
        if not _percent(limit) or (plain != limit and not plain.startswith("class:")):
            raise WrongValue("a share like 5%, class:5% (each class) or class:NAME:5%, with estimate: before it or not")
    return found


def read_params(value: Any) -> str:
    """A word, or a regular expression over the names of parameters."""
    try:
        re.compile(read_text(value))
    except re.error as error:
        raise WrongValue(f"auto, head, all or a regular expression ({error})") from None
    return str(value)


def read_texts(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise WrongValue("a list of texts")
    found = tuple(part.strip() for part in parts if part.strip())
    if not found:
        raise WrongValue("a list of texts")
    return found


def read_list(value: Any) -> tuple[str, ...]:
    """A list, or one text as it is: a path may hold a comma."""
    return read_texts([value] if isinstance(value, str) else value)


def read_classes(value: Any) -> tuple[str, ...] | str:
    """A list, names with commas between, or the name of a file: read where it is known what it is relative to."""
    return value if isinstance(value, str) and value.strip() and "," not in value else read_texts(value)


def read_model_args(value: Any) -> dict[str, Any]:
    """A table, or texts like NAME=VALUE."""
    expected = "NAME=VALUE, or a table of names and values"
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise WrongValue(expected)
    found: dict[str, Any] = {}
    for part in value:
        name, sign, text = part.partition("=") if isinstance(part, str) else ("", "", "")
        if not sign or not name.strip().isidentifier():
            raise WrongValue(expected)
        found[name.strip()] = text.strip()  # the model loader reads literals
    return found
