"""A patch of files that are no text: renames, deletions and binary changes, as `git apply` takes them, and back.

Knows how git is asked for one; leaves which files change to others. A patch of git's holds the hash of what it was made
from, and both directions, so that it refuses a file that has changed and gives back every byte.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import UsageError

_SETTINGS = {"core.autocrlf": "false", "core.fileMode": "true", "core.compression": "1", "core.bigFileThreshold": "2g"}


@dataclass(frozen=True)
class Changed:
    """A file and its name in the patch, before and after; None: it is not there."""

    before: tuple[Path, Path] | None
    after: tuple[Path, Path] | None


def binary_patch(changes: Sequence[Changed]) -> bytes:
    """The patch; empty where nothing changes. Raises ``UsageError`` where git is missing or fails."""
    if not changes:
        return b""
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        place = Path(folder)
        _git(place, "init", "--quiet", "--bare", "git")
        trees = []
        for side in ("before", "after"):
            tree = place / side
            tree.mkdir()
            for change in changes:
                at: tuple[Path, Path] | None = getattr(change, side)
                if at is not None:
                    _put(at[0], tree / at[1])
            index = str(place / f"{side}.index")
            more = {"GIT_DIR": str(place / "git"), "GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": index}
            _git(tree, "add", "--all", "--force", ".", **more)
            trees.append(_git(tree, "write-tree", **more).decode().strip())
        return _git(
            place / "git",
            "diff-tree",
            "-r",
            "-p",
            "--binary",
            "--full-index",
            "-M100%",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            *trees,
        )


def patch_base(paths: Sequence[Path]) -> Path:
    """The folder that names in a patch of these files are relative to, and that `git apply` is to be run in.

    Inside of a repository it is its top, since `git apply` skips what lies outside of the folder it is run in, and
    says nothing; else the current folder, or the one that holds all of the files.
    """
    resolved = [path.resolve() for path in paths]
    tops = {_top(path) for path in resolved}
    top = tops.pop()
    if top is not None and not tops:
        return top
    here = Path.cwd()
    if all(path.is_relative_to(here) for path in resolved) and _top(here) is None:
        return here
    return Path(os.path.commonpath([path.parent for path in resolved]))


def _top(path: Path) -> Path | None:
    return next((folder for folder in (path, *path.parents) if (folder / ".git").exists()), None)


def _put(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to, follow_symlinks=False)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(file, to, follow_symlinks=False)


def _git(folder: Path, *arguments: str, **more: str) -> bytes:
    # What a person has set for their own repositories must not change what is written.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    apart = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
    options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    try:
        done = subprocess.run(
            ["git", *options, *arguments], cwd=folder, env={**plain, **apart, **more}, capture_output=True, check=True
        )
    except FileNotFoundError:
        raise UsageError(
            "git is needed to write a patch of files that are no text, and is not installed",
            "Install it, or export the whole set: curate export OUT.",
        ) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise UsageError(f"git could not make the patch: {said[-1] if said else 'no reason given'}") from error
    return done.stdout
