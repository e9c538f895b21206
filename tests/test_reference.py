"""What can be named stands in the reference: commands, rules, columns, plugs, statuses, and all of Python's doors."""

import inspect
import re
from pathlib import Path

import pytest

import curate
import curate.engine
import curate.errors
from curate.cli import COMMANDS
from curate.plugs import EXPERTS, SOLVERS
from curate.rules.rule import RULES
from curate.settings.options import OPTIONS
from curate.store.glossary import TABLES

DOCS = Path(__file__).parent.parent / "docs"
MOST_WORDS = 1_200
LONG = {"reference/commands.md", "reference/database.md", "reference/errors.md", "reference/rules.md", "changelog.md"}
"""Pages that are looked things up in."""


def words(text: str) -> int:
    """Of its sentences: tables, code and comments left out."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    return sum(len(line.split()) for line in text.splitlines() if not line.startswith("|"))


def pages() -> list[str]:
    return sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("commands", [f"curate {name}" for name in COMMANDS]),
        ("commands", [f"`{option.spelling}" for option in OPTIONS.values() if option.key != "train"]),
        ("rules", [f"## {name}" for name in RULES]),
        ("database", [f"## {name}\n" for name in TABLES]),
        ("errors", [f"`{name}`" for name, kind in vars(curate.errors).items()
                    if isinstance(kind, type) and name not in ("CurateError", "LoadError", "UnreadableRow", "Path")]),
    ],
)  # fmt: skip
def test_every_name_stands_in_its_page(page: str, names: list[str]) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text("utf-8")
    assert names
    assert [name for name in names if name not in text] == []


def test_every_solver_and_expert_is_explained() -> None:
    table = (DOCS / "reference" / "commands.md").read_text("utf-8")
    assert [name for name in SOLVERS if f"`{name}`" not in table] == []
    text = "".join(file.read_text("utf-8") for file in (DOCS / "explanation").glob("*.md"))
    assert [name for name in EXPERTS if name not in text] == []


def test_every_door_for_python_has_a_docstring_that_the_reference_shows() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    assert "curate.scan" in page
    assert "curate.Run" in page
    assert "automodule:: curate.engine" in page
    shown = [(name, getattr(curate.Run, name)) for name in vars(curate.Run) if not name.startswith("_")]
    shown += [(name, getattr(curate.engine, name)) for name in curate.engine.__all__]
    assert [name for name, thing in shown if not inspect.getdoc(thing)] == []


@pytest.mark.parametrize("page", [page for page in pages() if page not in LONG])
def test_a_page_is_read_in_a_few_minutes(page: str) -> None:
    assert words((DOCS / page).read_text("utf-8")) <= MOST_WORDS
