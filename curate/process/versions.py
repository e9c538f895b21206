"""What a run's numbers depend on beside data and settings: the versions of the libraries, and the code's commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import curate


def versions() -> dict[str, str]:
    """Versions of curate, Python and the libraries that compute."""
    found = {"curate": curate.__version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit checked out where the command runs; None outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
