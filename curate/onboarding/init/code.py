"""Python files that make a model, found by reading them: nothing is imported or run here.

Knows how people write networks (a class of nn.Module, a function that returns one) and what else a file does when it is
imported.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curate.onboarding.init.found import inside, visible

MODULES = frozenset({"Module", "LightningModule", "PreTrainedModel", "Sequential"})
MAKERS = frozenset({"Sequential", "create_model", "get_model", "from_pretrained"})
FAMILIES = frozenset({"models", "torchvision", "timm"})
GOOD_FUNCTIONS = re.compile(r"^((build|make|create|get|load)(_?(model|net|network|classifier))?|model|net)$")
GOOD_CLASSES = re.compile(r"^(\w*(Net|Model|Classifier|Network)|CNN|MLP)$")
GOOD_FILES = re.compile(r"^(my_?)?(models?|nets?|networks?|architecture)$")
COUNTS = frozenset({"num_classes", "n_classes", "nclasses", "classes", "num_labels", "n_labels", "n_class"})
"""Names of arguments that take the number of classes."""
HARMLESS = frozenset({"manual_seed", "filterwarnings", "simplefilter", "basicConfig", "insert", "append", "seed"})


@dataclass(frozen=True)
class Maker:
    """``file.py:name`` that seems to make a model. ``needs`` are arguments without a default, ``count`` is the one that
    takes the number of classes, ``runs`` is a line that does work when the file is imported."""

    file: str
    name: str
    line: int
    needs: tuple[str, ...]
    count: str | None
    runs: int | None
    rank: int

    @property
    def spec(self) -> str:
        """As --model names it."""
        return f"{self.file}:{self.name}"


def find_makers(folder: Path) -> list[Maker]:
    """The likeliest first."""
    files = [path for path in visible(folder) if path.suffix == ".py" and not _is_other(path.stem)]
    makers = [maker for path in files for maker in _makers(path, inside(path, folder))]

    def order(maker: Maker) -> tuple[bool, bool, bool, int, str, int]:
        hard = bool(set(maker.needs) - COUNTS)
        good_file = GOOD_FILES.match(Path(maker.file).stem.lower()) is not None
        return maker.runs is not None, hard, not good_file, maker.rank, maker.file, -maker.line

    return sorted(makers, key=order)


def _is_other(stem: str) -> bool:
    return stem.startswith(("test_", "_")) or stem in ("setup", "conftest")


def _makers(path: Path, file: str) -> Iterator[Maker]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    classes = _module_classes(tree)
    used = {_last(call.func) for owner in classes.values() for call in ast.walk(owner) if isinstance(call, ast.Call)}
    runs = next((node.lineno for node in tree.body if _works(node)), None)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in classes and not node.name.startswith("_"):
            init = next((x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"), None)
            rank = 5 if node.name in used else 1 if GOOD_CLASSES.match(node.name) else 3
            yield Maker(file, node.name, node.lineno, *_arguments(init, 1), runs, rank)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _returns_model(node, set(classes)):
            rank = 0 if GOOD_FUNCTIONS.match(node.name) else 2
            yield Maker(file, node.name, node.lineno, *_arguments(node, 0), runs, rank)
        elif (
            isinstance(node, ast.Assign) and _makes(node.value, set(classes)) and isinstance(node.targets[0], ast.Name)
        ):
            yield Maker(file, node.targets[0].id, node.lineno, (), None, runs, 4)


def _module_classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    """The file's classes that are networks, through its own base classes too."""
    found: dict[str, ast.ClassDef] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(
            _last(base) in MODULES or _last(base) in found for base in node.bases
        ):
            found[node.name] = node
    return found


def _returns_model(function: ast.FunctionDef, classes: set[str]) -> bool:
    if function.returns is not None and _last(function.returns) in MODULES | classes:
        return True
    held = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _makes(node.value, classes)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return any((isinstance(x, ast.Name) and x.id in held) or (x is not None and _makes(x, classes)) for x in returned)


def _makes(value: ast.expr, classes: set[str]) -> bool:
    """Whether an expression is a call of something that gives a network."""
    if not isinstance(value, ast.Call):
        return False
    path = _path(value.func)
    return bool(path) and (path[-1] in MAKERS | classes or (len(path) > 1 and path[-2] in FAMILIES))


def _path(node: ast.expr) -> list[str]:
    """``a.b.c`` as its names; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        inner = _path(node.value)
        return [*inner, node.attr] if inner else []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # an annotation in quotes
        return node.value.split(".")
    return []


def _last(node: ast.expr) -> str:
    return (_path(node) or [""])[-1]


def _arguments(function: ast.FunctionDef | None, bound: int) -> tuple[tuple[str, ...], str | None]:
    """(arguments without a default, the argument that takes the number of classes)."""
    if function is None:
        return (), None
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    needed = plain[: len(plain) - len(given.defaults)][bound:]
    needed += [name for name, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    names = [argument.arg for argument in [*plain[bound:], *given.kwonlyargs]]
    return tuple(argument.arg for argument in needed), next((name for name in names if name in COUNTS), None)


def _works(node: ast.stmt) -> bool:
    """Whether a statement of the file's top level does work: a loop, or a call for its effect."""
    if isinstance(node, ast.For | ast.While | ast.With):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _last(node.value.func) not in HARMLESS
