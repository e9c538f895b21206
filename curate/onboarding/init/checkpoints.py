"""Checkpoints in a folder, the best first, and the architecture that one is of.

Knows names and times of files; leaves reading to ``curate.models.weights``.
"""

import re
from pathlib import Path

from curate.errors import CurateError
from curate.onboarding.init.found import Discovery, FoundSetting, inside, listed, visible

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_PLACE = re.compile(r"weight|checkpoint|ckpt|model|run|output|log|artifact|version|result", re.IGNORECASE)
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|rng|training_args|tokenizer|vocab|dataset", re.IGNORECASE)
DEPTH = 3


def find_checkpoints(folder: Path) -> list[Path]:
    """By name (best before others), then the newest first."""

    def order(path: Path) -> tuple[bool, float, str]:
        return "best" not in path.stem.lower(), -path.stat().st_mtime, path.as_posix()

    return sorted(_walk(folder, DEPTH), key=order)


def _walk(folder: Path, depth: int) -> list[Path]:
    here = visible(folder)
    files = [
        path
        for path in here
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _NO_WEIGHTS.search(path.stem)
    ]
    deeper = [path for path in here if depth and path.is_dir() and not path.is_symlink() and _PLACE.search(path.name)]
    return files + [file for child in deeper for file in _walk(child, depth - 1)]


def choose_checkpoint(folder: Path, found: Discovery) -> Path | None:
    """The best or newest checkpoint, noted as a setting; the others as a remark."""
    files = find_checkpoints(folder)
    if not files:
        return None
    first, others = files[0], [inside(path, folder) for path in files[1:]]
    why = (
        "called best" if others and "best" in first.stem.lower() else "the newest" if others else "the only checkpoint"
    )
    found.settings["weights"] = FoundSetting(inside(first, folder), why, guess=bool(others))
    if others:
        found.remark("weights", f"also there: {listed(others)}")
    return first


def name_architecture(path: Path, found: Discovery, trust: bool) -> None:
    """``model`` from the checkpoint's tensors, where torchvision has such a network."""
    from curate.models.recognise import recognise
    from curate.models.weights import read_state_dict

    try:
        state, _, _ = read_state_dict(str(path), trust=trust)
    except CurateError as error:
        found.settings["weights"] = failed(found.settings["weights"], error)
        return
    seen = recognise(state)
    if seen is None:
        found.remark("model", f"{path.name} is of no network that torchvision has: name the code that makes it")
    elif seen.outputs is None:
        found.remark(
            "model",
            f"{path.name} is a {seen.name} with a head of its own ({listed(list(seen.head))}): "
            "name the code that makes it",
        )
    else:
        why = (
            f"the names and shapes in {path.name}, {seen.outputs} outputs. Pictures are prepared as torchvision does "
            "for this network: if you trained otherwise, name your own code"
        )
        found.settings["model"] = FoundSetting(seen.spec, why, guess=True)


def failed(setting: FoundSetting, error: CurateError) -> FoundSetting:
    """The same setting, switched off by this error."""
    return FoundSetting(setting.value, setting.why, setting.guess, " ".join(f"{error.message} {error.hint}".split()))
