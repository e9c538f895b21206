"""Where weights lie: a file, a part of it (FILE#KEY), the folder that a trainer left, shards by their index.

Knows names only; leaves reading to `weights`.
"""

from dataclasses import dataclass
from pathlib import Path

from curate.errors import DataError, ModelError
from curate.files import strict_json
from curate.files.reading import read_text
from curate.settings.specs import is_address, near_path
from curate.sources.fetched import fetched

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
INDEX = ".index.json"
USUAL = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names that trainers give the weights in a folder, the first that is there being meant."""
BESIDE = ("optimizer", "scheduler", "scaler", "rng_state", "training_args")
"""Beginnings of what trainers leave beside them."""


@dataclass(frozen=True)
class WeightsAt:
    """The files that hold the weights together, and the key in them that is meant."""

    files: tuple[Path, ...]
    key: str | None = None


def weights_at(location: str) -> WeightsAt:
    """Raises `ModelError` if there is no file, or nothing says which one of a folder."""
    key = None
    if "#" in location and not Path(location).exists():
        location, _, key = location.rpartition("#")
    path = Path(location).expanduser()
    if is_address(location):
        path = _fetched(location)
    if not path.exists():
        raise ModelError(f"There is no weights file {location}.", near_path(path))
    if path.is_dir():
        path = _in_folder(path)
    return WeightsAt(_shards(path) if path.name.endswith(INDEX) else (path,), key)


def _fetched(address: str) -> Path:
    try:
        return fetched(address)
    except DataError as error:
        raise ModelError(error.message, error.hint) from error


def _in_folder(folder: Path) -> Path:
    for name in USUAL:
        if (folder / name).is_file():
            return folder / name
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(BESIDE)
    )
    if len(found) == 1:
        return found[0]
    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    if not found and steps:
        raise ModelError(
            f"{folder} is the output of a training, with its checkpoints inside: "
            f"{', '.join(path.name for path in steps[-6:])}.",
            f"Name one: --weights {steps[-1].as_posix()}, or all: --weights '{folder.as_posix()}/checkpoint-*'.",
        )
    if not found:
        raise ModelError(f"{folder} is a folder without a file of weights.", f"They end in {' '.join(SUFFIXES)}.")
    listed = ", ".join(path.name for path in found[:6])
    raise ModelError(
        f"{folder} is a folder; its files of weights are {listed}.", f"Name one: --weights {found[0].as_posix()}."
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names, each once. Raises `ModelError` if one is missing."""
    try:
        named = strict_json.loads(read_text(index))["weight_map"].values()
        names = sorted({str(name) for name in named})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is no index of shards: it has no weight_map.", "Copy or save it again.") from error
    files = tuple(index.parent / Path(name).name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ModelError(
            f"{index} names {', '.join(missing[:4]) or 'no file'}, which is not there.", "Copy all shards."
        )
    return files
