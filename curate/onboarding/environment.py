"""What a scan stands on beside data and model: versions, devices, the database, free disk.

Knows where to look; each function fills in facts as far as it comes and raises ``CurateError`` for what is broken.
"""

import os
import platform
import shutil
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import curate
from curate.errors import LoadError, StoreError
from curate.onboarding.checks import Facts
from curate.store.opening import look
from curate.store.schema import MIGRATIONS

LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "pyarrow", "pillow", "safetensors", "sqlite-utils")
EXTRAS = ("datasette", "textual", "textual-image", "datasets", "transformers", "timm")
"""What the optional extras of the distribution bring."""
LITTLE_ROOM = 2**30


def add_versions(facts: Facts) -> None:
    """Add the versions of curate, Python and the libraries."""
    facts += [
        ("curate", curate.__version__),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", platform.platform()),
    ]
    missing = []
    for name in LIBRARIES:
        found = _version(name)
        facts.append((name, found or "not installed"))
        missing += [] if found else [name]
    facts.append(("sqlite", sqlite3.sqlite_version))
    facts += [(name, _version(name) or "not installed (optional)") for name in EXTRAS]
    if missing:
        raise LoadError(f"Not installed: {', '.join(missing)}", f"`pip install {' '.join(missing)}`")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def add_devices(facts: Facts) -> None:
    """Processor, memory and accelerators. This imports torch: where it cannot be, that is the failure."""
    memory = _memory()
    facts.append(("cpu", f"{os.cpu_count()} cores" + (f", {gib(memory)} of memory" if memory else "")))
    try:
        import torch
    except Exception as error:  # a broken installation raises nearly anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LoadError(f"torch cannot be imported: {first}", "Install it anew: https://pytorch.org") from error
    facts.append(("threads", f"{torch.get_num_threads()} of torch"))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            told = f"{card.name}, {gib(card.total_memory)}, capability {card.major}.{card.minor}"
            facts.append((f"cuda:{number}", told))
        facts.append(("cuda", f"torch is built for {torch.version.cuda or torch.version.hip}"))
    else:
        facts.append(("cuda", "none" if torch.version.cuda else "none: this torch is built without it"))
    facts.append(("mps", "there" if torch.backends.mps.is_available() else "none"))


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has none of it
        return None


def add_database(facts: Facts, file: str) -> None:
    """The database as it stands; it is neither made nor changed."""
    path = Path(file)
    facts.append(("file", str(path)))
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a database", "Name another file with --db")
    folder = _deepest(path.parent)
    if not path.exists():
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise StoreError(f"{path} cannot be made: {folder} cannot be written to", "Name another file with --db")
        facts.append(("state", "not there yet: the first scan makes it"))
    elif path.stat().st_size == 0:
        facts.append(("state", "empty: the next scan fills it"))
    else:
        schema, current = look(path)
        told = "current" if current else f"older than this version's ({len(MIGRATIONS)}): the next scan moves it on"
        facts.append(("schema", f"{schema}, {told}"))
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        facts.append(("writable", "yes" if writable else "no: reports can be read, a scan needs another --db"))
        facts.append(("size", gib(path.stat().st_size)))
    free = shutil.disk_usage(folder).free
    facts.append(("free disk", gib(free) + (": little" if free < LITTLE_ROOM else "")))


def _deepest(folder: Path) -> Path:
    """The folder itself, or what is there of the way to it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def gib(size: int) -> str:
    """Bytes as people read them."""
    for unit, step in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"
