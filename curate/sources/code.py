"""A person's own Python code, by ``file.py:name`` or ``pkg.mod:name``: imported, called, blamed by its line.

Knows how code is found and whose line failed; leaves what it makes (a model, a data set) to those who ask.
Nothing here imports torch.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from curate.errors import CurateError, LoadError, UsageError
from curate.process.frames import first_line, user_frame
from curate.settings.specs import did_you_mean, near_path


@dataclass(frozen=True)
class Role:
    """What the code is to make, in the words of the messages."""

    error: type[LoadError]
    thing: str
    """``"model"`` or ``"data set"``."""
    prefix: str
    """What stands before the code in the person's spec."""
    forms: str
    """The specs that would do."""


@contextmanager
def importable(where: str) -> Iterator[None]:
    """Neighbours of the code's file (or of the current directory) can be imported; no bytecode is left behind."""
    folder = str(Path(where).resolve().parent) if where.endswith(".py") else str(Path.cwd())
    wrote_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def users_code(doing: str, where: str, role: Role) -> Iterator[None]:
    """What the person's code raises becomes an error that names their line."""
    try:
        yield
    except CurateError:
        raise
    except (Exception, SystemExit) as error:
        raise role.error(
            f"{doing} failed at {user_frame(error, where)} with {type(error).__name__}: {first_line(error)}",
            f"This is the {role.thing}'s own code: mend it there.",
        ) from error


def import_code(where: str, role: Role) -> ModuleType:
    """The module in a file, or of a dotted name; inside of ``importable``."""
    if where.endswith(".py"):
        return _import_file(where, role)
    if not all(part.isidentifier() for part in where.split(".")):
        raise UsageError(f"{role.prefix}{where} names no Python code.", f"Give {role.forms}.")
    try:
        with users_code(f"importing {where}", where, role):
            return importlib.import_module(where)
    except role.error as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name and f"{where}.".startswith(f"{missing.name}."):
            raise role.error(
                f"There is no Python module '{missing.name}' ({role.prefix}{where}).",
                f"Give {role.forms}; modules are looked for in the current directory too.",
            ) from missing
        raise


def _import_file(where: str, role: Role) -> ModuleType:
    path = Path(where)
    if not path.is_file():
        raise role.error(f"There is no {role.thing} file {where}.", near_path(path))
    # Its own name in sys.modules, so that two data sets may each bring a model.py.
    name = "curate_code_" + hashlib.sha256(f"{role.thing}:{path.resolve()}".encode()).hexdigest()[:12]
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise role.error(f"{where} cannot be imported as Python.")
    holder = importlib.util.module_from_spec(found)
    sys.modules[name] = holder
    try:
        with users_code(f"importing {where}", where, role):
            found.loader.exec_module(holder)
    except role.error:
        sys.modules.pop(name, None)
        raise
    return holder


def named(holder: ModuleType, name: str | None, where: str, role: Role, is_made: Callable[[Any], bool]) -> Any:
    """The attribute that makes the thing, or is it; ``is_made`` knows the thing itself, to list what there is."""
    makers = [
        key
        for key, value in vars(holder).items()
        if not key.startswith("_")
        and (is_made(value) or (callable(value) and getattr(value, "__module__", "") == holder.__name__))
    ]
    listed = f"{where} holds {', '.join(makers[:12]) or f'no function, class or {role.thing}'}"
    if name is None:
        raise role.error(
            f"{role.prefix}{where} does not say what makes the {role.thing}.", f"{listed}: give {where}:NAME."
        )
    try:
        return getattr(holder, name)
    except AttributeError as error:
        hint = did_you_mean(name, makers)
        raise role.error(f"{where} has no '{name}'.", f"{listed}. {hint}".rstrip()) from error


def call(factory: Callable[..., Any], arguments: dict[str, object], spec: str, where: str, role: Role, way: str) -> Any:
    """What the person's function or class gives; ``way`` says how arguments are given."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise role.error(f"{spec}{signature} cannot be called: {error}.", way) from error
    with users_code(f"calling {spec}", where, role):
        return factory(**arguments)
