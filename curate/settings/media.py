"""Which pictures a page, a report or an export may show: those that lie in the data's own folder.

A table may name any file of this machine, and a link in a folder may lead to one; whoever opens the page would see it.
Other folders are allowed by ``--media-root``. Knows paths; leaves what a picture is to others. Standard library only.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.settings.merge import setting
from curate.settings.specs import split_kind


class MediaRoots:
    """Folders whose files may be shown, with links followed."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self._roots = [Path(folder).resolve() for folder in folders]
        self._known: dict[Path, bool] = {}

    @classmethod
    def of(cls, settings: Mapping[str, Any], location: str, more: Sequence[str] = ()) -> "MediaRoots":
        """Those of a run: its data's folders, what its scan allowed, and what is allowed here and now (``more``, the
        environment, a file of settings)."""
        specs = [location, *(spec for name in ("train", "eval") if isinstance(spec := settings.get(name), str))]
        data = [Path(split_kind(spec)[1]) for spec in specs]
        allowed = [str(folder) for folder in settings.get("media_root") or ()]
        return cls([*map(_folder, data), *allowed, *(setting("media_root") or ()), *more])

    def holds(self, path: str | Path) -> bool:
        """Whether the file lies in one of the folders. Each folder's links are followed once."""
        path = Path(path)
        try:
            if path.is_symlink() or path.name in ("", "..", "."):
                return self._inside(path.resolve())
            folder = Path(os.path.abspath(path.parent))
            if folder not in self._known:
                self._known[folder] = self._inside(path.parent.resolve())
        except (OSError, ValueError, RuntimeError):  # a loop of links, a name that no file can have
            return False
        return self._known[folder]

    def _inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)


def outside(path: str | Path) -> UsageError:
    """What is said of a picture that an export may not take."""
    return UsageError(
        f"{path} lies outside of the data's folder, or a link in it leads there: it is not exported",
        "Where that is meant, name its folder with --media-root.",
    )


def _folder(location: Path) -> Path:
    return location if location.is_dir() else location.parent
