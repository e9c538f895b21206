"""How curate and its extras are installed: the one place that a release changes.

Nothing is published under the distribution's name yet, so a clone is what there is.
"""

UPGRADE = "`git pull && pip install .` in your clone of curate"


def install(extra: str) -> str:
    """The command that adds an extra: ``pip install '.[review]'``."""
    return f"pip install '.[{extra}]'"


def needs(extra: str) -> str:
    """What to do where an extra is missing."""
    return f"`{install(extra)}` in your clone of curate"
