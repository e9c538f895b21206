"""Where the settings of a data folder belong: into the project around it, and only there.

Knows what makes a folder a project: code that makes a model, checkpoints, a file of settings. Leaves looking at them to
``code`` and ``checkpoints``.
"""

import os
from dataclasses import replace
from pathlib import Path

from curate.onboarding.init.checkpoints import find_checkpoints
from curate.onboarding.init.code import find_makers
from curate.onboarding.init.found import Discovery
from curate.settings.specs import split_kind

SETTINGS = ("pyproject.toml", "curate.toml")
PLACES = ("train", "eval")
"""Settings whose values are places of the data."""


def project_of(folder: Path) -> Path:
    """The folder to write into. ``folder`` itself if it is a project, else the nearest such one above it.

    No further up than the current folder, which it is if there is no sign of a project. A folder outside of the current
    one is its own project if it looks like one.
    """
    around = [folder, *_above(folder)]
    for holds in (_has_code, find_checkpoints):
        for place in around:
            if holds(place):
                return place
    return around[-1]


def _above(folder: Path) -> list[Path]:
    """The folders above, up to the current one; the current one alone if ``folder`` lies outside of it."""
    here = Path.cwd().resolve()
    inner = folder.resolve()
    if inner == here:
        return []
    if not inner.is_relative_to(here):
        return [Path()]
    return [Path(os.path.relpath(place, here)) for place in inner.parents if place.is_relative_to(here)]


def _has_code(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SETTINGS) or bool(find_makers(folder))


def rebase(found: Discovery, folder: Path, project: Path) -> None:
    """Places in ``folder``, as the file in ``project`` names them."""
    for key in PLACES:
        if key in found.settings:
            setting = found.settings[key]
            kind, location = split_kind(str(setting.value))
            place = Path(os.path.relpath(folder / location, project)).as_posix()
            found.settings[key] = replace(setting, value=f"{kind}:{place}" if kind else place)
