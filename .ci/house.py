"""The numbers of the house, from the syntax trees: ``python .ci/house.py``, from anywhere; it ends with 1 over a limit.

The limits stand in pyproject.toml under [tool.house]; a rise of one is an edit there, with its reason. Standard library
only.
"""

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "curate"
LONG_FUNCTION, MANY_PARAMETERS = 50, 8
DOOR = "curate/engine/passes.py"
BEHIND_THE_DOOR = ("engine", "stages", "experiments")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SKIP = "# fmt: " + "skip"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A file of the package: its lines, its tree and where it is."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        text = path.read_text(encoding="utf-8")
        self.lines = text.splitlines()
        self.tree = ast.parse(text)

    def statements(self) -> int:
        """Statements of the tree: long lines gain nothing. A docstring is none."""
        return sum(isinstance(node, ast.stmt) and not _is_text(node) for node in ast.walk(self.tree))

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def long_functions(self) -> Iterator[str]:
        """Functions whose body is over the limit and has no comment above that says why; docstrings do not count."""
        for node in self.functions():
            body = node.body[1:] if _is_text(node.body[0]) else node.body
            if not body or (body[-1].end_lineno or 0) - body[0].lineno + 1 <= LONG_FUNCTION:
                continue
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if not self.lines[first - 2].lstrip().startswith("#"):
                yield f"{self.name}:{node.lineno} {node.name}"

    def wide_functions(self) -> Iterator[str]:
        """Functions of many parameters; click hands a command its options by name, so cli is no part of this."""
        for node in self.functions():
            given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            count = sum(argument.arg not in ("self", "cls") for argument in given)
            if count >= MANY_PARAMETERS and self.room not in ("cli", "api"):
                yield f"{self.name}:{node.lineno} {node.name} ({count})"

    def other_doors(self) -> Iterator[str]:
        """Tensors taken apart, or counted through in steps, beside the one door of loops over rows."""
        if self.room not in BEHIND_THE_DOOR or self.name == DOOR:
            return
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _takes_apart(node):
                yield f"{self.name}:{node.lineno} {ast.unparse(node)}"

    def public(self, told: set[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
        """Public functions, classes and methods of public classes: is there a docstring, its own or a base's?"""
        yield from self._public(self.tree.body, told)

    def _public(
        self, body: list[ast.stmt], told: set[tuple[str, str]], bases: Sequence[str] = ()
    ) -> Iterator[tuple[str, bool]]:
        for node in body:
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if isinstance(node, FUNCTIONS) and _belongs_to_another(node):
                continue
            has = ast.get_docstring(node) is not None or any((base, node.name) in told for base in bases)
            yield f"{self.name}:{node.lineno} {node.name}", has
            if isinstance(node, ast.ClassDef):
                yield from self._public(node.body, told, _bases(node))


def told_in_bases(modules: list[Module]) -> set[tuple[str, str]]:
    """(class, method) of methods with a docstring, their own or a base's, as ``help`` shows it."""
    classes = [node for module in modules for node in module.classes()]
    told = {
        (node.name, part.name)
        for node in classes
        for part in node.body
        if isinstance(part, FUNCTIONS) and ast.get_docstring(part) is not None
    }
    grown = True
    while grown:
        more = {(node.name, name) for node in classes for base, name in told if base in _bases(node)}
        grown = not more <= told
        told |= more
    return told


def _bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _belongs_to_another(node: Function) -> bool:
    """Overloads and setters are told with what they belong to."""
    told = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(told & {"overload", "setter", "override"})


def _takes_apart(call: ast.Call) -> bool:
    """A call of `range` with a step, or of a tensor's `split`: that of a text has no argument, or a text."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "range" and len(call.args) == 3
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("split", "chunk", "array_split"):
        return False
    return bool(call.args) and not (isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str))


def main() -> int:
    """Print what is over a limit; the exit status."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        limits = tomllib.load(file)["tool"]["house"]
    modules = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
    twice = Counter(node.name for module in modules for node in module.classes())
    words = told_in_bases(modules)
    public = [found for module in modules for found in module.public(words)]
    bare = [name for name, has in public if not has]
    lists = {
        "long_functions": [name for module in modules for name in module.long_functions()],
        "wide_functions": [name for module in modules for name in module.wide_functions()],
        "long_files": [module.name for module in modules if len(module.lines) > limits["lines_of_a_file"]],
        "fmt_skips": [
            module.name
            for module in modules
            for line in module.lines
            if SKIP in line and module.name not in limits["released_migrations"]
        ],
        "class_names_twice": [name for name, count in sorted(twice.items()) if count > 1],
        "bare_public_names": bare,
        "other_doors": [name for module in modules for name in module.other_doors()],
    }
    failed = False
    for name, found in lists.items():
        over = len(found) > limits[name]
        failed |= over
        print(f"{name.replace('_', ' ')}: {len(found)}, at most {limits[name]}{' <- OVER' if over else ''}")
        if over or "-v" in sys.argv:
            print(*(f"    {one}" for one in found), sep="\n")
    print(f"public names with a docstring: {100 * (1 - len(bare) / len(public)):.1f} %")
    rooms: Counter[str] = Counter()
    for module in modules:
        rooms[module.room] += module.statements()
    for room in sorted(rooms.keys() | limits["statements"].keys()):
        budget = limits["statements"].get(room, 0)
        if rooms[room] > budget:
            failed = True
            print(f"statements of curate/{room}: {rooms[room]}, at most {budget} <- OVER")
    print(f"statements: {sum(rooms.values())}, at most {sum(limits['statements'].values())}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
