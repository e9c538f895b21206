"""The options' names and types: one table, used for the command line, the environment and files alike.

Knows how a value is read from TOML or from text and what is wrong with it; leaves where it came from to
``curate.settings.merge`` and ``curate.settings.files``.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from curate.plugs import CURVATURES, solver_asked
from curate.settings.specs import whole

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class WrongValue(ValueError):
    """The text says what was expected: "a whole number, at least 1"."""


@dataclass(frozen=True)
class Option:
    """``key`` in ``ScanSettings``, ``flag`` on the command line, ``read`` from TOML or text to the setting's value.

    ``place`` says what a relative value is relative to its file as: "data", "code", "path", "run" (a number is none),
    "classes", "keys" or "format".
    """

    key: str
    flag: str
    read: Callable[[Any], Any]
    place: str | None = None
    typed: bool = False  # a number or a boolean where the form has such (TOML)

    def opposite(self, value: Any) -> bool:
        """The value for ``no-<flag>``."""
        return not self.read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise WrongValue("a text")
    return value


def _column(value: Any) -> str:
    """A name, or a number where columns have none."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _run(value: Any) -> str:
    """The number of a run, or a database."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else _text(value)
    if text.isdecimal() and whole(text) is None:
        raise WrongValue("the number of a run, or a database")
    return text


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise WrongValue("true or false")


LARGEST_SEED = 2**32 - 1
"""numpy and scikit-learn take no larger one."""
LARGEST = 2**63 - 1
"""A database holds no larger whole number."""


def _whole(least: int, *words: str, most: int = LARGEST) -> Callable[[Any], int | None]:
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


def _eval_rows(value: Any) -> int | str:
    """How many rows to solve for one by one, or which rows harm is measured on."""
    expected = "a whole number, at least 1, or mistakes, all, keys with commas between, or a file of keys"
    if isinstance(value, str) and value.strip() and not value.strip().lstrip("-+").isdigit():
        return value.strip()
    try:
        number = _whole(1)(value)
    except WrongValue:
        raise WrongValue(expected) from None
    assert number is not None
    return number


def _slice(value: Any) -> str:
    column, sign, wanted = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not column.strip() or (sign and not wanted.strip()):
        raise WrongValue("COLUMN=VALUE, like label=cat, or a COLUMN")
    return f"{column.strip()}={wanted.strip()}" if sign else column.strip()


def _positive(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WrongValue("a number above 0")
    return number


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise WrongValue(f"one of {', '.join(words)}")
        return str(value)

    return read


def _solver(value: Any) -> str:
    try:
        solver_asked(str(value))
    except ValueError as error:
        raise WrongValue(str(error)) from error
    return str(value)


def _curvature(value: Any) -> str:
    return _one_of(*CURVATURES)(value)


def _device(value: Any) -> str:
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


def _noise_rate(value: Any) -> tuple[float, float]:
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


def _count(value: Any) -> str:
    """A number of findings, or a share of the rows: "20", "1.5%"."""
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if whole(text) is None and not _percent(text):
        raise WrongValue("a whole number, or a share of the rows like 2%")
    return text


def _noise_rates(value: Any) -> tuple[str, ...]:
    """``5%`` of all labels, ``class:5%`` of each class, ``class:NAME:5%`` of one; several of them as a list.

    ``estimate:`` before any of them compares the bare estimate in place of what is known for sure.
    """
    found = _list(value)
    for text in found:
        plain = text.removeprefix("estimate:")
        limit = plain.rpartition(":")[2]
        if not _percent(limit) or (plain != limit and not plain.startswith("class:")):
            raise WrongValue("a share like 5%, class:5% (each class) or class:NAME:5%, with estimate: before it or not")
    return found


def _params(value: Any) -> str:
    try:
        re.compile(_text(value))
    except re.error as error:
        raise WrongValue(f"auto, head, all or a regular expression ({error})") from None
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise WrongValue("a list of texts")
    found = tuple(part.strip() for part in parts if part.strip())
    if not found:
        raise WrongValue("a list of texts")
    return found


def _list(value: Any) -> tuple[str, ...]:
    """A list, or one text as it is: a path may hold a comma."""
    return _texts([value] if isinstance(value, str) else value)


def _classes(value: Any) -> tuple[str, ...] | str:
    """A list, names with commas between, or the name of a file: read where it is known what it is relative to."""
    return value if isinstance(value, str) and value.strip() and "," not in value else _texts(value)


def _model_args(value: Any) -> dict[str, Any]:
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


def _option(
    flag: str, read: Callable[[Any], Any], place: str | None = None, *, key: str | None = None, typed: bool = False
) -> Option:
    return Option(key or flag.replace("-", "_"), flag, read, place, typed)


OPTIONS: dict[str, Option] = {
    option.key: option
    for option in (
        _option("train", _text, "data"),
        _option("eval", _text, "data"),
        _option("input", _column),
        _option("label", _column),
        _option("id", _column),
        _option("split", _column),
        _option("header", _flag, typed=True),
        _option("limit", _whole(1), typed=True),
        _option("strict", _flag, typed=True),
        _option("classes", _classes, "classes"),
        _option("name", _text),
        _option("model", _text, "code"),
        _option("model-arg", _model_args, key="model_args"),
        _option("weights", _list, "path"),
        _option("trust-checkpoint", _flag, typed=True),
        _option("head", _text),
        _option("pred-probs", _text, "path"),
        _option("votes", _list, "path"),
        _option("params", _params),
        _option("solver", _solver),
        _option("curvature", _curvature),
        _option("damping", _positive, typed=True),
        _option("neighbours", _whole(1), typed=True),
        _option("eval-rows", _eval_rows, "keys"),
        _option("slice", _slice),
        _option("expected-precision", read_share, typed=True),
        _option("noise-rate", _noise_rate),
        _option("seed", _whole(0, most=LARGEST_SEED), typed=True),
        _option("device", _device),
        _option("batch-size", _whole(1, "auto"), typed=True),
        _option("db", _text, "path"),
        _option("cache", _flag, typed=True),
        _option("thumbnails", _flag, typed=True),
        _option("text", _flag, typed=True),
        _option("media-root", _list, "path"),
        _option("fail-on", _texts),
        _option("max-findings", _count),
        _option("max-noise-rate", _noise_rates),
        _option("baseline", _text, "path"),
        _option("new-only", _flag, typed=True),
        _option("changed-rows", _flag, typed=True),
        _option("since", _run, "run"),
        _option("exit-zero", _flag, typed=True),
        _option("format", _list, "format"),
    )
}


def option_named(name: str) -> tuple[Option, bool] | None:
    """The option of a key with - or _, and whether it is asked the other way round (``no-cache``)."""
    flag = name.replace("_", "-")
    by_flag = {option.flag: option for option in OPTIONS.values()} | {"model-args": OPTIONS["model_args"]}
    if flag in by_flag:
        return by_flag[flag], False
    turned = by_flag.get(flag.removeprefix("no-"))
    return (turned, True) if turned is not None and turned.read is _flag else None
