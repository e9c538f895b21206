"""How curate is installed, and so how an extra is added or curate made newer: from a clone, or from an index.

Knows what pip writes down of an installation (PEP 610); the advice is true for the one that runs.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

NAME = "curate-data"
ROOT = Path(__file__).parents[2]
"""What holds the package: a checkout, or the folder of all packages."""


def install(extra: str) -> str:
    """The command that adds an extra: ``pip install '.[review]'`` in a clone, by its name elsewhere."""
    return f"pip install '{NAME if from_index() else '.'}[{extra}]'"


def needs(extra: str) -> str:
    """What to do where an extra is missing."""
    return f"`{install(extra)}`{'' if from_index() else ' in your clone of curate'}"


def upgrade() -> str:
    """How to get a newer curate."""
    return f"`pip install -U {NAME}`" if from_index() else "`git pull && pip install .` in your clone of curate"


def from_index() -> bool:
    """It was installed by its name; pip notes it where a package came from anywhere else."""
    if (ROOT / "pyproject.toml").exists():
        return False
    try:
        return distribution(NAME).read_text("direct_url.json") is None
    except PackageNotFoundError:
        return False
