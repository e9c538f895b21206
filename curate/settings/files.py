"""Files of settings: where they are, what their relative paths are relative to, and what they may ask for.

``[tool.curate]`` of the nearest pyproject.toml, ``curate.toml`` beside it, ``--config FILE``, and the ``curate.toml``
of the folder that is scanned. The last comes with the data, perhaps from strangers: outside of the current
directory it may not run code, load a pickle or say where to write.
"""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.files.reading import read_names, read_text
from curate.plugs import SOURCES
from curate.settings.option import Option
from curate.settings.options import OPTIONS, option_named
from curate.settings.specs import did_you_mean, is_address, is_file, near_path, split_code, split_kind, split_model
from curate.settings.values import WrongValue

_NOT_FROM_STRANGERS = {
    "model": "names Python code",
    "model_args": "gives arguments to Python code",
    "trust_checkpoint": "would let a checkpoint run code",
    "db": "says where to write",
    "format": "says where to write",
    "baseline": "says where to write",
    "since": "names another database",
    "media_root": "would show other files of this machine",
}
_OF_DATA = frozenset({"train", "eval"})


@dataclass
class Layer:
    """Settings from one place; ``base`` is what its relative paths are relative to, as seen from the cwd."""

    where: str
    base: Path
    values: dict[str, Any] = field(default_factory=dict)
    of_train: bool = False  # the curate.toml of the scanned folder
    strangers: bool = False  # it came with data from outside of the current directory

    def put(self, option: Option, value: Any, called: str, *, from_file: bool = False, turned: bool = False) -> None:
        """Read, check and keep one value; a file's paths are taken from the file on. Raises ``UsageError``.

        ``turned``: it was asked the other way round (``no-cache``).
        """
        try:
            # TOML has numbers and booleans: a text in their place is a slip.
            if _has_nul(value):
                raise WrongValue("a text without the sign NUL")
            slip = from_file and option.typed and isinstance(value, str) and value != "auto"
            read = option.read(None if slip else option.opposite(value) if turned else value)
        except WrongValue as error:
            parts = value if isinstance(value, list | tuple) else [value]
            shown = ", ".join(f"'{part}'" if isinstance(part, str) else str(part) for part in parts)
            raise UsageError(f"{called} is {shown}.", f"Give {error}.") from None
        if from_file and option.place is not None:
            if isinstance(read, str):
                read = self._placed(option, read)
            elif isinstance(read, tuple) and option.place != "classes":  # classes in a list are names
                read = tuple(self._placed(option, part) for part in read)
        if option.place == "classes":
            read = _class_file(Path(read), called) if isinstance(read, str) else read
        self.values[option.key] = read

    def _placed(self, option: Option, value: str) -> str:
        if is_address(value) or value.startswith("~"):
            return value
        if option.place == "data":
            kind, location = split_kind(value)
            if is_address(location):
                return value
            if kind is None:
                return self._path(location)
            if kind == "python":
                return f"python:{self._code(location)}"
            if kind == "torchvision":
                name, colon, root = location.partition(":")
                return f"{kind}:{name}:{self._path(root)}" if colon and root else value
            placed = (kind in SOURCES and SOURCES[kind].path) or (kind == "hf" and (self.base / location).exists())
            return f"{kind}:{self._path(location)}" if placed else value
        if option.place == "code":
            family, name = split_model(value)
            if family is not None:
                # A folder or an id: only what is there, or can be nothing else, is a path.
                local = name.startswith(".") or (self.base / name).is_dir()
                return f"{family}:{self._path(name)}" if family == "hf" and local else value
            return self._code(value)
        if option.place == "keys":  # a word, keys, or a file of them
            return self._path(value) if is_file(str(self.base / value)) else value
        if option.place == "format":
            kind, colon, file = value.partition(":")
            return f"{kind}:{self._path(file)}" if colon and file else value
        if option.place == "run" and value.isdecimal():
            return value
        return self._path(value)

    def _code(self, value: str) -> str:
        where, name = split_code(value)
        return self._path(where) + (f":{name}" if name else "") if where.endswith(".py") else value

    def _path(self, text: str) -> str:
        return (self.base / text).as_posix() if not Path(text).is_absolute() else text


def _has_nul(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, str) and "\0" in value


def file_layers(
    cwd: Path, config: Path | None, train: str | None, overruled: frozenset[str] = frozenset()
) -> list[Layer]:
    """Layers from files, the strongest first. ``train`` is the location on the command line, if one was given.

    ``overruled`` are the settings that stronger places gave: a stranger's file may name them, to no effect.
    """
    found: list[Layer] = []
    seen: set[Path] = set()
    folder = _train_folder(cwd, train)
    if folder is not None:
        own = cwd / folder / "curate.toml"
        seen.add(own.resolve())
        trusted = (cwd / folder).resolve().is_relative_to(cwd.resolve()) or (
            config is not None and own.resolve() == (cwd / config).resolve()
        )
        found.append(_layer(own, folder, _toml(own), strangers=not trusted, of_train=True, overruled=overruled))
    if config is not None:
        path = cwd / config
        if not os.path.isfile(path):
            raise UsageError(f"There is no settings file {config} (--config).", near_path(config))
        if path.resolve() not in seen:
            values = _toml(path)
            if path.name == "pyproject.toml":
                values = _tool_table(values)
            # A file named by hand is stronger than one that lies about.
            found.insert(0, _layer(path, config.parent, values))
        return found
    here = cwd / "curate.toml"
    if here.is_file() and here.resolve() not in seen:
        found.append(_layer(here, Path(), _toml(here)))
    for parent in (cwd.resolve(), *cwd.resolve().parents):
        project = parent / "pyproject.toml"
        if project.is_file():
            base = Path(os.path.relpath(parent, cwd.resolve()))
            found.append(_layer(project, base, _tool_table(_toml(project)), table="[tool.curate] "))
            break
    return found


def _train_folder(cwd: Path, train: str | None) -> Path | None:
    if train is None:
        return None
    kind, location = split_kind(train)
    if kind not in (None, "images"):
        return None
    folder = Path(location)
    return folder if os.path.isfile(cwd / folder / "curate.toml") else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except RecursionError:
        raise UsageError(f"{path.as_posix()} is no valid TOML: it is nested too deeply.") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number with thousands of digits
        raise UsageError(f"{path.as_posix()} is no valid TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path.as_posix()} cannot be read: {error.strerror}.") from error


def _tool_table(values: dict[str, Any]) -> dict[str, Any]:
    tool = values.get("tool", {})
    table = tool.get("curate", {}) if isinstance(tool, dict) else {}
    return table if isinstance(table, dict) else {}


def _layer(
    path: Path,
    base: Path,
    values: dict[str, Any],
    *,
    table: str = "",
    strangers: bool = False,
    of_train: bool = False,
    overruled: frozenset[str] = frozenset(),
) -> Layer:
    shown = (base / path.name).as_posix()
    layer = Layer(shown, base, of_train=of_train, strangers=strangers)
    for name, value in values.items():
        found = option_named(name)
        if found is None:
            known = [option.flag for option in OPTIONS.values()]
            hint = did_you_mean(name.replace("_", "-"), known) or f"The settings are {', '.join(known)}."
            raise UsageError(f"{shown}: {table}there is no setting '{name}'.", hint)
        option, turned = found
        refused = _NOT_FROM_STRANGERS.get(option.key)
        if option.key in _OF_DATA and isinstance(value, str) and split_kind(value.strip())[0] == "python":
            refused = "names Python code"
        if option.key in (*_OF_DATA, "weights") and "://" in str(value):
            refused = "names an address"
        if strangers and refused is not None:
            # `train` on the command line names the folder, whose settings then name the data.
            if option.key in overruled and option.key != "train":
                continue
            raise UsageError(
                f"{shown}: `{name}` {refused}, and this folder is outside of the current one.",
                f"If you trust it, pass --config {shown}, or run curate from a folder above it.",
            )
        called = f"{shown}: {table}`{name}`"
        layer.put(option, value, called, from_file=True, turned=turned)
    return layer


def _class_file(path: Path, called: str) -> tuple[str, ...]:
    if not os.path.isfile(path):  # a name longer than a path may be is no file either
        raise UsageError(
            f"{called}: there is no file {path.as_posix()}, and one class alone is no list.",
            "Give the names with commas between, or a file with one on each line.",
        )
    return tuple(read_names(path, called))
